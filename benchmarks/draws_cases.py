"""The section of `kernel_report` on the kernel of scores of draws."""

from dataclasses import asdict, dataclass

from benchmarks import sass
from benchmarks.ahead_of_time import TARGETS, compile_for
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
    # The loop over the draws of a tile is the last one that loads.
    *_, of_draws = (
        loop.instructions for loop in code.loops if loop.innermost and loop.instructions.loads
    )
    return {
        "target": target,
        "case": asdict(case),
        "name": str(case),
        "kernel": draws_kernel.__name__,
        "loop_instructions_per_value": of_draws.total / constants["V"],
        "loop_kinds": dict(sorted(of_draws.kinds.items())),
        "loop_loads": dict(sorted(of_draws.loads.items())),
        "kernel_kinds": dict(sorted(code.instructions.kinds.items())),
        "resources": asdict(sass.resources(binary)),
    }


def _compiled(case, constants, gpu):
    options = {name: constants[name] for name in ("num_warps", "maxnreg") if name in constants}
    fixed = {name: value for name, value in constants.items() if name not in options}
    if case.n_classes <= constants["V"] * constants["G"]:
        fixed["p_states"] = None
    types = _TYPES | {"p_x": f"*{case.dtype}"}
    return compile_for(gpu, draws_kernel, fixed, types, options)


TITLE = "scores of draws"
HEADER = (
    f"{'kernel':<58}{'instr/value':>12}{'loads':>9}{'SHFL':>5}{'BAR':>4}{'regs':>5}{'spill':>6}"
    f"{'warps':>6}"
)


def line(one: dict) -> str:
    """The line of the table for a case on a target."""
    loop, resources = one["loop_kinds"], one["resources"]
    registers = resources.get("registers", resources.get("vgpr"))
    spills = sass.spilled(resources)
    loads = "+".join(f"{n}x{width}B" for width, n in one["loop_loads"].items())
    return (
        f"{one['name']:<58}{one['loop_instructions_per_value']:>12.1f}{loads:>9}"
        f"{loop.get('shuffle', 0):>5}{loop.get('barrier', 0):>4}{registers:>5}{spills:>6}"
        f"{resources.get('resident_warps', '-'):>6}"
    )
