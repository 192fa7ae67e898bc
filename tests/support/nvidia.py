"""Triton's interpreter with NVIDIA's arithmetic, where that differs, as the PTX ISA has it.

Inline PTX, which the interpreter lacks; approximations, off by as much as is allowed and all in one
direction; flushed subnormal numbers; NaN that max and min drop.
"""

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

TINY = np.finfo(np.float32).tiny


def imitate(monkeypatch, direction):
    """Has the interpreter compute like that; direction: 1 or -1, of all errors."""

    def off(exact, relative=True):
        error = direction * 2.0**-22
        return (exact * (1 + error) if relative else exact + error).astype(np.float32)

    def exp2(x):
        return flushed(off(np.exp2(flushed(x).astype(np.float64))))

    def log2(x):
        exact, is_near_1 = np.log2(x.astype(np.float64)), (x > 0.5) & (x < 2)
        return np.where(is_near_1, off(exact, relative=False), off(exact))

    float32 = {
        "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;": lambda x: x,
        "rcp.approx.ftz.f32 $0, $1;": lambda x: flushed(off(1 / flushed(x).astype(np.float64))),
        "lg2.approx.f32 $0, $1;": log2,
        "add.rn.f32x2 x, x, y;": np.add,
        "fma.rn.f32x2 x, x, y, z;": lambda x, y, z: x.astype(np.float64) * y + z,
    }
    packed = {"max.NaN": np.maximum, "max": np.fmax, "min": np.fmin}

    def inline_asm(builder, asm, constraints, values, types, is_pure, pack):
        dtype = values[0].dtype.scalar
        operands = [widened(v.data) if dtype == tl.bfloat16 else v.data for v in values]
        for text, function in float32.items():
            if text in asm:
                return Results(function(*operands).astype(np.float32), tl.float32)
        operation, _, packed_type = asm.split()[0].rpartition(".")
        assert packed_type == {tl.bfloat16: "bf16x2", tl.float16: "f16x2"}[dtype]
        result = packed[operation](*operands)
        return Results(narrowed(result) if dtype == tl.bfloat16 else result, dtype)

    for name, function in {
        "create_inline_asm": inline_asm,
        "create_exp2": lambda builder, x: TensorHandle(exp2(x.data), tl.float32),
        "create_maxnumf": lambda builder, x, y: builder.binary_op(x, y, np.fmax),
        "create_minnumf": lambda builder, x, y: builder.binary_op(x, y, np.fmin),
        "get_bf16": lambda builder, x: TensorHandle(narrowed(np.float32([x])), tl.bfloat16),
    }.items():
        monkeypatch.setattr(InterpreterBuilder, name, quietly(function), raising=False)


class Results:
    """What an inline assembly gives; all of its outputs are one tensor."""

    def __init__(self, data, dtype):
        self.result = TensorHandle(data, dtype)

    def get_result(self, index):
        assert index == 0
        return self.result


def flushed(x):
    return np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x)


def widened(x):
    """The interpreter's bfloat16, which are their bits, as float32."""
    return (x.astype(np.uint32) << 16).view(np.float32)


def narrowed(x):
    """Values that are bfloat16 already, as their bits."""
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def quietly(function):
    def quiet(*arguments):
        with np.errstate(all="ignore"):
            return function(*arguments)

    return quiet
