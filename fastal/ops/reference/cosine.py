"""Cosine similarities of rows to centroids, in blocks whose products stay in the cache.

The products of a row are divided by its length. So no normalised copy of the rows exists.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastal_kernels.row_threads import in_row_threads, threads_for

# The most bytes of a block and of its products, for each thread of a CPU or each part of a GPU.
# Larger blocks fall out of the cache. Smaller blocks start more ops, and the interpreter's lock
# holds up threads that start ops.
_BLOCK_BYTES, _PRODUCT_BYTES = 1 << 21, 1 << 22
_GPU_PARTS = 64
# The fewest elements of a block that are worth another thread.
_LEAST_SHARE = 1 << 15
# BLAS sums in another order for few rows, for unaligned rows, for a single centroid, and for the
# centroids after its last whole tile. So blocks have at least so many rows and such an alignment:
# then no row's similarity depends on its block. Centroids are padded to whole tiles: then equal
# centroids tie. If all similarities to one or two centroids are asked for, these are padded to two,
# which is several times faster than a tile.
FEWEST_ROWS, _ALIGNMENT, _FEWEST_CENTROIDS = 64, 16, 2
_TILE_CENTROIDS = {torch.float32: 16, torch.float64: 24}
# Float32 holds the squares of such lengths, and their sum, in full precision. Rows of other lengths
# are recomputed in float64.
LEAST_LENGTH, MOST_LENGTH = 2.0**-40, 2.0**60
_RECOMPUTED_BYTES = 1 << 21


def nearest(
    x: Tensor,
    units: Tensor,
    fast: bool = False,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    """The most similar centroid of each row, and its similarity.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides.
        units: [K, D] float32 with K >= 1 on the same device, each of length 1, or 0.
        fast: allow less exact products. This backend ignores it.

    Returns:
        Clusters [N] int64, and cosine similarities [N] float32 in [-1, 1]. Ties go to the lowest
        cluster. The error of a similarity is at most (D + 8) 2^-24. A row of zeros has similarity 0
        and cluster 0. A row that is not finite has similarity NaN and cluster -1.
    """
    cluster_N = torch.empty(len(x), dtype=torch.int64, device=x.device)
    similarity_N = torch.empty(len(x), dtype=torch.float32, device=x.device)
    padded_KD = _padded(units.to(dtype_for(x)), _TILE_CENTROIDS[dtype_for(x)])
    limit = most_rows(x, padded_KD)

    def work(claimed: Iterator[slice]) -> None:
        buffer_nK = torch.empty(limit, len(padded_KD), dtype=padded_KD.dtype, device=x.device)
        for rows in claimed:
            block_nD = block(x, rows)
            products_nK = torch.mm(block_nD, padded_KD.t(), out=buffer_nK[: len(block_nD)])
            products_nK = products_nK[: rows.stop - rows.start]
            largest_n = first_largest(products_nK, cluster_N[rows])
            largest_n.masked_fill_(largest_n >= len(units), 0)  # copies of it fill the last tile
            best_n = products_nK.gather(1, largest_n[:, None])[:, 0]
            similarity_N[rows] = _over(best_n, torch.linalg.vector_norm(block_nD, dim=1))
            recompute_in_float64(x[rows], units, similarity_N[rows], largest_n)

    in_row_threads(work, x, limit)
    return cluster_N, similarity_N


def similarities(x: Tensor, units: Tensor, fast: bool = False) -> Tensor:  # noqa: ARG001
    """The cosine similarities of each row to every centroid, for few centroids.

    Args:
        x: [N, D], as for `nearest`.
        units: [K, D], as for `nearest`.
        fast: as for `nearest`.

    Returns:
        [N, K] float32 in [-1, 1], with the error of `nearest`. NaN for rows that are not finite.
    """
    multiple = (
        _TILE_CENTROIDS[dtype_for(x)] if len(units) > _FEWEST_CENTROIDS else _FEWEST_CENTROIDS
    )
    padded_KD = _padded(units.to(dtype_for(x)), multiple)
    similarity_NK = torch.empty(len(x), len(units), dtype=torch.float32, device=x.device)

    def work(claimed: Iterator[slice]) -> None:
        for rows in claimed:
            block_nD = block(x, rows)
            products_nK = (block_nD @ padded_KD.t())[: rows.stop - rows.start, : len(units)]
            length_n = torch.linalg.vector_norm(block_nD, dim=1)
            similarity_NK[rows] = _over(products_nK, length_n[:, None])
            recompute_in_float64(x[rows], units, similarity_NK[rows])

    in_row_threads(work, x, most_rows(x, padded_KD))
    return similarity_NK


def recompute_in_float64(
    x: Tensor, units: Tensor, similarity: Tensor, cluster: Tensor | None = None
) -> None:
    """Recomputes infinite similarities in float64, then clips all similarities to [-1, 1].

    A similarity is infinite if float32 gives no accurate length of the row: for very long or short
    rows, rows of zeros, and rows that are not finite. The tensors are changed in place.

    Args:
        x: [N, D], as for `nearest`.
        units: [K, D], as for `nearest`.
        similarity: [N] if there are clusters, else [N, K].
        cluster: [N] or None.
    """
    similarity_N = similarity if cluster is not None else similarity[:, 0]
    rows = similarity_N.isinf().nonzero()[:, 0]
    if len(rows):
        _recompute_rows(rows, x, units, similarity, cluster)
    similarity.clamp_(-1, 1)
    if cluster is not None:
        cluster.masked_fill_(similarity.isnan(), -1)


def _recompute_rows(
    rows: Tensor, x: Tensor, units: Tensor, similarity: Tensor, cluster: Tensor | None
) -> None:
    """Recomputes the similarities, and the clusters, of these rows in float64."""
    n_rows = max(1, _RECOMPUTED_BYTES // (8 * max(units.shape)))
    padded_KD = _padded(units.double(), _TILE_CENTROIDS[torch.float64])
    for rows_n in torch.split(rows, n_rows):
        exact_nK = widened(unit_rows(x[rows_n]), FEWEST_ROWS) @ padded_KD.t()
        exact_nK = exact_nK[: len(rows_n), : len(units)]
        if cluster is None:
            similarity[rows_n] = exact_nK.float()
        else:
            cluster[rows_n] = largest_n = first_largest(exact_nK)
            similarity[rows_n] = exact_nK.gather(1, largest_n[:, None])[:, 0].float()


def unit_rows(x: Tensor) -> Tensor:
    """Rows [N, D] of any length, scaled to length 1, in float64.

    Rows of zeros stay zeros. Rows that are not finite become NaN in every column.
    """
    x = x.double()
    x = x / x.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(x.dtype).smallest_normal)
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return torch.div(x, length.masked_fill(length == 0, 1))


def norm_is_accurate(length: Tensor) -> Tensor:
    """Whether a length that was summed from squares in float32 has full precision."""
    return (length >= LEAST_LENGTH) & (length <= MOST_LENGTH)


def dtype_for(x: Tensor) -> torch.dtype:
    """The dtype in which rows x are computed: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _padded(units: Tensor, multiple: int) -> Tensor:
    """The centroids, `widened` as blocks are, and padded to a multiple by copies of the first."""
    units = widened(units)
    return torch.cat((units, units[:1].expand(-len(units) % multiple, -1)))


def widened(block: Tensor, fewest_rows: int = 0) -> Tensor:
    """The rows, padded with zeros: columns up to the alignment, rows up to `fewest_rows`."""
    columns = -block.shape[1] % (_ALIGNMENT // block.itemsize)
    n_rows = max(0, fewest_rows - len(block))
    return pad(block, (0, columns, 0, n_rows)) if columns or n_rows else block


def block(x: Tensor, rows: slice) -> Tensor:
    """These rows of x as a contiguous, aligned, `widened` block."""
    given = widened(x[rows].to(dtype_for(x)).contiguous(), FEWEST_ROWS)
    return given.clone() if given.data_ptr() % _ALIGNMENT else given


def most_rows(x: Tensor, units: Tensor) -> int:
    """The most rows of a block, such that the block and its products fit the caches."""
    parts = 1 if x.device.type == "cpu" else _GPU_PARTS
    of_rows = _BLOCK_BYTES // (units.shape[1] * units.itemsize)
    of_products = _PRODUCT_BYTES // (len(units) * units.itemsize)
    of_threads = max(-(-len(x) // threads_for(x)), _LEAST_SHARE // units.shape[1])
    return max(FEWEST_ROWS, min(of_threads, parts * min(of_rows, of_products)))


def _over(products: Tensor, length: Tensor) -> Tensor:
    """Similarities, written over the products; infinite if `norm_is_accurate` is false.

    There may be lengths of more rows than there are products.
    """
    length = length[: len(products)]
    return products.div_(length).masked_fill_(~norm_is_accurate(length), math.inf)


def first_largest(products: Tensor, out: Tensor | None = None) -> Tensor:
    """The column of the largest product of each row [n, K], as [n] int64; of equals, the first."""
    if out is None:
        out = torch.empty(len(products), dtype=torch.int64, device=products.device)
    if products.device.type == "cpu":  # NumPy's argmax is several times faster than torch's
        products.numpy().argmax(1, out=out.numpy())
    else:
        torch.argmax(products, 1, out=out)
    return out
