"""Cosine similarities of rows to centroids, and sums of unit rows, on CPUs.

Each thread takes a block of rows at a time. kernels/README.md derives the sizes.
"""

from collections.abc import Callable, Iterator
from threading import Lock

import torch
from torch import Tensor

import fastal_kernels.native._native as _native
from fastal_kernels.native import DTYPES, variant
from fastal_kernels.row_threads import in_row_threads, threads_for

Finish = Callable[..., object]

_PANEL, _MOST_PANELS = 32, 8  # rows of a panel, and panels that share centroids; as in C
_PANELS_BYTES = 1 << 19  # of the panels that share centroids: they stay in the L2 cache
_BLOCK_BYTES = 1 << 21  # of rows, after which Python may check for signals
# Multiplications of a block. With fewer, a thread's start takes longer. After more, Python should
# check for signals.
_LEAST_PRODUCTS, _MOST_PRODUCTS = 1 << 22, 1 << 30
_SOME_COLUMNS = 32  # rows of fewer columns take as much time and memory beside them
# Every thread has sums of its own. With fewer rows for each cluster, adding these up takes long.
_LEAST_ROWS = 8


def nearest(x: Tensor, units: Tensor, finish: Finish) -> tuple[Tensor, Tensor]:
    """The most similar centroid of each row, and its similarity.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16 or float32; any strides; on the host.
        units: [K, D] float32 with K >= 1 on the host, each of length 1, or 0.
        finish: called with rows, their similarities and clusters, in the thread that found them. If
            float32 gives no accurate length of a row, its similarity is infinite and its cluster
            any.

    Returns:
        Clusters [N] int64, and cosine similarities [N] float32. Ties go to the lowest cluster. The
        bits of a row do not depend on other rows.
    """
    cluster = torch.empty(len(x), dtype=torch.int64, device="cpu")
    similarity = torch.empty(len(x), dtype=torch.float32, device="cpu")
    _in_blocks(_native.nearest, x, units, finish, similarity, cluster)
    return cluster, similarity


def similarities(x: Tensor, units: Tensor, finish: Finish) -> Tensor:
    """The cosine similarities [N, K] float32 of each row to every centroid.

    The arguments are those of `nearest`. `finish` is called with rows and their similarities.
    """
    similarity = torch.empty(len(x), len(units), dtype=torch.float32, device="cpu")
    _in_blocks(_native.similarities, x, units, finish, similarity)
    return similarity


def _in_blocks(
    job: Callable[..., object], x: Tensor, units: Tensor, finish: Finish, *outputs: Tensor
) -> None:
    """Has a job write to outputs, of one row for each row of `x`."""
    units = units.contiguous()
    n_columns = x.shape[1]
    n_panels = max(1, min(_MOST_PANELS, _PANELS_BYTES // (4 * _PANEL * n_columns)))

    def work(claimed: Iterator[slice]) -> None:
        panels = torch.empty(n_panels, n_columns, _PANEL, dtype=torch.float32, device="cpu")
        for rows in claimed:
            block, described = _described(x[rows])
            found = [output[rows] for output in outputs]
            addresses = (column.data_ptr() for column in found)
            job(*described, units.data_ptr(), len(units), panels.data_ptr(), n_panels, *addresses)
            finish(block, *found)

    in_row_threads(work, x, _most_rows(x, len(units)))


def unit_sums(x: Tensor, cluster: Tensor, n_clusters: int) -> tuple[Tensor, Tensor]:
    """The sum of each cluster's rows, each scaled to length 1.

    Args:
        x: [N, D], as for `nearest`.
        cluster: [N] int64 on the host. Rows of cluster -1 are left out.
        n_clusters: K.

    Returns:
        The sums [K, D] int64, in units of 2^-30; and the numbers of the rows that were not added,
        as float32 gives no accurate length of them, [n] int64 in no order.
    """
    cluster = cluster.contiguous()
    # Made by the threads below: torch's own threads, which would write zeros, spin for a while.
    total: list[Tensor] = []
    left = [torch.empty(0, dtype=torch.int64, device="cpu")]
    lock = Lock()

    def work(claimed: Iterator[slice]) -> None:
        sums = torch.zeros(n_clusters, x.shape[1], dtype=torch.int64, device="cpu")
        for rows in claimed:
            block, described = _described(x[rows])
            of_block = torch.empty(len(block), dtype=torch.int64, device="cpu")
            addresses = (column.data_ptr() for column in (cluster[rows], sums, of_block))
            _native.unit_sums(*described, *addresses)
            left.append(of_block[of_block >= 0] + rows.start)
        with lock:
            if total:
                total[0].add_(sums)
            else:
                total.append(sums)

    most_threads = max(1, len(x) // (_LEAST_ROWS * n_clusters))
    in_row_threads(work, x, _most_rows(x, 1), most_threads)
    if not total:  # there are no rows
        total.append(torch.zeros(n_clusters, x.shape[1], dtype=torch.int64, device="cpu"))
    return total[0], torch.cat(left)


def _described(block: Tensor) -> tuple[Tensor, tuple[object, ...]]:
    """Rows that are contiguous along their columns, and the arguments that describe them.

    The arguments hold an address, which keeps no memory alive. The rows do.
    """
    block = block if block.stride(1) == 1 else block.contiguous()
    stride = block.stride(0) * block.element_size()
    described = (variant(), block.data_ptr(), DTYPES.index(block.dtype), stride, *block.shape)
    return block, described


def _most_rows(x: Tensor, n_units: int) -> int:
    """The most rows of a block."""
    n_columns = max(x.shape[1], _SOME_COLUMNS)
    of_threads = max(-(-len(x) // threads_for(x)), _LEAST_PRODUCTS // (n_columns * n_units))
    of_time = max(_PANEL, _MOST_PRODUCTS // (n_units * n_columns))
    return max(1, min(_BLOCK_BYTES // (4 * n_columns), of_threads, of_time))
