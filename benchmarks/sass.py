"""Facts about a compiled kernel, read from its machine code without a GPU.

`code` counts the instructions of a kernel and of each of its loops. `resources` has the registers,
memory and warps of a kernel. Both take the result of `triton.compile`, for NVIDIA or for AMD.

An instruction counts if control can reach it from the kernel's entry: padding and dead code do not
count. A loop has all instructions that can run in a trip. If it branches, its count is an upper
bound.
"""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass

from triton import knobs

# The first pattern that matches names the kind. NVIDIA's opcodes are upper case, AMD's lower case.
_KINDS = [
    ("tensor", r"(H|I|D|B|Q|O)(G?MMA)\b|UTC\w*MMA|v_s?mfma"),
    ("load", r"(LDG|LDGSTS|LD)\b|(global|buffer|flat)_load"),
    ("store", r"(STG|ST)\b|(global|buffer|flat)_store"),
    ("local", r"(LDL|STL)\b|scratch_"),
    ("shuffle", r"SHFL|ds_(b?permute|swizzle)|v_permlane"),
    ("dpp", r"v_\w+_dpp\b"),  # moves across lanes within another instruction
    ("shared", r"(LDS|LDSM|STS|STSM|ATOMS)\b|ds_"),
    ("atomic", r"(ATOMG?|REDG?)\b|(global|buffer|flat)_atomic"),
    ("redux", r"C?REDUX"),
    ("vote", r"VOTEU?|MATCH"),
    ("barrier", r"BAR\b|s_barrier"),
    ("warpsync", r"WARPSYNC"),
    ("mufu", r"MUFU|v_(exp|log|rcp|rsq|sqrt|sin|cos)_"),
    ("convert", r"(F2I|I2F|F2F|FRND)\b|v_cvt_"),
    ("control", r"(U?BRA|BRX|JMP|CALL|RET|EXIT|BSSY|BSYNC|BREAK|YIELD|NOP|DEPBAR|LDGDEPBAR)\b"),
    ("control", r"s_(branch|cbranch\w*|endpgm|setpc\w*|swappc\w*|waitcnt|nop)\b"),
    ("control", r"MEMBAR|(CGA)?ERRBAR|CCTL|buffer_(inv|wbl2)"),
    ("half", r"H(ADD|MUL|FMA|MNMX|SET|SETP)2|F2FP|v_\w*_b?f16"),
    ("minmax", r"(F|I|VI)MNMX|v_(pk_)?(max|min|med)"),
    ("fp32", r"F(ADD|MUL|FMA)(2|32I)?\b|v_(pk_)?(add|sub|mul|fma|mac|mad|div|ldexp)\w*_f32"),
    ("fp32", r"v_(floor|ceil|trunc|rndne|fract)_f32"),
    ("predicate", r"[FI]SETP?\b|PLOP3|FCHK|R2P|P2R|v_cmp"),
    ("uniform", r"U(?!T|BLK)[A-Z]|LDCU|R2UR|S2UR|s_"),  # UTM, UTC, UBLK: copies and tensor memory
    ("integer", r"V?I(ADD|ABS|MAD|MUL|DP|SCADD)|LOP|SHF|SH[LR]\b|LEA|PRMT|F?SEL\b|SGXT|BMSK"),
    ("integer", r"VABSDIFF|POPC|FLO|BREV|MOV\b|CS2R|I2FP|v_"),
]
_KIND = [(kind, re.compile(pattern)) for kind, pattern in _KINDS]


def kind(opcode: str) -> str:
    """The kind of an instruction, or "other"."""
    return next((name for name, pattern in _KIND if pattern.match(opcode)), "other")


def width(opcode: str) -> int:
    """The bytes that a lane moves with this load or store."""
    if amd := re.search(r"byte|short|dword(?:x(\d))?", opcode):
        return {"byte": 1, "short": 2}.get(amd[0]) or 4 * int(amd[1] or 1)
    bits = re.findall(r"\.[SU]?(8|16|32|64|128|256)\b", opcode)
    return int(bits[-1]) // 8 if bits else 4


@dataclass(frozen=True)
class Instructions:
    """The instructions of a piece of code, by opcode."""

    opcodes: Counter[str]

    @property
    def total(self) -> int:
        return self.opcodes.total()

    @property
    def kinds(self) -> Counter[str]:
        """The number of instructions of each kind; 0 for a kind that is absent."""
        return self._sum(kind)

    @property
    def loads(self) -> Counter[int]:
        """The number of loads from global memory, by their width in bytes."""
        return self._sum(width, "load")

    @property
    def stores(self) -> Counter[int]:
        return self._sum(width, "store")

    def _sum(self, key, only=None):
        counts = Counter()
        for opcode, count in self.opcodes.items():
            if only in (None, kind(opcode)):
                counts[key(opcode)] += count
        return counts


@dataclass(frozen=True)
class Loop:
    """A loop: all instructions of a trip, and those of them in subroutines that it may call."""

    label: str
    instructions: Instructions
    called: Instructions
    innermost: bool


@dataclass(frozen=True)
class Code:
    """A kernel's instructions, and its loops in the order of their addresses."""

    instructions: Instructions
    loops: tuple[Loop, ...]


_LABEL = re.compile(r"([.$\w]+):")
_SASS = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?P<guard>@!?\w+)?\s*(?P<op>[A-Z][\w.]*)(?P<args>.*?);")
_AMDGCN = re.compile(r"\t(?P<guard>)(?P<op>[a-z]\w+)(?P<args>[^;]*)")
_TARGET = re.compile(r"`\((\S+?)\)|(\.LBB\w+)")
_JUMP = re.compile(r"(BRA|JMP|BRX|CALL|WARPSYNC)\b|s_c?branch")
_END = re.compile(r"(BRA|JMP|BRX|CALL|EXIT|RET|KILL)\b|s_(branch|endpgm|setpc)")


def code(compiled) -> Code:
    """The code of a compiled kernel."""
    return parse(listing(compiled), compiled.metadata.name)


def listing(compiled) -> str:
    """The machine code of a compiled kernel as text."""
    if "cubin" not in compiled.asm:
        return compiled.asm["amdgcn"]
    return _inspect(knobs.nvidia.nvdisasm.path, "--print-code", compiled.asm["cubin"])


def parse(text: str, entry: str | None = None) -> Code:
    """The code of a listing, from the label `entry` or from the first instruction."""
    opcodes, labels, following, callees = _read(text)
    successors = [after | called for after, called in zip(following, callees, strict=True)]
    start = labels.get(entry, 0)
    whole = _reach({start}, successors)
    bodies = _loops(start, whole, successors, following)
    names = {index: label for label, index in labels.items()}

    def instructions(indices):
        return Instructions(Counter(opcodes[i] for i in indices))

    loops = []
    for head, body in sorted(bodies.items()):
        called = _reach(set().union(*(callees[i] for i in body)), successors)
        innermost = not any(other != head and other in body | called for other in bodies)
        parts = instructions(body | called), instructions(called)
        loops.append(Loop(names.get(head, ""), *parts, innermost))
    return Code(instructions(whole), tuple(loops))


def _read(text):
    """Opcodes, labels, and for each instruction its successors and the subroutines it calls."""
    labels, found = {}, []
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(found)
        elif instruction := _SASS.match(line) or _AMDGCN.match(line):
            found.append(instruction)
    following, callees = [], []
    for i, instruction in enumerate(found, 1):
        opcode, args = instruction["op"], instruction["args"]
        target = _TARGET.search(args) if _JUMP.match(opcode) else None
        place = (target[1] or target[2]) if target else ""
        places = {labels[place]} if place in labels else set()
        # ptxas may also leave a loop by CALL, to a local label. Such a call does not return.
        calls = opcode.startswith("CALL") and not place.startswith(".L")
        # With a comma, the target follows a predicate: the jump is conditional.
        ends = _END.match(opcode) and not (calls or instruction["guard"] or "," in args)
        stays = set() if ends or i == len(found) else {i}
        following.append(stays if calls else stays | places)
        callees.append(places if calls else set())
    return [instruction["op"] for instruction in found], labels, following, callees


def _reach(starts, edges, barred=None):
    """All instructions that can be reached from `starts` without passing `barred`."""
    reached, waiting = set(), [i for i in starts if i != barred]
    while waiting:
        i = waiting.pop()
        if i not in reached:
            reached.add(i)
            waiting += [j for j in edges[i] if j != barred and j not in reached]
    return reached


def _loops(start, whole, successors, following):
    """The natural loops, as a dict from head to body.

    An edge belongs to a loop if its end dominates its beginning.
    """
    before = {i: set() for i in whole}
    for i in whole:
        for j in following[i]:
            before[j].add(i)
    bodies = {}
    for head in whole:
        if before[head] <= {head - 1}:
            continue  # nothing jumps there
        latches = before[head] - _reach({start}, successors, barred=head)
        if latches:
            bodies[head] = {head} | _reach(latches, before, barred=head)
    return bodies


@dataclass(frozen=True)
class NvidiaResources:
    """The resources of a multiprocessor that a program of a kernel takes; memory in bytes."""

    registers: int
    stack: int
    local: int
    shared: int
    warps: int
    resident_warps: int


@dataclass(frozen=True)
class AmdResources:
    """The resources of a compute unit that a program of a kernel takes; memory in bytes."""

    vgpr: int
    sgpr: int
    vgpr_spills: int
    sgpr_spills: int
    scratch: int
    lds: int
    warps: int


# Limits of a multiprocessor: warps, programs, bytes of shared memory. Each has 65,536 registers.
_LIMITS = {80: (64, 32, 164 << 10), 90: (64, 32, 228 << 10), 100: (64, 32, 228 << 10)}
_SYSTEM_SHARED = 1024  # bytes of each program that CUDA keeps, since sm_80


def spilled(held: dict) -> int:
    """The spilled memory of resources given as a dictionary; 0 if all values fit in registers."""
    return sum(held.get(name, 0) for name in ("stack", "local", "vgpr_spills", "scratch"))


def resources(compiled) -> NvidiaResources | AmdResources:
    """The resources of a compiled kernel."""
    metadata = compiled.metadata
    if "cubin" not in compiled.asm:
        found = dict(re.findall(r"^ +\.(\w+): +(\d+)$", compiled.asm["amdgcn"], re.MULTILINE))
        names = ("vgpr_count", "sgpr_count", "vgpr_spill_count", "sgpr_spill_count")
        counts = (int(found[name]) for name in (*names, "private_segment_fixed_size"))
        return AmdResources(*counts, metadata.shared, metadata.num_warps)
    tool = knobs.nvidia.cuobjdump.path
    usage = _inspect(tool, "--dump-resource-usage", compiled.asm["cubin"])
    found = {name: int(n) for name, n in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", usage)}
    arch = metadata.target.arch
    # From sm_90 on, the tool counts the system's shared memory as the kernel's.
    static = found["SHARED"] - (_SYSTEM_SHARED if arch >= 90 else 0)
    shared = metadata.shared + max(0, static)
    resident = resident_warps(arch, found["REG"], shared, metadata.num_warps)
    sizes = found["REG"], found["STACK"], found["LOCAL"], shared
    return NvidiaResources(*sizes, metadata.num_warps, resident)


def resident_warps(arch: int, registers: int, shared: int, warps: int) -> int:
    """The warps that a multiprocessor holds at a time: whole programs of `warps` warps."""
    most_warps, most_programs, memory = _LIMITS[arch]
    of_a_warp = _round_up(32 * max(1, registers), 256)
    by_registers = 4 * (65536 // 4 // of_a_warp)  # each of four partitions has its own registers
    by_shared = memory // _round_up(shared + _SYSTEM_SHARED, 128)
    return warps * min(most_programs, by_shared, min(most_warps, by_registers) // warps)


def _round_up(n, step):
    return -(-n // step) * step


def _inspect(tool, option, cubin):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        call = [tool, option, file.name]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout
