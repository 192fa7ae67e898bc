"""The section of `kernel_report` on the kernel of scores of draws."""

import re
from collections import Counter
from dataclasses import asdict, dataclass

from benchmarks import sass
from benchmarks.ahead_of_time import DTYPES, TARGETS, compile_for
from fastal_kernels.draws import constants_of, draws_kernel
from fastal_kernels.measures import DRAWS_SCORES

_TYPES = {
    "p_scores": "*fp32", "p_states": "*fp64", "S": "i32", "per_temperature": "fp64",
    "tolerance": "fp64",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Items of contiguous draws at an aligned address, and the scores asked for."""

    n_classes: int
    dtype: str
    kind: str = "logits"
    measures: tuple[str, ...] = DRAWS_SCORES

    def __str__(self) -> str:
        asked = "all" if self.measures == DRAWS_SCORES else ", ".join(self.measures)
        return f"C={self.n_classes} {self.dtype} · draws of {self.kind}, {asked}"


CASES = [Case(n, dtype) for n in (2, 10, 100, 1000, 131_072) for dtype in ("bf16", "fp32")]
CASES += [Case(n, "fp32", measures=("bald",)) for n in (10, 1000)]
CASES += [Case(n, "fp32", measures=("entropy",)) for n in (10, 1000)]
CASES += [Case(n, "fp32", kind="probs") for n in (10, 131_072)]


def report(case: Case, target: str) -> dict:
    """All figures of the kernel for a case, as plain values."""
    gpu, isa = TARGETS[target]
    constants = constants_of(case.n_classes, case.kind, case.measures, isa)
    binary = _compiled(case, constants, gpu)
    code = sass.code(binary)
    # One loop reads the values of a tile. If there are several tiles, three loops read each value.
    loops = [loop.instructions for loop in code.loops if loop.innermost and loop.instructions.loads]
    held, width = constants["V"], DTYPES[case.dtype].itemsize
    tile = held * constants["G"]
    padding = -(-case.n_classes // tile) * tile / case.n_classes
    per_value: Counter[str] = Counter()
    for loop in loops:
        n_tiles = max(1, loop.loads[width] // held)  # the assembler may unroll the loop
        for name, n in (loop.kinds + Counter(total=loop.total, float64=_doubles(loop))).items():
            per_value[name] += n / n_tiles / held * padding
    return {
        "target": target,
        "case": asdict(case),
        "name": str(case),
        "kernel": draws_kernel.__name__,
        "loops": len(loops),
        "per_value": dict(sorted(per_value.items())),
        "loop_loads": dict(sorted(sum((loop.loads for loop in loops), Counter()).items())),
        "kernel_kinds": dict(sorted(code.instructions.kinds.items())),
        "resources": asdict(sass.resources(binary)),
        "bytes_per_value": width,
    }


def _doubles(instructions: sass.Instructions) -> int:
    """The number of instructions of float64 arithmetic."""
    return sum(
        count
        for opcode, count in instructions.opcodes.items()
        if re.match(r"D(ADD|MUL|FMA|SETP|MNMX)|v_\w+_f64", opcode)
    )


def _compiled(case, constants, gpu):
    options = {name: constants[name] for name in ("num_warps", "maxnreg") if name in constants}
    fixed = {name: value for name, value in constants.items() if name not in options}
    if case.n_classes <= constants["V"] * constants["G"]:
        fixed["p_states"] = None
    types = _TYPES | {"p_x": f"*{case.dtype}"}
    return compile_for(gpu, draws_kernel, fixed, types, options)


TITLE = "scores of draws"
HEADER = (
    f"{'kernel':<45}{'instr/value':>12}{'float64':>8}{'SHFL':>6}{'BAR':>5}{'loops':>6}{'regs':>5}"
    f"{'spill':>6}{'warps':>6}{'bytes/value':>12}"
)


def line(one: dict) -> str:
    """The line of the table for a case on a target."""
    per_value, resources = one["per_value"], one["resources"]
    registers = resources.get("registers", resources.get("vgpr"))
    return (
        f"{one['name']:<45}{per_value['total']:>12.1f}{per_value['float64']:>8.1f}"
        f"{per_value.get('shuffle', 0):>6.1f}{per_value.get('barrier', 0):>5.1f}{one['loops']:>6}"
        f"{registers:>5}{sass.spilled(resources):>6}{resources.get('resident_warps', '-'):>6}"
        f"{one['bytes_per_value']:>12}"
    )
