"""Uncertainty scores of rows of predictions: the matrix is read once, the scores are written once.

For a row x of n classes with maximum m, one maximum left out of each sum:
    tail = Σ e^(x_i − m), runner_up = e^(x2 − m), moment = Σ (x_i − m) e^(x_i − m)
    least_confidence = tail / (1 + tail) · n / (n − 1)
    margin           = (tail + runner_up) / (1 + tail)
    ratio            = runner_up
    entropy          = (log1p(tail) − moment / (1 + tail)) / log n
Reads N · C elements, writes 4 N bytes a score asked for; accumulates in float32. NaN in every
score of an invalid row.

Letters: N rows, C classes.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastal_kernels.launch import uncertainty_config
from fastal_kernels.online import gather_logits, gather_probs, log1p, push_logits, push_probs

_MEASURES = ("least_confidence", "margin", "ratio", "entropy")


@triton.jit(do_not_specialize=["N"])  # else a last, odd chunk would compile anew
def uncertainty_kernel(
    p_x, stride_n, stride_c,  # the matrix
    p_least_confidence, p_margin, p_ratio, p_entropy,  # outputs [N]; None where not asked for
    N, C, per_class, per_log, tolerance,  # n / (n − 1), 1 / log n, of the sum of probabilities
    IS_PROBS: tl.constexpr, BLOCK_N: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Scores BLOCK_N rows, LANES columns at a time."""
    o_n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    o_c = tl.arange(0, LANES)
    m_n = o_n < N
    p_row = p_x + (o_n * stride_n)[:, None]
    nothing = 0.0 if IS_PROBS else float("-inf")  # what a class that is not there holds
    a = tl.full([BLOCK_N, LANES], nothing, tl.float32)
    r = tl.full([BLOCK_N, LANES], nothing, tl.float32)
    s = tl.zeros([BLOCK_N, LANES], tl.float32)
    t = tl.zeros([BLOCK_N, LANES], tl.float32)
    for start in range(0, C, LANES):
        o = start + o_c
        m = m_n[:, None] & (o < C)[None, :]
        b_x = tl.load(p_row + (o.to(tl.int64) * stride_c)[None, :], mask=m, other=nothing)
        b_x = b_x.to(tl.float32)  # at once: nothing computes in 16 bits
        if IS_PROBS:
            a, r, s, t = push_probs(a, r, s, t, b_x)
        else:
            a, r, s, t = push_logits(a, r, s, t, b_x)

    if IS_PROBS:
        maximum, tail, runner_up, moment = gather_probs(a, r, s, t, LANES)
        is_valid = tl.abs(maximum * (1.0 + tail) - 1.0) <= tolerance
    else:
        maximum, tail, runner_up, moment = gather_logits(a, r, s, t, LANES)
        is_valid = (maximum > float("-inf")) & (maximum < float("inf"))
    total = 1.0 + tail
    nan = float("nan")
    if p_least_confidence is not None:
        score = tl.minimum(tail / total * per_class, 1.0)
        tl.store(p_least_confidence + o_n, tl.where(is_valid, score, nan), mask=m_n)
    if p_margin is not None:
        score = tl.minimum((tail + runner_up) / total, 1.0)
        tl.store(p_margin + o_n, tl.where(is_valid, score, nan), mask=m_n)
    if p_ratio is not None:
        tl.store(p_ratio + o_n, tl.where(is_valid, runner_up, nan), mask=m_n)
    if p_entropy is not None:
        score = tl.minimum((log1p(tail) - moment / total) * per_log, 1.0)
        tl.store(p_entropy + o_n, tl.where(is_valid, score, nan), mask=m_n)


def uncertainty(logits: Tensor, measures: Sequence[str], kind: str = "logits") -> list[Tensor]:
    """Uncertainty scores of each row, in the order of `measures`.

    Args:
        logits: [N, C] with C >= 2; float16, bfloat16 or float32; any strides; on a GPU.
        measures: names of the scores above.
        kind: what the matrix holds: "logits", "probs" or "log_probs".

    Returns:
        A list of [N] float32 tensors in [0, 1], larger = more uncertain, NaN for invalid rows.
    """
    if not set(measures) <= set(_MEASURES):
        raise KeyError(f"measures: wanted some of {_MEASURES}, got {measures}")
    n_rows, n_classes = logits.shape
    outputs = {
        measure: torch.empty(n_rows, dtype=torch.float32, device=logits.device)
        for measure in measures
    }
    config, info = uncertainty_config(n_classes), torch.finfo(logits.dtype)
    grid = (triton.cdiv(n_rows, config.block_n),)
    with torch.cuda.device_of(logits):  # Triton launches on the current device
        if n_rows:
            uncertainty_kernel[grid](
                logits, *logits.stride(), *(outputs.get(measure) for measure in _MEASURES),
                n_rows, n_classes, n_classes / (n_classes - 1), 1 / math.log(n_classes),
                max(1e-3, info.eps) + n_classes * info.smallest_normal * info.eps / 2,
                IS_PROBS=kind == "probs", BLOCK_N=config.block_n, LANES=config.lanes,
                num_warps=config.num_warps,
            )  # fmt: skip
    return [outputs[measure] for measure in measures]
