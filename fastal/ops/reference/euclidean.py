"""Euclidean distances of rows to centres, from differences: no digits are lost far from 0."""

import math

import torch
from torch import Tensor

from fastal.ops.reference.cosine import (
    FEWEST_ROWS,
    LEAST_LENGTH,
    MOST_LENGTH,
    blocks,
    dtype_for,
    most_rows,
    widened,
)

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
    distance_N = torch.empty(len(x) + FEWEST_ROWS, dtype=centres_KD.dtype, device=x.device)
    limit = most_rows(x, centres_KD)
    buffer_nD = torch.empty(limit, centres_KD.shape[1], dtype=centres_KD.dtype, device=x.device)
    for rows, block_nD in blocks(x, limit):
        into = distance_N[rows.start : rows.start + len(block_nD)]
        if len(centres_KD) == 1:  # twice as fast as cdist
            difference_nD = torch.sub(block_nD, centres_KD, out=buffer_nD[: len(block_nD)])
            torch.linalg.vector_norm(difference_nD, dim=1, out=into)
        else:
            # Unnamed, the distances [n, K] are freed before the next block's are allocated.
            torch.amin(
                torch.cdist(block_nD, centres_KD, compute_mode=_FROM_DIFFERENCES), 1, out=into
            )
    found_N = distance_N[: len(x)].float()
    # Float32 cannot hold the squares of these distances, or they are not finite.
    is_inexact_N = ~((found_N >= LEAST_LENGTH) & (found_N <= MOST_LENGTH))
    n_rows = max(1, _RECOMPUTED_BYTES // (8 * centres.numel()))
    for rows_n in torch.split(is_inexact_N.nonzero()[:, 0], n_rows):
        found_N[rows_n] = _exact(x[rows_n], centres).float()
    return found_N


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
    squares_K = centres.square().sum(1)
    upper_N = torch.empty(len(x), dtype=torch.float32, device=x.device)
    for first in range(0, len(x), (limit := _rows_at_once(x, centres))):
        block_nD = x[first : first + limit].double()
        squares_n1 = block_nD.square().sum(1, keepdim=True)
        both_nK = squares_n1 + squares_K
        # |x|^2 + |c|^2 - 2 x c has an error of at most (D + 4) 2^-52 (|x| + |c|)^2, and that is at
        # most twice |x|^2 + |c|^2.
        squared_nK = torch.addmm(both_nK, block_nD, centres.t(), alpha=-2)
        squared_n = squared_nK.add_(both_nK, alpha=(x.shape[1] + 8) * 2.0**-51).amin(1)
        distance_n = squared_n.clamp_(min=0).sqrt_() * (1 + 2.0**-50)
        is_finite_n = block_nD.isfinite().all(1)
        distance_n = distance_n.nan_to_num_(math.inf, math.inf).masked_fill_(~is_finite_n, math.nan)
        upper_N[first : first + limit] = distance_n
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
