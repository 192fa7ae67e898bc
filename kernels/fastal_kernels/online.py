"""Pointer-free device functions: running sums over a row, its two largest values left visible.

A lane that has seen some values keeps, in float32,
    a, r   the largest and the second largest; `a` sticks at NaN once it saw one
    s, t   two sums over all of them but one largest
Leaving the largest out keeps the tail of a confident row: nothing is ever subtracted from s.
For logits x (`push_logits`, `gather_logits`): s = Σ e^(x − a), t = Σ (x − a) e^(x − a).
For probabilities p (`push_probs`, `gather_probs`): s = Σ p, t = Σ p log p.
"""

import triton
import triton.language as tl

# Below this, e^d is exactly 0 in float32. Clamping there instead of letting d reach −inf keeps
# 0 · d at 0, and takes the NaN of −inf − (−inf), where a class is ruled out, to 0 as well.
FLOOR: tl.constexpr = tl.constexpr(-128.0)
LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
# log 2 in two parts; the first has so few bits that its products with the k below are exact.
LN_2_HIGH: tl.constexpr = tl.constexpr(355 / 512)
LN_2_LOW: tl.constexpr = tl.constexpr(0.6931471805599453 - 355 / 512)
TWO_TO_MINUS_64: tl.constexpr = tl.constexpr(2.0**-64)


@triton.jit
def exp_of_difference(x, y):
    """D = x − y, clamped, and e^(x − y), for x ≤ y.

    The exponential is right to a few units in the last place at any d. Rounding d would cost it up
    to 4e-6 at d = −87, and rounding d · log2 e another 3e-6.
    """
    d = x - y
    z = d - x
    lost = (x - (d - z)) - (y + z)  # of x − y in rounding it to d (Knuth's two-sum)
    is_above = d > FLOOR
    d = tl.where(is_above, d, FLOOR)
    k = tl.floor(d * LOG2_E + 0.5)
    f = (d - k * LN_2_HIGH) - k * LN_2_LOW + tl.where(is_above, lost, 0.0)
    # exp2 flushes subnormal numbers to 0 on NVIDIA; a multiplication does not.
    return d, tl.exp(f) * tl.exp2(k + 64.0) * TWO_TO_MINUS_64


@triton.jit
def push_logits(a, r, s, t, x):
    """Takes one more logit per lane into the state. Starts from a = r = −inf, s = t = 0."""
    largest = tl.maximum(a, x, propagate_nan=tl.PropagateNan.ALL)
    other = tl.minimum(a, x)
    # Either x joins the sums at distance d below `a`, or x is the new largest, d above `a`:
    # then the sums shrink by e^d and the old `a` joins them. Both use the same e^d, which is 0
    # where either is −inf.
    d, e = exp_of_difference(other, largest)
    rises = x > a
    scale = tl.where(rises, e, 1.0)
    shift = tl.where(rises, d, 0.0)
    return largest, tl.maximum(r, other), s * scale + e, (t + shift * s) * scale + d * e


@triton.jit
def push_probs(a, r, s, t, p):
    """Takes one more probability per lane into the state. Starts from a = r = s = t = 0."""
    p = tl.where(p < 0.0, float("nan"), p)
    largest = tl.maximum(a, p, propagate_nan=tl.PropagateNan.ALL)
    other = tl.minimum(a, p)
    return largest, tl.maximum(r, other), s + other, t + p_log_p(other)


@triton.jit
def p_log_p(p):
    """The product p log p; its limit, 0, at 0."""
    return p * tl.log(tl.where(p > 0.0, p, 1.0))


@triton.jit
def maximum_of_lanes(a, r, LANES: tl.constexpr):
    """Maximum and second largest value of each row of lanes, and which lane owns the maximum.

    The largest value of every other lane belongs to the tail. The maximum is NaN if any lane's is.
    """
    o_lane = tl.arange(0, LANES)[None, :]
    maximum = tl.max(a, axis=1)
    owner = tl.min(tl.where(a == maximum[:, None], o_lane, LANES), axis=1)
    owned = o_lane == owner[:, None]
    second = tl.max(tl.where(owned, r, a), axis=1)
    is_nan = tl.sum((a != a).to(tl.int32), axis=1) > 0
    return tl.where(is_nan, float("nan"), maximum), second, owned


@triton.jit
def gather_logits(a, r, s, t, LANES: tl.constexpr):
    """The lanes [rows, LANES] as rows: maximum m, and tail, runner-up and moment relative to m."""
    maximum, second, owned = maximum_of_lanes(a, r, LANES)
    d, e = exp_of_difference(a, maximum[:, None])
    tail = tl.sum(s * e + tl.where(owned, 0.0, e), axis=1)
    moment = tl.sum((t + d * s) * e + tl.where(owned, 0.0, d * e), axis=1)
    _, runner_up = exp_of_difference(second, maximum)
    return maximum, tail, runner_up, moment


@triton.jit
def gather_probs(a, r, s, t, LANES: tl.constexpr):
    """The same of lanes of probabilities, whose e^(x − m) is p / m."""
    maximum, second, owned = maximum_of_lanes(a, r, LANES)
    others = tl.sum(s + tl.where(owned, 0.0, a), axis=1)
    p_log_ps = tl.sum(t + tl.where(owned, 0.0, p_log_p(a)), axis=1)
    moment = (p_log_ps - tl.log(maximum) * others) / maximum
    return maximum, others / maximum, second / maximum, moment


@triton.jit
def log1p(x):
    """log(1 + x) for x >= 0, exact to a few units in the last place at any size (Kahan)."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))
