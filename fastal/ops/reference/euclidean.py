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
from fastal_kernels.row_threads import in_row_threads

_FROM_DIFFERENCES = "donot_use_mm_for_euclid_dist"
_RECOMPUTED_BYTES = 1 << 24
_BLOCK_BYTES = 1 << 22


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


def euclidean_upper(x: Tensor, centres: Tensor) -> Tensor:
    """Upper bounds of the Euclidean distances of rows to the nearest centre.

    They come from a product of matrices, so many centres cost little. They are close where rows are
    not much farther from 0 than from the centres: above the distance by at most about D 2^-25 of
    the length of the longer one.

    Args:
        x: [N, D], as for `euclidean`.
        centres: [K, D] float64 with K >= 1 on the same device, finite.

    Returns:
        [N] float32, at least the distance rounded to float32; +inf beyond float64's range of
        squares, NaN for rows that are not finite.
    """
    upper_N = torch.empty(len(x), dtype=torch.float32, device=x.device)

    def work(claimed: Iterator[slice]) -> None:
        squares_K = centres.square().sum(1)
        for rows in claimed:
            block_nD = x[rows].double()
            squares_n1 = block_nD.square().sum(1, keepdim=True)
            both_nK = squares_n1 + squares_K
            # |x|^2 + |c|^2 - 2 x c has an error of at most (D + 4) 2^-52 (|x| + |c|)^2, and that is
            # at most twice |x|^2 + |c|^2.
            squared_nK = torch.addmm(both_nK, block_nD, centres.t(), alpha=-2)
            squared_n = squared_nK.add_(both_nK, alpha=(x.shape[1] + 8) * 2.0**-51).amin(1)
            bound_n = squared_n.clamp_(min=0).sqrt_() * (1 + 2.0**-50)
            is_finite_n = block_nD.isfinite().all(1)
            bound_n.nan_to_num_(math.inf, math.inf).masked_fill_(~is_finite_n, math.nan)
            upper_N[rows] = bound_n

    in_row_threads(work, x, _rows_at_once(x, centres))
    return upper_N


def _rows_at_once(x: Tensor, centres: Tensor) -> int:
    """The rows of a block whose products, and whose values in float64, stay in the cache."""
    return max(FEWEST_ROWS, _BLOCK_BYTES // (8 * max(x.shape[1], len(centres))))


def _exact(x: Tensor, centres: Tensor) -> Tensor:
    """The distances [n] of finite rows of any size, in float64; NaN for other rows."""
    halves_nKD = x.double()[:, None] / 2 - centres.double() / 2  # halves do not overflow
    tiny = torch.finfo(torch.float64).tiny
    largest_nK1 = halves_nKD.abs().amax(2, keepdim=True).clamp_(min=tiny)
    distance_nK: Tensor = torch.linalg.vector_norm(halves_nKD / largest_nK1, dim=2)
    distance_nK = distance_nK * largest_nK1[:, :, 0] * 2
    return distance_nK.amin(1).masked_fill_(~x.isfinite().all(1), math.nan)
