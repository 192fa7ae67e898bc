"""From a row's statistics to its scores.

Of a row x of n classes with maximum a, one maximum left out of each sum:
    tail = sum e^(x_i - a), runner_up = e^(x2 - a), moment = sum (x_i - a) e^(x_i - a)
    least_confidence = tail / (1 + tail) n / (n - 1)
    margin           = (tail + runner_up) / (1 + tail)
    ratio            = runner_up
    entropy          = (log1p(tail) - moment / (1 + tail)) / log n
All are in [0, 1], or NaN where the row is invalid: there tail and runner_up are NaN.
"""

import triton
import triton.language as tl

from fastal_kernels.registers import reciprocal
from fastal_kernels.rows import log1p

# Measures by number; of several, bit by bit.
LEAST_CONFIDENCE: tl.constexpr = tl.constexpr(0)
MARGIN: tl.constexpr = tl.constexpr(1)
RATIO: tl.constexpr = tl.constexpr(2)
ENTROPY: tl.constexpr = tl.constexpr(3)


@triton.jit
def score_of(
    MEASURE: tl.constexpr, tail, runner_up, moment, per_class, per_log, C: tl.constexpr,
    PTX: tl.constexpr,
):  # fmt: skip
    """One of the four."""
    per_total = reciprocal(1.0 + tail, PTX)
    if MEASURE == LEAST_CONFIDENCE:
        score = tail * per_total * per_class
    elif MEASURE == MARGIN:
        score = (tail + runner_up) * per_total
    elif MEASURE == RATIO:
        score = runner_up
    else:
        score = (log1p(tail, C == 2, PTX) - moment * per_total) * per_log
    return tl.minimum(score, 1.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def store_scores(
    tail, runner_up, moment, first, o_n, m_n, p_scores, stride_m, per_class, per_log,
    MEASURES: tl.constexpr, C: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Stores the measures asked for, in order, [M, N], of rows first + o_n of the N where m_n."""
    for i in tl.static_range(4):
        if MEASURES & (1 << i):
            score = score_of(i, tail, runner_up, moment, per_class, per_log, C, PTX)
            tl.store(p_scores + first + o_n, score, mask=m_n)
            p_scores += stride_m
