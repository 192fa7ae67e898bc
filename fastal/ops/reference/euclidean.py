"""Euclidean distances of rows to centres, from differences: no digits are lost far from 0."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fastal.ops.reference.cosine import (
    FEWEST_ROWS,
    LEAST_LENGTH,
    MOST_LENGTH,
    block,
    dtype_for,
    most_rows,
    widened,
)
from fastal_kernels.row_threads import in_row_threads, threads_for

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
    distance_N = torch.empty(len(x) + FEWEST_ROWS, dtype=centres_KD.dtype, device=x.device)
    limit = most_rows(x, centres_KD)

    def work(claimed: Iterator[slice]) -> None:
        buffer_nD = torch.empty(limit, centres_KD.shape[1], dtype=centres_KD.dtype, device=x.device)
        for rows in claimed:
            block_nD = block(x, rows)
            into = distance_N[rows.start : rows.start + len(block_nD)]
            if len(centres_KD) == 1:  # twice as fast as cdist
                difference_nD = torch.sub(block_nD, centres_KD, out=buffer_nD[: len(block_nD)])
                torch.linalg.vector_norm(difference_nD, dim=1, out=into)
            else:
                # Unnamed, the distances [n, K] are freed before the next block's are allocated.
                torch.amin(
                    torch.cdist(block_nD, centres_KD, compute_mode=_FROM_DIFFERENCES), 1, out=into
                )

    in_row_threads(work, len(x), limit, threads_for(x))
    found_N = distance_N[: len(x)].float()
    # Float32 cannot hold the squares of these distances, or they are not finite.
    is_inexact_N = ~((found_N >= LEAST_LENGTH) & (found_N <= MOST_LENGTH))
    n_rows = max(1, _RECOMPUTED_BYTES // (8 * centres.numel()))
    for rows_n in torch.split(is_inexact_N.nonzero()[:, 0], n_rows):
        found_N[rows_n] = _exact(x[rows_n], centres).float()
    return found_N


def _exact(x: Tensor, centres: Tensor) -> Tensor:
    """The distances [n] of finite rows of any size, in float64; NaN for other rows."""
    halves_nKD = x.double()[:, None] / 2 - centres.double() / 2  # halves do not overflow
    tiny = torch.finfo(torch.float64).tiny
    largest_nK1 = halves_nKD.abs().amax(2, keepdim=True).clamp_(min=tiny)
    distance_nK: Tensor = torch.linalg.vector_norm(halves_nKD / largest_nK1, dim=2)
    distance_nK = distance_nK * largest_nK1[:, :, 0] * 2
    return distance_nK.amin(1).masked_fill_(~x.isfinite().all(1), math.nan)
