"""Facts about a compiled kernel, read from its machine code without a GPU.

`code` counts the instructions of a kernel and of each of its loops, `resources` tells what it
occupies. Both take what `triton.compile` returns, for NVIDIA or for AMD.

What counts is what control can reach from the kernel's entry: no padding, no dead code. A loop is
all that can run in a trip, so its count is an upper bound where it branches.
"""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass

from triton import knobs

# The first that matches names the kind. NVIDIA's opcodes are upper case, AMD's lower.
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
    """The kind of an instruction; "other" if it is unknown."""
    return next((name for name, pattern in _KIND if pattern.match(opcode)), "other")


def width(opcode: str) -> int:
    """Bytes that a lane moves in one load or store."""
    if amd := re.search(r"byte|short|dword(?:x(\d))?", opcode):
        return {"byte": 1, "short": 2}.get(amd[0]) or 4 * int(amd[1] or 1)
    bits = re.findall(r"\.[SU]?(8|16|32|64|128|256)\b", opcode)
    return int(bits[-1]) // 8 if bits else 4


@dataclass(frozen=True)
class Instructions:
    """Instructions of a piece of code, by opcode; the rest derives from that."""

    opcodes: Counter[str]

    @property
    def total(self) -> int:
        return self.opcodes.total()

    @property
    def kinds(self) -> Counter[str]:
        """How many there are of each kind; 0 of a kind that is absent."""
        return self._sum(kind)

    @property
    def loads(self) -> Counter[int]:
        """Loads from global memory by their width in bytes."""
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
    """A loop: all that a trip can run, and the part of it that is in subroutines it may call."""

    label: str
    instructions: Instructions
    called: Instructions
    innermost: bool


@dataclass(frozen=True)
class Code:
    """A kernel's instructions, and its loops as they lie in it."""

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
    """The code that a listing holds, from the label `entry` or from its first instruction."""
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
    """Opcodes, labels, and for each instruction what may follow it and what it may call."""
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
        # ptxas also leaves a loop by CALL: to a label of its own, and nothing returns from there.
        calls = opcode.startswith("CALL") and not place.startswith(".L")
        # A comma: the target comes after a predicate.
        ends = _END.match(opcode) and not (calls or instruction["guard"] or "," in args)
        stays = set() if ends or i == len(found) else {i}
        following.append(stays if calls else stays | places)
        callees.append(places if calls else set())
    return [instruction["op"] for instruction in found], labels, following, callees


def _reach(starts, edges, barred=None):
    """Everything on a way from `starts` that does not pass `barred`."""
    reached, waiting = set(), [i for i in starts if i != barred]
    while waiting:
        i = waiting.pop()
        if i not in reached:
            reached.add(i)
            waiting += [j for j in edges[i] if j != barred and j not in reached]
    return reached


def _loops(start, whole, successors, following):
    """The natural loops: head to body. An edge is a loop's if its end dominates its beginning."""
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
    """What a program of a kernel takes of a multiprocessor; memory in bytes."""

    registers: int
    stack: int
    local: int
    shared: int
    warps: int
    resident_warps: int


@dataclass(frozen=True)
class AmdResources:
    """What a program of a kernel takes of a compute unit; memory in bytes."""

    vgpr: int
    sgpr: int
    vgpr_spills: int
    sgpr_spills: int
    scratch: int
    lds: int
    warps: int


# Of a multiprocessor: warps, programs, bytes of shared memory. 65,536 registers on each.
_LIMITS = {80: (64, 32, 164 << 10), 90: (64, 32, 228 << 10), 100: (64, 32, 228 << 10)}
_SYSTEM_SHARED = 1024  # bytes a program, kept by CUDA since sm_80


def spilled(held: dict) -> int:
    """What does not fit into registers, of resources as a dictionary; 0 if all does."""
    return sum(held.get(name, 0) for name in ("stack", "local", "vgpr_spills", "scratch"))


def resources(compiled) -> NvidiaResources | AmdResources:
    """What a compiled kernel occupies."""
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
    # From sm_90 on the tool reports what the system keeps as the kernel's own.
    static = found["SHARED"] - (_SYSTEM_SHARED if arch >= 90 else 0)
    shared = metadata.shared + max(0, static)
    resident = resident_warps(arch, found["REG"], shared, metadata.num_warps)
    sizes = found["REG"], found["STACK"], found["LOCAL"], shared
    return NvidiaResources(*sizes, metadata.num_warps, resident)


def resident_warps(arch: int, registers: int, shared: int, warps: int) -> int:
    """Warps that a multiprocessor holds at a time: programs of `warps` warps, whole ones only."""
    most_warps, most_programs, memory = _LIMITS[arch]
    of_a_warp = _round_up(32 * max(1, registers), 256)
    by_registers = 4 * (65536 // 4 // of_a_warp)  # each of four partitions has its own
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
