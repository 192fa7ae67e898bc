"""The section of `kernel_report` on the kernel of mean ranks."""

from collections import Counter
from dataclasses import asdict, dataclass

from benchmarks import sass
from benchmarks.ahead_of_time import DTYPES, TARGETS, compile_for
from fastal_kernels.launch import Matrix
from fastal_kernels.ranks import constants_of, ranks_kernel

_GATHERS = 3  # loads of a value after its steps: the last comparison, and the two neighbours
_TYPES = {"p_table": "*fp32", "p_means": "*fp32", "N": "i64", "V": "i32"}


@dataclass(frozen=True)
class Case:
    """Contiguous rows at an aligned address, and the number of values in each column's table."""

    n_columns: int
    n_values: int
    dtype: str

    def __str__(self) -> str:
        return f"D={self.n_columns} {self.dtype} · mean ranks among {self.n_values:,}"


CASES = [Case(n, 1000, dtype) for n in (10, 384, 1000) for dtype in ("bf16", "fp32")]
CASES += [Case(n, 10_000, "fp32") for n in (10, 384, 1000)]


def report(case: Case, target: str) -> dict:
    """All figures of the kernel for a case, as plain values."""
    gpu, isa = TARGETS[target]
    itemsize = DTYPES[case.dtype].itemsize
    matrix = Matrix(case.n_columns, itemsize, case.n_columns, stride_c=1, alignment=16)
    constants = constants_of(matrix, case.n_values, isa.warp_size)
    binary = _compiled(case, constants, gpu)
    code = sass.code(binary)
    (step,) = (loop.instructions for loop in code.loops if loop.innermost)
    of_columns = max((loop.instructions for loop in code.loops), key=lambda found: found.total)
    threads = constants["num_warps"] * isa.warp_size
    values = constants["ROWS"] * constants["COLUMNS"] // threads
    steps, columns = constants["STEPS"], constants["COLUMNS"]
    of_step = step.total / step.loads.total()
    beside = (of_columns.total - step.total) / values
    padding = -(-case.n_columns // columns) * columns / case.n_columns
    of_x = of_columns.loads - step.loads - Counter({4: _GATHERS * values})
    return {
        "target": target,
        "case": asdict(case),
        "name": str(case),
        "kernel": ranks_kernel.__name__,
        "step_instructions": of_step,
        "instructions_per_value": padding * (beside + steps * of_step),
        "gathers_per_value": padding * (steps + _GATHERS),
        "loads_of_x": dict(sorted(of_x.items())),
        "loop_kinds": dict(sorted(of_columns.kinds.items())),
        "kernel_kinds": dict(sorted(code.instructions.kinds.items())),
        "resources": asdict(sass.resources(binary)),
        "bytes_per_row": case.n_columns * itemsize + 4,
    }


def _compiled(case, constants, gpu):
    fixed = {name: value for name, value in constants.items() if name != "num_warps"}
    fixed |= {"p_sums": None, "p_maxima": None}
    types = _TYPES | {"p_x": f"*{case.dtype}"}
    return compile_for(gpu, ranks_kernel, fixed, types, {"num_warps": constants["num_warps"]})


TITLE = "mean ranks"
HEADER = (
    f"{'kernel':<50}{'instr/step':>11}{'instr/value':>12}{'gathers/value':>14}{'loads of x':>12}"
    f"{'SHFL':>5}{'BAR':>4}{'regs':>5}{'spill':>6}{'warps':>6}{'bytes/row':>10}"
)


def line(one: dict) -> str:
    """The line of the table for a case on a target."""
    loop, resources = one["loop_kinds"], one["resources"]
    registers = resources.get("registers", resources.get("vgpr"))
    spills = sass.spilled(resources)
    loads = "+".join(f"{n}x{width}B" for width, n in one["loads_of_x"].items())
    return (
        f"{one['name']:<50}{one['step_instructions']:>11.1f}{one['instructions_per_value']:>12.1f}"
        f"{one['gathers_per_value']:>14.1f}{loads:>12}{loop.get('shuffle', 0):>5}"
        f"{loop.get('barrier', 0):>4}{registers:>5}{spills:>6}"
        f"{resources.get('resident_warps', '-'):>6}{one['bytes_per_row']:>10}"
    )
