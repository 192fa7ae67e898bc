"""Exact sums of unit rows by cluster: no order of rows, chunks or threads changes a bit."""

from collections.abc import Iterator
from threading import Lock

import torch
from torch import Tensor

from fastal.ops.reference.cosine import block, dtype_for, norm_is_accurate, unit_rows
from fastal_kernels.row_threads import in_row_threads

# Components are rounded to multiples of this unit, which is far below float32's own rounding. In
# this unit they are whole numbers. Float64 adds 2^23 of them without rounding, int64 2^33.
UNIT = 2.0**-30
_EXACT_ROWS = 1 << 22
# Bytes of a block of rows in float32. Smaller blocks start more ops.
_BLOCK_BYTES = 1 << 20
# Every thread has sums of its own. With fewer rows for each cluster, adding these up takes long.
_LEAST_ROWS = 8


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
        _add_sums(total_KD, x[part], cluster[part])
    return total_KD


def _add_sums(total_KD: Tensor, x: Tensor, cluster: Tensor) -> None:
    """Adds the sums of at most `_EXACT_ROWS` rows."""
    lock = Lock()

    def work(claimed: Iterator[slice]) -> None:
        sums_KD = _sums(x, cluster, len(total_KD), claimed)
        with lock:
            total_KD.add_(sums_KD)

    most_rows = max(1, _BLOCK_BYTES // (4 * x.shape[1]))
    most_threads = max(1, len(x) // (_LEAST_ROWS * len(total_KD)))
    in_row_threads(work, x, most_rows, most_threads)


def _sums(x: Tensor, cluster: Tensor, n_clusters: int, claimed: Iterator[slice]) -> Tensor:
    """The sums [K, D] of the rows that are claimed, in units of `UNIT`, int64."""
    # One more cluster collects the rows that are left out.
    sums_KD = torch.zeros(n_clusters + 1, x.shape[1], dtype=torch.float64, device=x.device)
    # Memory that is new in every block takes as long as the sums.
    scaled_nD = torch.empty(0, dtype=dtype_for(x), device=x.device)
    whole_nD = torch.empty(0, dtype=torch.float64, device=x.device)
    for rows in claimed:
        n_rows = rows.stop - rows.start
        cluster_n = cluster[rows]
        cluster_n = torch.where(cluster_n < 0, n_clusters, cluster_n)
        _scale(block(x, rows)[:n_rows, : x.shape[1]], cluster_n == n_clusters, scaled_nD)
        whole_nD.resize_(scaled_nD.shape).copy_(scaled_nD.round_())
        sums_KD.index_add_(0, cluster_n, whole_nD)
    return sums_KD[:n_clusters].long()


def _scale(block_nD: Tensor, left_out_n: Tensor, out_nD: Tensor) -> None:
    """Writes unit rows in units of `UNIT`; 0 for rows that are left out."""
    length_n1 = torch.linalg.vector_norm(block_nD, dim=1, keepdim=True)
    torch.mul(block_nD, 1 / UNIT / length_n1, out=out_nD.resize_(block_nD.shape))
    inaccurate = (~norm_is_accurate(length_n1[:, 0])).nonzero()[:, 0]
    if len(inaccurate):
        out_nD[inaccurate] = (unit_rows(block_nD[inaccurate]) / UNIT).to(out_nD.dtype)
        out_nD[left_out_n] = 0
