"""Compiles the kernels as a launch would, for GPUs that this machine need not have.

TRITON_INTERPRET must not be set: in one process, Triton either compiles or interprets.
"""

from dataclasses import dataclass

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastal_kernels.launch import Isa, Matrix
from fastal_kernels.measures import UNCERTAINTY_SCORES
from fastal_kernels.temperature import AtTemperature
from fastal_kernels.uncertainty import variants

TARGETS = {
    "sm_80": (GPUTarget("cuda", 80, 32), Isa(ptx=True, shared=163 << 10)),
    "sm_90": (GPUTarget("cuda", 90, 32), Isa(ptx=True, shared=227 << 10)),
    "sm_100": (GPUTarget("cuda", 100, 32), Isa(ptx=True, pairs=True, shared=227 << 10)),
    "gfx942": (GPUTarget("hip", "gfx942", 64), Isa(warp_size=64)),
}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_POINTERS = {"p_scores": "*fp32", "p_states": "*fp32", "p_keys": "*i64", "p_selection": "*i64"}


@dataclass(frozen=True)
class Case:
    """A matrix with contiguous rows at an aligned address, and the scores asked for."""

    n_classes: int
    dtype: str
    kind: str = "logits"
    measures: tuple[str, ...] = UNCERTAINTY_SCORES
    by: str | None = None
    stride_c: int = 1

    @property
    def itemsize(self) -> int:
        return DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        asked = "all four" if self.measures == UNCERTAINTY_SCORES else ", ".join(self.measures)
        parts = [f"C={self.n_classes}", self.dtype, self.kind, asked]
        parts += [f"selects by {self.by}"] if self.by else []
        parts += ["columns apart"] if self.stride_c != 1 else []
        return " ".join(parts[:2]) + " · " + ", ".join(part for part in parts[2:] if part)


def compiled(case: Case, target: str):
    """The first kernel for a case, its compile-time arguments, and the compiled kernel.

    If rows are split, the first kernel is the one that reads them.
    """
    gpu, isa = TARGETS[target]
    matrix = Matrix(case.n_classes, case.itemsize, case.n_classes, case.stride_c, alignment=16)
    (kernel, constants), *more = variants(matrix, case.kind, case.measures, case.by, isa)
    binary = _compile(kernel, constants, case.dtype, bool(more), gpu)
    for other, arguments in more:
        _compile(other, arguments, case.dtype, True, gpu)
    return kernel, constants, binary


def _compile(kernel, constants, dtype, is_split, gpu):
    # A launch compiles arguments in that are None.
    fixed = {name: value for name, value in constants.items() if name != "num_warps"}
    fixed |= {} if is_split else {"p_states": None}
    fixed |= {} if constants["MEASURES"] else {"p_scores": None}
    fixed |= {} if constants["BY"] >= 0 else {"p_keys": None, "p_selection": None}
    types = _POINTERS | {"p_x": f"*{dtype}", "first_state": "i32", "n_states": "i32"}
    types |= dict.fromkeys(("per_class", "per_log", "tolerance"), "fp32")
    types["at"] = AtTemperature(*["fp32"] * len(AtTemperature._fields))
    return compile_for(gpu, kernel, fixed, types, {"num_warps": constants["num_warps"]})


def compile_for(gpu, kernel, fixed, types, options):
    """The compiled kernel. `fixed` arguments are constants, pointers are aligned.

    `types` has the types of the other arguments. Arguments without a type are int64.
    """
    signature = {
        name: "constexpr" if name in fixed else types.get(name, "i64") for name in kernel.arg_names
    }
    order = list(signature)
    constexprs = {(order.index(name),): fixed[name] for name in order if name in fixed}
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, name in enumerate(order) if signature[name][0] == "*"
    }
    source = ASTSource(kernel, signature, constexprs, aligned)
    return triton.compile(source, target=gpu, options=options)
