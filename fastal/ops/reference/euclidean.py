"""Euclidean distances of rows to centres, from differences: no digits are lost far from 0."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fastal.ops.reference.cosine import (
    LEAST_LENGTH,
    MOST_LENGTH,
    block,
    dtype_for,
    most_rows,
    widened,
)
from fastal_kernels.row_threads import in_row_threads

_FROM_DIFFERENCES = "donot_use_mm_for_euclid_dist"
_RECOMPUTED_BYTES = 1 << 24


def euclidean(x: Tensor, centres: Tensor) -> Tensor:
    """The Euclidean distance of each row to the nearest centre.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides.
        centres: [K, D] with K >= 1 on the same device, finite. They are converted to float64 if `x`
            is float64, else to float32.

    Returns:
        [N] float32, with a relative error of at most (D + 8) 2^-24; +inf beyond float32's range,
        NaN for rows that are not finite.
    """
    centres_KD = widened(centres.to(dtype_for(x)))
    distance_N = torch.empty(len(x), dtype=torch.float32, device=x.device)
    limit = most_rows(x, centres_KD)

    def work(claimed: Iterator[slice]) -> None:
        buffer_nD = torch.empty(limit, centres_KD.shape[1], dtype=centres_KD.dtype, device=x.device)
        for rows in claimed:
            block_nD = block(x, rows)
            if len(centres_KD) == 1:  # twice as fast as cdist
                difference_nD = torch.sub(block_nD, centres_KD, out=buffer_nD[: len(block_nD)])
                found_n = torch.linalg.vector_norm(difference_nD, dim=1)
            else:
                # Unnamed, the distances [n, K] are freed before the next block's are allocated.
                found_n = torch.cdist(block_nD, centres_KD, compute_mode=_FROM_DIFFERENCES).amin(1)
            distance_N[rows] = found_n[: rows.stop - rows.start]
            _recompute(x[rows], centres, distance_N[rows])

    in_row_threads(work, x, limit)
    return distance_N


def _recompute(x: Tensor, centres: Tensor, distance_n: Tensor) -> None:
    """Recomputes distances that are not finite, or whose squares float32 cannot hold."""
    is_inexact_n = ~((distance_n >= LEAST_LENGTH) & (distance_n <= MOST_LENGTH))
    if not is_inexact_n.any():
        return
    n_rows = max(1, _RECOMPUTED_BYTES // (8 * centres.numel()))
    for rows in torch.split(is_inexact_n.nonzero()[:, 0], n_rows):
        distance_n[rows] = _exact(x[rows], centres).float()


def _exact(x: Tensor, centres: Tensor) -> Tensor:
    """The distances [n] of finite rows of any size, in float64; NaN for other rows."""
    halves_nKD = x.double()[:, None] / 2 - centres.double() / 2  # halves do not overflow
    tiny = torch.finfo(torch.float64).tiny
    largest_nK1 = halves_nKD.abs().amax(2, keepdim=True).clamp_(min=tiny)
    distance_nK: Tensor = torch.linalg.vector_norm(halves_nKD / largest_nK1, dim=2)
    distance_nK = distance_nK * largest_nK1[:, :, 0] * 2
    return distance_nK.amin(1).masked_fill_(~x.isfinite().all(1), math.nan)
