"""Euclidean distances of rows to centres, from differences: nothing cancels far from the origin."""

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
_SECOND_LOOK_BYTES = 1 << 24


def euclidean(x: Tensor, centres: Tensor) -> Tensor:
    """The Euclidean distance of each row to the nearest centre.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides.
        centres: [K, D] with K >= 1 on the same device, finite; taken as float32, or as float64
            where `x` is.

    Returns:
        [N] float32, off by at most (D + 8) 2^-24 of itself; infinite where float32 ends, NaN for
        rows that are not finite.
    """
    near = widened(centres.to(dtype_for(x)))
    distance = torch.empty(len(x) + FEWEST_ROWS, dtype=near.dtype, device=x.device)
    limit = most_rows(x, near)
    buffer = torch.empty(limit, near.shape[1], dtype=near.dtype, device=x.device)
    for rows, block in blocks(x, limit):
        into = distance[rows.start : rows.start + len(block)]
        if len(near) == 1:  # twice as fast as cdist
            difference = torch.sub(block, near, out=buffer[: len(block)])
            torch.linalg.vector_norm(difference, dim=1, out=into)
        else:
            torch.amin(torch.cdist(block, near, compute_mode=_FROM_DIFFERENCES), 1, out=into)
    found = distance[: len(x)].float()
    # Float32 has no squares of these, or they are not finite.
    again = ~((found >= LEAST_LENGTH) & (found <= MOST_LENGTH))
    n_rows = max(1, _SECOND_LOOK_BYTES // (8 * centres.numel()))
    for places in torch.split(again.nonzero()[:, 0], n_rows):
        found[places] = _exact(x[places], centres).float()
    return found


def _exact(x: Tensor, centres: Tensor) -> Tensor:
    """Distances of any finite rows in float64, [n]; NaN for the others."""
    halves = x.double()[:, None] / 2 - centres.double() / 2  # these do not overflow
    largest = halves.abs().amax(2, keepdim=True).clamp_(min=torch.finfo(torch.float64).tiny)
    distance: Tensor = torch.linalg.vector_norm(halves / largest, dim=2) * largest[:, :, 0] * 2
    return distance.amin(1).masked_fill_(~x.isfinite().all(1), math.nan)
