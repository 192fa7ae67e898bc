"""Rows of few classes: a thread holds whole rows in registers. Threads exchange nothing.

Letters: N rows, C classes; P runs of consecutive rows, PER rows each; V values a load.
"""

import triton
import triton.language as tl

from fastal_kernels.online import log2_of_prob
from fastal_kernels.registers import halves, sticky_max, widen
from fastal_kernels.rows import TWO_TO_MINUS_64, exp_of_difference, statistics
from fastal_kernels.scores import score_of, store_scores
from fastal_kernels.topk import append

LOWEST: tl.constexpr = tl.constexpr(-3.4028234663852886e38)  # the lowest float32


@triton.jit
def columns(x, V: tl.constexpr):
    """The V columns [P] of x [P, V], as a tuple."""
    if V == 1:
        return (tl.reshape(x, [x.shape[0]]),)
    else:
        low, high = halves(x, V)
        return columns(low, V // 2) + columns(high, V // 2)


@triton.jit
def matrix(xs):
    """The matrix [P, n] of a tuple of n columns [P]; n is a power of two."""
    P: tl.constexpr = xs[0].shape[0]
    if len(xs) == 1:
        return tl.reshape(xs[0], [P, 1])
    else:
        even, odd = (), ()
        for i in tl.static_range(0, len(xs), 2):
            even += (xs[i],)
            odd += (xs[i + 1],)
        return tl.reshape(tl.join(matrix(even), matrix(odd)), [P, len(xs)])


@triton.jit
def row_statistics(
    xs, FIRST: tl.constexpr, C: tl.constexpr, tolerance, at, WITH_T: tl.constexpr,
    IS_PROBS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Tail, runner-up and moment [P] (see `scores.py`) of the rows xs[FIRST : FIRST + C]."""
    a = xs[FIRST]
    losers = ()
    for c in tl.static_range(1, C):
        losers += (tl.minimum(a, xs[FIRST + c]),)
        a = sticky_max(a, xs[FIRST + c])
    second = losers[0]
    for c in tl.static_range(1, C - 1):
        second = tl.maximum(second, losers[c])
    if IS_PROBS:
        smallest, s, t = second, tl.zeros_like(a), tl.zeros_like(a)
        for c in tl.static_range(C - 1):
            smallest = tl.minimum(smallest, losers[c])
            p = tl.maximum(losers[c], 0.0)
            s += p
            if WITH_T:
                t = tl.fma(p, log2_of_prob(p, PTX), t)
        return statistics(a, second, smallest, s, t, tolerance, at, True)
    else:
        is_valid = tl.abs(a) < float("inf")
        gap, e = exp_of_difference(second, a, at, False)
        runner_up = tl.where(is_valid, e * TWO_TO_MINUS_64, float("nan"))
        if C == 2:  # a common case: the only loser is the runner-up
            return runner_up, runner_up, gap * e * at.per_temperature
        else:
            s, t = tl.zeros_like(a), tl.zeros_like(a)
            finite = tl.maximum(second, LOWEST)  # -inf - (-inf) would be NaN
            for c in tl.static_range(C - 1):
                d = tl.maximum(losers[c] - finite, at.floor)
                term = tl.exp2(d * at.log2_e)
                s += term
                if WITH_T:
                    t = tl.fma(d, term, t)
            tail = tl.where(is_valid, s * e * TWO_TO_MINUS_64, float("nan"))
            return tail, runner_up, tl.fma(gap, s, t) * e * at.per_temperature


@triton.jit(do_not_specialize=("offset", "stride_m", "first_row", "N"))
def narrow_kernel(
    # [N, C], which begins `offset` elements after p_x. The offset makes p_x aligned if possible.
    p_x, offset: tl.int64,
    # Outputs: see `store_scores` and `append`.
    p_scores, stride_m: tl.int64, p_keys, p_selection, first_row: tl.int64,
    N: tl.int64, per_class, per_log, tolerance,
    at,  # `AtTemperature`
    C: tl.constexpr, PITCH: tl.constexpr, STRIDE_C: tl.constexpr, P: tl.constexpr,
    PER: tl.constexpr, V: tl.constexpr, MEASURES: tl.constexpr, BY: tl.constexpr,
    WITH_T: tl.constexpr, IS_PROBS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Scores P * PER rows. If PER > 1, the rows have no gaps and V divides PER * C."""
    first = tl.program_id(0).to(tl.int64) * (P * PER)
    left = tl.minimum(N - first, P * PER).to(tl.int32)
    # Relative to `first`, 32 bits are enough, and take half the instructions.
    o_p = tl.arange(0, P)
    o_x = (o_p if P * PER * PITCH < 2**31 else o_p.to(tl.int64)) * (PER * PITCH)
    start = first * PITCH + offset
    p_x += start // V * V  # equals `start`: tells the compiler the alignment
    xs = ()
    for v in tl.static_range(0, PER * C, V):
        o_c = v + tl.arange(0, V)
        if STRIDE_C != 1:
            o_c = o_c.to(tl.int64) * STRIDE_C
        m_n = o_p * PER + v // C < left  # no `other`: rows beyond the matrix are never used
        x = tl.load(p_x + o_x[:, None] + o_c[None, :], mask=m_n[:, None])
        xs += columns(widen(x, PTX and V > 1), V)
    selected = ()
    for i in tl.static_range(PER):
        o_n = o_p * PER + i
        tail, runner_up, moment = row_statistics(
            xs, i * C, C, tolerance, at, WITH_T, IS_PROBS, PTX
        )  # fmt: skip
        store_scores(
            tail, runner_up, moment, first, o_n, o_n < left, p_scores, stride_m, per_class,
            per_log, MEASURES, C, PTX,
        )  # fmt: skip
        if BY >= 0:
            selected += (score_of(BY, tail, runner_up, moment, per_class, per_log, C, PTX),)
    if BY >= 0:
        o_n = o_p[:, None] * PER + tl.arange(0, PER)[None, :]
        append(matrix(selected), first_row + first + o_n, o_n < left, p_keys, p_selection)
