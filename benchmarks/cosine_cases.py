"""The section of `kernel_report` on the kernels of cosine similarities."""

import re
from dataclasses import asdict, dataclass

from benchmarks import sass
from benchmarks.ahead_of_time import DTYPES, TARGETS, compile_for
from fastal_kernels import cosine


@dataclass(frozen=True)
class Case:
    """Contiguous rows at an aligned address, and centroids."""

    n_columns: int
    n_centroids: int
    dtype: str
    fast: bool = False

    @property
    def kernel(self):
        return cosine.similarities_kernel if self.n_centroids == 2 else cosine.nearest_kernel

    def __str__(self) -> str:
        name = f"D={self.n_columns} K={self.n_centroids} {self.dtype}"
        return f"{name}{' fast' if self.fast else ''} · {self.kernel.__name__}"


# By code path: rows within one tile of columns and of several, with a tail and without;
# similarities to few centroids; one tile of centroids and several. 1001: rows begin anywhere.
CASES = [
    *(Case(768, n_centroids, "bf16") for n_centroids in (2, 10, 100, 1000)),
    *(Case(n_columns, 1000, "bf16") for n_columns in (64, 1000, 1001)),
    Case(384, 10, "fp16"),
    *(Case(384, n_centroids, "fp32") for n_centroids in (2, 100)),
    *(Case(384, n_centroids, "fp32", fast=True) for n_centroids in (10, 1000)),
    Case(768, 1000, "bf16", fast=True),
]
_TYPES = {"p_cluster": "*i64", "p_similarity": "*fp32", "N": "i64", "K": "i32", "width": "i32"}


def report(case: Case, target: str) -> dict:
    """All figures of one kernel, as plain values."""
    constants, binary = compiled(case, target)
    instructions, resources = sass.code(binary).instructions, sass.resources(binary)
    tensor = {op: n for op, n in instructions.opcodes.items() if sass.kind(op) == "tensor"}
    outputs = 4 * case.n_centroids if case.n_centroids == 2 else 12
    return {
        "target": target,
        "case": asdict(case),
        "name": str(case),
        "kernel": case.kernel.__name__,
        "tile": [constants[name] for name in ("BN", "BK", "BD", "STAGES")],
        "kernel_kinds": dict(sorted(instructions.kinds.items())),
        "tensor": dict(sorted(tensor.items())),
        "pending_buffers": pending_buffers(binary.asm["ttgir"]),
        "multiply_adds": sum(n for op, n in instructions.opcodes.items() if op.startswith("FFMA")),
        "kernel_loads": dict(sorted(instructions.loads.items())),
        "resources": asdict(resources),
        "shared_limit": TARGETS[target][1].shared,
        "bytes_per_row": case.n_columns * DTYPES[case.dtype].itemsize + outputs,
    }


def compiled(case: Case, target: str):
    """The compile-time arguments of the kernel for a case, and the compiled kernel."""
    gpu, isa = TARGETS[target]
    n, k, dtype = case.n_columns, case.n_centroids, DTYPES[case.dtype]
    config, constants = cosine.variant(n, n, 1, k, dtype, case.fast, isa)
    options = {name: constants[name] for name in ("num_warps", "maxnreg") if name in constants}
    fixed = {name: value for name, value in constants.items() if name not in options}
    fixed |= {} if config.SPLIT else {"p_low": None}
    types = _TYPES | dict.fromkeys(("p_x", "p_high", "p_low"), f"*{case.dtype}")
    return constants, compile_for(gpu, case.kernel, fixed, types, options)


def pending_buffers(ttgir: str) -> list[int]:
    """The buffers of each operand of products that may be pending at the end of an iteration.

    A buffer is overwritten when its turn comes, whether or not a pending product still reads it.
    With as many buffers as stages, the next turn comes after the product has ended.
    """
    views = re.findall(r"(%\w+) = ttg.memdesc_index [^:]*: !ttg.memdesc<(\d+)x", ttgir)
    buffers = {view: int(n) for view, n in views}
    ended = set(re.findall(r"warp_group_dot_wait (%\w+), .*pendings = 0", ttgir))
    products = re.findall(r"(%\w+) = ttng.warp_group_dot (%\w+), (%\w+),", ttgir)
    return [
        buffers[operand]
        for result, *operands in products if result not in ended
        for operand in operands if operand in buffers
    ]  # fmt: skip


TITLE = "cosine similarities"
HEADER = (
    f"{'kernel':<46}{'BN, BK, BD, stages':>20}{'regs':>5}{'spill':>6}{'smem':>7}{'warps':>6}"
    f"{'bytes/row':>10}{'loads':>16}  matrix instructions"
)


def line(one: dict) -> str:
    """The line of the table for a case on a target."""
    held = one["resources"]
    spills = sass.spilled(held)
    loads = "+".join(f"{n}x{width}B" for width, n in one["kernel_loads"].items())
    matrix = ", ".join(f"{n} {op}" for op, n in one["tensor"].items())
    return (
        f"{one['name']:<46}{', '.join(map(str, one['tile'])):>20}"
        f"{held.get('registers', held.get('vgpr')):>5}{spills:>6}"
        f"{held.get('shared', held.get('lds')):>7}{held.get('resident_warps', '-'):>6}"
        f"{one['bytes_per_row']:>10}{loads:>16}  {matrix or str(one['multiply_adds']) + ' FFMA'}"
    )
