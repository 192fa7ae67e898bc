"""Device functions without pointers: they gather a row's state in one pass over its values.

Values meet two at a time. The larger value stays in play. The smaller one, the *loser*, joins the
sums. In the end, every value except one maximum is in the sums. No sum ever subtracts the maximum,
so that the tail of a confident row loses no digits.

A state is five float32 values of a lane, of a part of a row, or of a row:
    a    the largest value; NaN or +inf if the row is invalid
    r    the largest loser
    m    logits: the reference of the sums, a whole number near r · log2 e
         probabilities: the smallest loser
    s    logits: Σ 2^(x log2 e − m) over the losers x; probabilities: Σ p
    t    logits: Σ (x log2 e − m) 2^(x log2 e − m); probabilities: 2^64 Σ p log2 p
Of logits at a temperature T, log2 e is log2 e / T here: see `temperature.py`.
References are whole numbers: a state changes its reference by an exact power of two. References are
near the largest loser: s is at least about 1, and its terms have small exponents. Float32 holds
such terms well, however far above them the row's maximum is.

Letters: R rows, G lanes a row, V values a lane, W = G * V; see `registers.py`.
"""

import triton
import triton.language as tl

from fastal_kernels.registers import (
    add,
    halves,
    lane_max,
    lane_min,
    lane_sum,
    log2,
    multiply_add,
    sticky_max,
    vector_max,
    vector_min,
    widen,
)

# At any temperature, a loser at LEAST contributes exactly 0 in usual rows. Losers are
# clamped there, because −inf times 0 would be NaN in the sums.
LEAST: tl.constexpr = tl.constexpr(-(2.0**60))
LEAST_HALF: tl.constexpr = tl.constexpr(-65504.0)  # of float16
# The reference of no losers: the least one, at any temperature.
NO_REFERENCE: tl.constexpr = tl.constexpr(-(2.0**20) * 1.4426950408889634)
# Adding and then subtracting it rounds a float32 below 2^22 to a whole number.
ROUNDER: tl.constexpr = tl.constexpr(1.5 * 2.0**23)


@triton.jit
def least(DTYPE: tl.constexpr, IS_PROBS: tl.constexpr):
    """The value that losers are clamped to."""
    if IS_PROBS:
        return 0.0
    elif DTYPE == tl.float16:
        return LEAST_HALF
    else:
        return LEAST


@triton.jit
def meet(a, x, IS_PROBS: tl.constexpr):
    """Winners and losers of the values x against the winners `a` so far."""
    loser = vector_min(a, x)
    if not IS_PROBS:
        loser = vector_max(loser, tl.full(x.shape, least(x.dtype, False), x.dtype))
    return sticky_max(a, x), loser


@triton.jit
def meet_in_turn(a, xs, IS_PROBS: tl.constexpr):
    """The winners of `a` and of all vectors xs, and a tuple of the losers."""
    losers = ()
    for i in tl.static_range(len(xs)):
        a, loser = meet(a, xs[i], IS_PROBS)
        losers += (loser,)
    return a, losers


@triton.jit
def largest_of(losers):
    """The elementwise maximum of a tuple of vectors."""
    r = losers[0]
    for i in tl.static_range(1, len(losers)):
        r = vector_max(r, losers[i])
    return r


@triton.jit
def smallest_of(losers):
    """The elementwise minimum of a tuple of vectors."""
    q = losers[0]
    for i in tl.static_range(1, len(losers)):
        q = vector_min(q, losers[i])
    return q


@triton.jit
def reference(r, at):
    """The reference of the sums over losers whose largest is r."""
    return tl.fma(tl.maximum(r, at.least_reference), at.log2_e, ROUNDER) - ROUNDER


@triton.jit
def rebase(m, s, t, m_new, WITH_T: tl.constexpr):
    """The sums s, t relative to m, as sums relative to a reference m_new >= m."""
    shift = tl.maximum(m - m_new, -127.0)
    scale = ((shift + 127.0).to(tl.int32) << 23).to(tl.float32, bitcast=True)  # 2^shift; 0 at -127
    if WITH_T:
        t = tl.fma(shift, s, t) * scale
    return s * scale, t


@triton.jit
def sums_of(
    losers, m, at, V: tl.constexpr, WITH_T: tl.constexpr, IS_PROBS: tl.constexpr,
    PTX: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """The sums s and t [R, G] of a tuple of losers [R, W], relative to the lanes' m [R, G]."""
    R: tl.constexpr = losers[0].shape[0]
    W: tl.constexpr = losers[0].shape[1]
    minus_m = tl.reshape(tl.broadcast_to(-m[:, :, None], [R, W // V, V]), [R, W])
    log2_e = tl.full([R, W], at.log2_e, tl.float32)
    s = tl.zeros([R, W], tl.float32)
    t = tl.zeros([R, W], tl.float32)
    for i in tl.static_range(len(losers)):
        e = widen(losers[i], PTX)
        if IS_PROBS:
            e = tl.maximum(e, 0.0)
            if WITH_T:
                t = multiply_add(e, log2_of_prob(e, PTX), t, PAIRS)
        else:
            d = multiply_add(e, log2_e, minus_m, PAIRS)
            e = tl.exp2(d)
            if WITH_T:
                t = multiply_add(d, e, t, PAIRS)
        s = e if i == 0 else add(s, e, PAIRS)
    if WITH_T:
        t = lane_sum(t, V, PAIRS)
    else:
        t = tl.zeros_like(m)
    return lane_sum(s, V, PAIRS), t


@triton.jit
def log2_of_prob(p, PTX: tl.constexpr):
    """2^64 log2 p; any finite number for p = 0.

    The relative error is 2^-22, because a loser is at most about 1/2. The scale keeps p log2 p from
    being subnormal if p is: the sum of many such terms may be a normal number.
    """
    smallest = tl.full(p.shape, 2.0**-149, tl.float32)  # a plain number would be a double
    return log2(tl.maximum(p, smallest), PTX) * 2.0**64


@triton.jit
def no_losers(a, V: tl.constexpr, IS_PROBS: tl.constexpr):
    """The state (r, m, s, t) of lanes before their first loser; `a` holds their winners [R, W]."""
    R: tl.constexpr = a.shape[0]
    G: tl.constexpr = a.shape[1] // V
    nothing = tl.zeros([R, G], tl.float32)
    r = tl.full(a.shape, least(a.dtype, IS_PROBS), a.dtype)
    m = nothing if IS_PROBS else nothing + NO_REFERENCE
    return r, m, nothing, nothing


@triton.jit
def push(
    a, r, m, s, t, xs, at, V: tl.constexpr, WITH_T: tl.constexpr, IS_PROBS: tl.constexpr,
    PTX: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Adds a batch of vectors xs [R, W] to the state; a and r are [R, W], the others [R, G]."""
    a, losers = meet_in_turn(a, xs, IS_PROBS)
    r = vector_max(r, largest_of(losers))
    if IS_PROBS:
        m = tl.minimum(m, lane_min(smallest_of(losers), V))
    else:
        m_new = reference(lane_max(r, V), at)
        s, t = rebase(m, s, t, m_new, WITH_T)
        m = m_new
    ds, dt = sums_of(losers, m, at, V, WITH_T, IS_PROBS, PTX, PAIRS)
    return a, r, m, s + ds, t + dt


@triton.jit
def fold(a, V: tl.constexpr, IS_PROBS: tl.constexpr):
    """Each lane's winner [R, G], and its other values as losers: tuples of V / 2, V / 4 ... 1."""
    low, high = halves(a, V)
    if V == 2:
        a, loser = meet(low.to(tl.float32), high.to(tl.float32), IS_PROBS)
        return a, ((loser,),)
    else:
        a, loser = meet(low, high, IS_PROBS)
        a, losers = fold(a, V // 2, IS_PROBS)
        return a, ((loser,),) + losers


@triton.jit
def row_of_lanes(
    a, r, m, s, t, pending, at, LOOPED: tl.constexpr, V: tl.constexpr, WITH_T: tl.constexpr,
    IS_PROBS: tl.constexpr, PTX: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """The state [R] of each row, from the states of its lanes.

    Args:
        a: winners [R, W].
        r, m, s, t: the state of the loop so far; unread unless LOOPED.
        pending: a tuple of losers [R, W] that are in no sum yet.
        at: `AtTemperature`.
    """
    G: tl.constexpr = a.shape[1] // V
    # Losers by the values that a lane holds of them: V, V / 2, ... 1.
    if V > 1:
        a, losers = fold(a, V, IS_PROBS)
        losers = (pending,) + losers
    else:
        losers = (pending,)
    a = tl.where(a == a, a, float("inf"))  # tl.max would drop NaN; +inf is invalid too
    maximum = tl.max(a, axis=1)
    # The lowest lane that holds the maximum owns it. The winner of every other lane is a loser.
    o_lane = tl.broadcast_to(tl.arange(0, G)[None, :], a.shape)
    owner = tl.min(tl.where(a == maximum[:, None], o_lane, G), axis=1)
    nothing: tl.constexpr = least(tl.float32, IS_PROBS)
    loser = a if IS_PROBS else tl.maximum(a, nothing)
    loser = tl.where(o_lane == owner[:, None], nothing, loser)

    second = loser
    smallest = loser
    if LOOPED:
        second = tl.maximum(second, lane_max(r, V))
        smallest = tl.minimum(smallest, m)
    for i in tl.static_range(len(losers)):
        if len(losers[i]) > 0:
            second = tl.maximum(second, lane_max(largest_of(losers[i]), V >> i))
            if IS_PROBS:
                smallest = tl.minimum(smallest, lane_min(smallest_of(losers[i]), V >> i))
    second = tl.max(second, axis=1)
    row_m = tl.min(smallest, axis=1) if IS_PROBS else reference(second, at)
    base = tl.broadcast_to(row_m[:, None], a.shape)

    sum_s, sum_t = sums_of((loser,), base, at, 1, WITH_T, IS_PROBS, PTX, False)
    if LOOPED:
        if not IS_PROBS:
            s, t = rebase(m, s, t, base, WITH_T)
        sum_s += s
        sum_t += t
    for i in tl.static_range(len(losers)):
        if len(losers[i]) > 0:
            ds, dt = sums_of(
                losers[i], base, at, V >> i, WITH_T, IS_PROBS, PTX, PAIRS and V >> i > 1
            )  # fmt: skip
            sum_s += ds
            sum_t += dt
    return maximum, second, row_m, tl.sum(sum_s, axis=1), tl.sum(sum_t, axis=1)
