"""Exact sums of unit rows by cluster: no order of rows, chunks or threads changes a bit."""

import torch
from torch import Tensor

from fastal.ops.reference.cosine import blocks, norm_is_accurate, unit_rows

# Components are rounded to multiples of this unit, which is far below float32's own rounding. In
# this unit they are whole numbers. Float64 adds 2^23 of them without rounding, int64 2^33.
UNIT = 2.0**-30
_EXACT_ROWS = 1 << 22
_BLOCK_BYTES = 1 << 21


def unit_sums(x: Tensor, cluster: Tensor, n_clusters: int) -> Tensor:
    """The sum of each cluster's rows, each scaled to length 1.

    Args:
        x: [N, D], as for `nearest`.
        cluster: [N] int64. Rows of cluster -1 are left out.
        n_clusters: K.

    Returns:
        [K, D] int64, in units of `UNIT`. int64 holds the sums of 2^33 rows.
    """
    total_KD = torch.zeros(n_clusters, x.shape[1], dtype=torch.int64, device=x.device)
    for first in range(0, len(x), _EXACT_ROWS):
        part = slice(first, first + _EXACT_ROWS)
        # One more cluster collects the rows that are left out.
        sums_KD = torch.zeros(n_clusters + 1, x.shape[1], dtype=torch.float64, device=x.device)
        most_rows = max(1, _BLOCK_BYTES // (4 * x.shape[1]))
        for rows, block_nD in blocks(x[part], most_rows):
            n_rows = rows.stop - rows.start
            cluster_n = cluster[part][rows]
            cluster_n = torch.where(cluster_n < 0, n_clusters, cluster_n)
            cluster_nD = cluster_n[:, None].expand(-1, x.shape[1])
            units_nD = _scaled(block_nD[:n_rows, : x.shape[1]], cluster_n == n_clusters)
            sums_KD.scatter_add_(0, cluster_nD, units_nD)
        total_KD += sums_KD[:n_clusters].long()
    return total_KD


def _scaled(block_nD: Tensor, left_out_n: Tensor) -> Tensor:
    """Unit rows in units of `UNIT`, in float64; 0 for rows that are left out."""
    length_n1 = torch.linalg.vector_norm(block_nD, dim=1, keepdim=True)
    scaled_nD: Tensor = block_nD * (1 / UNIT / length_n1)
    inaccurate = (~norm_is_accurate(length_n1[:, 0])).nonzero()[:, 0]
    if len(inaccurate):
        scaled_nD[inaccurate] = (unit_rows(block_nD[inaccurate]) / UNIT).to(scaled_nD.dtype)
        scaled_nD[left_out_n] = 0
    return scaled_nD.round_().double()
