"""From a row's state to its statistics, in full precision. This work is done once a row."""

import triton
import triton.language as tl

from fastal_kernels.measures import LEAST_PROB
from fastal_kernels.online import ROUNDER
from fastal_kernels.registers import log2

LEAST: tl.constexpr = tl.constexpr(LEAST_PROB)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)
TWO_TO_MINUS_64: tl.constexpr = tl.constexpr(2.0**-64)


@triton.jit
def statistics(a, r, m, s, t, tolerance, at, IS_PROBS: tl.constexpr):
    """Tail, runner-up and moment (see `scores.py`) of rows with that state; NaN if invalid.

    The moment of logits lacks the factor `at.per_temperature`.
    """
    if IS_PROBS:
        is_valid = (tl.abs(a + s - 1.0) <= tolerance) & (m >= LEAST)
        r = tl.maximum(r, 0.0)
        # e^(x - a) is p / a. t is scaled by 2^64.
        # Which of two products a compiler fuses is its choice, and may differ from row to row.
        t = tl.fma(-tl.log(a), s, t * (LN_2 * TWO_TO_MINUS_64))
        s, r, t = s / a, r / a, t / a
    else:
        is_valid = tl.abs(a) < float("inf")
        r = tl.maximum(r, at.least_reference)
        d, e = exp_of_difference(r, a, at, True)
        off = tl.fma(r, at.log2_e, -m)
        e_off = e * tl.exp2(-off)
        t = tl.fma(d, s, tl.fma(-off, s, t) * at.ln_2) * e_off
        s = s * e_off * TWO_TO_MINUS_64
        r = e * TWO_TO_MINUS_64
    return tl.where(is_valid, s, float("nan")), tl.where(is_valid, r, float("nan")), t


@triton.jit
def exp_of_difference(x, y, at, CARRY: tl.constexpr):
    """D = x - y, but at least the floor, and 2^64 e^((x - y) / T), for x <= y, not both infinite.

    The exponential is scaled, because fast instructions of NVIDIA treat subnormal numbers as 0.
    With CARRY, it is within a few units in the last place at any d. Without CARRY, the rounding of
    d costs it up to 5.2e-6 at d = -87 T.
    """
    difference = x - y
    d = tl.maximum(difference, at.floor)
    # e^(d / T) = 2^k e^(f / T). k + 64 is added to the exponent's bits.
    rounded = tl.fma(d, at.log2_e, ROUNDER + 64.0)
    k = rounded - (ROUNDER + 64.0)
    f = tl.fma(k, at.minus_ln_2_low, tl.fma(k, at.minus_ln_2_high, d))
    if CARRY:
        z = difference - x
        lost = (x - (difference - z)) - (y + z)  # the rounding error of x - y (Knuth's two-sum)
        f += tl.where(difference > at.floor, lost, 0.0)
    bits = tl.exp2(f * at.log2_e).to(tl.int32, bitcast=True)
    return d, (bits + (rounded.to(tl.int32, bitcast=True) << 23)).to(tl.float32, bitcast=True)


@triton.jit
def log1p(x, AT_MOST_1: tl.constexpr, PTX: tl.constexpr):
    """The logarithm log(1 + x) for x >= 0, with a relative error of 3e-7."""
    # Up to 1: x times the minimax polynomial of degree 8 (Remez), with an error of 3e-8. Beyond 1,
    # log2(1 + x) is at least 1: the hardware's absolute error of 2^-22 is a relative one too.
    p = tl.fma(x, 0.00523269410982686, -0.02950523727631827)
    p = tl.fma(x, p, 0.0782259478173932)
    p = tl.fma(x, p, -0.13663245295851173)
    p = tl.fma(x, p, 0.19106006444399673)
    p = tl.fma(x, p, -0.2484298210970902)
    p = tl.fma(x, p, 0.33319096791560926)
    p = tl.fma(x, p, -0.4999949313968335)
    p = tl.fma(x, p, 0.9999999698796846)
    if AT_MOST_1:
        return x * p
    else:
        return tl.where(x > 1.0, log2(1.0 + x, PTX) * LN_2, x * p)
