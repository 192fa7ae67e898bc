"""From a row's statistics to its scores.

A row x has n classes, maximum a and second largest value x2. Each sum leaves out one maximum:
    tail = sum e^(x_i - a), runner_up = e^(x2 - a), moment = sum (x_i - a) e^(x_i - a)
    least_confidence = tail / (1 + tail) n / (n - 1)
    margin           = (tail + runner_up) / (1 + tail)
    ratio            = runner_up
    entropy          = (log1p(tail) - moment / (1 + tail)) / log n
All are in [0, 1]. Tail, runner_up and all scores of an invalid row are NaN.
"""

import triton
import triton.language as tl

from fastal_kernels.registers import reciprocal
from fastal_kernels.rows import log1p

# The numbers of the measures. A set of measures has the bit of each number.
LEAST_CONFIDENCE: tl.constexpr = tl.constexpr(0)
MARGIN: tl.constexpr = tl.constexpr(1)
RATIO: tl.constexpr = tl.constexpr(2)
ENTROPY: tl.constexpr = tl.constexpr(3)


@triton.jit
def score_of(
    MEASURE: tl.constexpr, tail, runner_up, moment, per_class, per_log, C: tl.constexpr,
    PTX: tl.constexpr,
):  # fmt: skip
    """One of the four scores, of rows with these statistics."""
    per_total = reciprocal(1.0 + tail, PTX)
    if MEASURE == LEAST_CONFIDENCE:
        score = tail * per_total * per_class
    elif MEASURE == MARGIN:
        score = (tail + runner_up) * per_total
    elif MEASURE == RATIO:
        score = runner_up
    else:
        # log1p may end in a product too. Which of the two is fused must not differ between rows.
        score = tl.fma(-moment, per_total, log1p(tail, C == 2, PTX)) * per_log
    return tl.minimum(score, 1.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def store_scores(
    tail, runner_up, moment, first, o_n, m_n, p_scores, stride_m, per_class, per_log,
    MEASURES: tl.constexpr, C: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Stores the scores asked for, [M, N] in order, of the rows first + o_n for which m_n holds."""
    for i in tl.static_range(4):
        if MEASURES & (1 << i):
            score = score_of(i, tail, runner_up, moment, per_class, per_log, C, PTX)
            tl.store(p_scores + first + o_n, score, mask=m_n)
            p_scores += stride_m
