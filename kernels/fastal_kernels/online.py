"""Pointer-free device functions: the online softmax with its two largest values.

State of a lane that has seen some values x, all float32:
    a, r   the largest and the second largest, −inf at first; `a` sticks at NaN once it saw one
    s      Σ e^(x − a) over all but one largest
    t      Σ (x − a) e^(x − a) over the same
Leaving the largest out keeps the tail of a confident row: nothing is ever subtracted from s.
"""

import triton
import triton.language as tl

# Below this, e^d is exactly 0 in float32. Clamping there instead of letting d reach −inf keeps
# 0 · d at 0, and takes the NaN of −inf − (−inf), where a class is ruled out, to 0 as well.
FLOOR: tl.constexpr = tl.constexpr(-128.0)


@triton.jit
def clamped(d):
    """max(d, FLOOR), and FLOOR for NaN, on every target and in the interpreter."""
    return tl.where(d > FLOOR, d, FLOOR)


@triton.jit
def push(a, r, s, t, x):
    """Takes one more value per lane into the state; one exponential."""
    largest = tl.maximum(a, x, propagate_nan=tl.PropagateNan.ALL)
    other = tl.minimum(a, x)
    r = tl.maximum(r, other)
    # Either x joins the sums at distance d below `a`, or x is the new largest, d above `a`:
    # then the sums shrink by e^d and the old `a` joins them. Both use the same e^d, which is 0
    # where either is −inf.
    d = clamped(other - largest)
    e = tl.exp(d)
    rises = x > a
    scale = tl.where(rises, e, 1.0)
    shift = tl.where(rises, d, 0.0)
    t = (t + shift * s) * scale + d * e
    s = s * scale + e
    return largest, r, s, t


@triton.jit
def gather_lanes(a, r, s, t, LANES: tl.constexpr):
    """The states of a row's lanes [rows, LANES] as one: maximum, runner-up, s, t, all [rows].

    The maximum is NaN if any lane's is.
    """
    o_lane = tl.arange(0, LANES)[None, :]
    maximum = tl.max(a, axis=1)
    # One lane owns the maximum; the largest value of every other lane belongs to the tail.
    owner = tl.min(tl.where(a == maximum[:, None], o_lane, LANES), axis=1)
    owned = o_lane == owner[:, None]
    runner_up = tl.max(tl.where(owned, r, a), axis=1)
    d = clamped(a - maximum[:, None])
    e = tl.exp(d)
    s_row = tl.sum(s * e + tl.where(owned, 0.0, e), axis=1)
    t_row = tl.sum((t + d * s) * e + tl.where(owned, 0.0, d * e), axis=1)
    is_nan = tl.sum((a != a).to(tl.int32), axis=1) > 0
    return tl.where(is_nan, float("nan"), maximum), runner_up, s_row, t_row


@triton.jit
def log1p(x):
    """log(1 + x) for x >= 0, exact to a few units in the last place at any size (Kahan)."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))
