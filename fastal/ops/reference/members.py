"""Sums of unit rows by cluster, exact: no order of rows, chunks or threads changes a bit."""

import torch
from torch import Tensor

from fastal.ops.reference.cosine import blocks, norm_is_accurate, unit_rows

# Components are rounded to multiples of this, far below float32's own rounding, and are then whole
# numbers, of which float64 adds 2^23 without rounding, and int64 2^33.
UNIT = 2.0**-30
_EXACT_ROWS = 1 << 22
_BLOCK_BYTES = 1 << 21


def unit_sums(x: Tensor, cluster: Tensor, n_clusters: int) -> Tensor:
    """The sum of each cluster's rows, each scaled to length 1.

    Args:
        x: [N, D], as for `nearest`.
        cluster: [N] int64; rows of cluster -1 are left out.
        n_clusters: K.

    Returns:
        [K, D] int64, in units of `UNIT`; int64 holds those of 2^33 rows.
    """
    total = torch.zeros(n_clusters, x.shape[1], dtype=torch.int64, device=x.device)
    for first in range(0, len(x), _EXACT_ROWS):
        part = slice(first, first + _EXACT_ROWS)
        sums = torch.zeros(n_clusters + 1, x.shape[1], dtype=torch.float64, device=x.device)
        most_rows = max(1, _BLOCK_BYTES // (4 * x.shape[1]))
        for rows, block in blocks(x[part], most_rows):
            n_rows = rows.stop - rows.start
            of_rows = cluster[part][rows]
            of_rows = torch.where(of_rows < 0, n_clusters, of_rows)
            places = of_rows[:, None].expand(-1, x.shape[1])
            sums.scatter_add_(
                0, places, _scaled(block[:n_rows, : x.shape[1]], of_rows == n_clusters)
            )
        total += sums[:n_clusters].long()
    return total


def _scaled(block: Tensor, left_out: Tensor) -> Tensor:
    """Unit rows in units of `UNIT`, in float64; 0 where they are left out."""
    length = torch.linalg.vector_norm(block, dim=1, keepdim=True)
    scaled: Tensor = block * (1 / UNIT / length)
    untold = (~norm_is_accurate(length[:, 0])).nonzero()[:, 0]
    if len(untold):
        scaled[untold] = (unit_rows(block[untold]) / UNIT).to(scaled.dtype)
        scaled[left_out] = 0
    return scaled.round_().double()
