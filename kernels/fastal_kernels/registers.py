"""Elementwise operations on vectors of registers, with two 16-bit values an instruction if it pays.

If the hardware takes PTX (PTX is True), 16-bit values keep their type and stay packed in pairs. On
AMD and in the interpreter, all values are float32. If PAIRS is True, one instruction adds or
multiplies two float32 values (sm_100).

A vector is a tensor [R, G * V]: R rows, G lanes a row, V neighbours a lane. To split a vector into
halves moves no data.
"""

import triton
import triton.language as tl


@triton.jit
def packed(OPERATION: tl.constexpr, x, y):
    """The result of a PTX operation on two vectors of 16-bit values."""
    TYPE: tl.constexpr = "bf16x2" if x.dtype == tl.bfloat16 else "f16x2"
    asm: tl.constexpr = OPERATION + "." + TYPE + " $0, $1, $2;"
    return tl.inline_asm_elementwise(asm, "=r,r,r", [x, y], x.dtype, is_pure=True, pack=2)


@triton.jit
def sticky_max(x, y):
    """The larger of two values; NaN if one of them is NaN."""
    if x.dtype == tl.float32:
        return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)
    else:
        return packed("max.NaN", x, y)


@triton.jit
def vector_max(x, y):
    """The larger of two values; undefined if one of them is NaN."""
    if x.dtype == tl.float32:
        return tl.maximum(x, y)
    else:
        return packed("max", x, y)


@triton.jit
def vector_min(x, y):
    """The smaller of two values; undefined if one of them is NaN."""
    if x.dtype == tl.float32:
        return tl.minimum(x, y)
    else:
        return packed("min", x, y)


@triton.jit
def widen(x, PTX: tl.constexpr):
    """The values as float32."""
    if PTX and x.dtype == tl.bfloat16:  # one instruction a value; the compiler's own code takes two
        asm: tl.constexpr = "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;"
        return tl.inline_asm_elementwise(asm, "=r,=r,r", [x], tl.float32, is_pure=True, pack=2)
    else:
        return x.to(tl.float32)


@triton.jit
def multiply_add(x, y, z, PAIRS: tl.constexpr):
    """The sum x · y + z, rounded once."""
    if PAIRS:
        asm: tl.constexpr = """{
            .reg .b64 x, y, z;
            mov.b64 x, {$2, $3}; mov.b64 y, {$4, $5}; mov.b64 z, {$6, $7};
            fma.rn.f32x2 x, x, y, z;
            mov.b64 {$0, $1}, x;
        }"""
        return tl.inline_asm_elementwise(
            asm, "=f,=f,f,f,f,f,f,f", [x, y, z], tl.float32, is_pure=True, pack=2
        )
    else:
        return tl.fma(x, y, z)


@triton.jit
def add(x, y, PAIRS: tl.constexpr):
    """The sum x + y."""
    if PAIRS:
        asm: tl.constexpr = """{
            .reg .b64 x, y;
            mov.b64 x, {$2, $3}; mov.b64 y, {$4, $5};
            add.rn.f32x2 x, x, y;
            mov.b64 {$0, $1}, x;
        }"""
        return tl.inline_asm_elementwise(
            asm, "=f,=f,f,f,f,f", [x, y], tl.float32, is_pure=True, pack=2
        )
    else:
        return x + y


@triton.jit
def reciprocal(x, PTX: tl.constexpr):
    """The reciprocal 1 / x of a normal number, within one unit in the last place."""
    if PTX:  # a seventh of the instructions of a division, which allows any x
        asm: tl.constexpr = "rcp.approx.ftz.f32 $0, $1;"
        return tl.inline_asm_elementwise(asm, "=f,f", [x], tl.float32, is_pure=True, pack=1)
    else:
        return 1.0 / x


@triton.jit
def log2(x, PTX: tl.constexpr):
    """The logarithm log2 x for x > 0. Absolute error 2^-22 from 1/2 to 2, else relative 2^-22."""
    if PTX:  # a third of the instructions of a logarithm with a small relative error near 1
        asm: tl.constexpr = "lg2.approx.f32 $0, $1;"
        return tl.inline_asm_elementwise(asm, "=f,f", [x], tl.float32, is_pure=True, pack=1)
    else:
        return tl.log2(x)


@triton.jit
def halves(x, V: tl.constexpr):
    """The two halves [R, G * V / 2] of each lane's V values."""
    R: tl.constexpr = x.shape[0]
    G: tl.constexpr = x.shape[1] // V
    y = tl.permute(tl.reshape(x, [R, G, 2, V // 2]), (0, 1, 3, 2))
    low, high = tl.split(y)
    return tl.reshape(low, [R, G * (V // 2)]), tl.reshape(high, [R, G * (V // 2)])


@triton.jit
def lane_sum(x, V: tl.constexpr, PAIRS: tl.constexpr):
    """The sum [R, G] of each lane's V values."""
    if V == 1:
        return x
    else:
        low, high = halves(x, V)
        return lane_sum(add(low, high, PAIRS and V > 2), V // 2, PAIRS)


@triton.jit
def lane_max(x, V: tl.constexpr):
    """The largest [R, G] of each lane's V values, as float32."""
    if V == 1:
        return x.to(tl.float32)
    elif V == 2:
        low, high = halves(x, V)
        return tl.maximum(low.to(tl.float32), high.to(tl.float32))
    else:
        low, high = halves(x, V)
        return lane_max(vector_max(low, high), V // 2)


@triton.jit
def lane_min(x, V: tl.constexpr):
    """The smallest [R, G] of each lane's V values, as float32."""
    if V == 1:
        return x.to(tl.float32)
    elif V == 2:
        low, high = halves(x, V)
        return tl.minimum(low.to(tl.float32), high.to(tl.float32))
    else:
        low, high = halves(x, V)
        return lane_min(vector_min(low, high), V // 2)
