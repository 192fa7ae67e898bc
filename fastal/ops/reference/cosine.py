"""Cosine similarities of rows to centroids, in blocks whose products stay in the cache.

Rows are normalised by scaling their products, so that no normalised copy of them exists.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

# Bytes at most of a block and of its products, for each thread of a CPU, or a part of a GPU: more
# falls out of the cache, and smaller blocks wait for threads more often.
_BLOCK_BYTES, _PRODUCT_BYTES = 1 << 21, 1 << 23
_MOST_THREADS, _ON_GPU = 8, 64
# BLAS adds in another order for a few rows, for rows that begin at odd addresses, for a lone
# centroid, and for those left over from its tiles. Blocks are padded to so many rows, and to such
# addresses, so that no row's similarity depends on its block; centroids to a multiple, so that
# equal ones tie. One or two, of which all similarities are wanted, go as two: several times faster
# than as a tile.
FEWEST_ROWS, _ALIGNMENT, _FEWEST_CENTROIDS = 64, 16, 2
_TILE_CENTROIDS = {torch.float32: 16, torch.float64: 24}
# Lengths whose squares, and their sum, float32 has in full precision: rows of others are looked at
# again, in float64.
LEAST_LENGTH, MOST_LENGTH = 2.0**-40, 2.0**60
_SECOND_LOOK_BYTES = 1 << 21


def nearest(
    x: Tensor,
    units: Tensor,
    fast: bool = False,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    """The most similar centroid of each row, and its similarity.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides.
        units: [K, D] float32 with K >= 1 on the same device, each of length 1, or 0.
        fast: the products may be less exact; here they never are.

    Returns:
        Clusters [N] int64, ties to the lowest, and cosine similarities [N] float32 in [-1, 1]. They
        are off by at most (D + 8) 2^-24. A row of zeros has similarity 0, and cluster 0; one that
        is not finite has similarity NaN and cluster -1.
    """
    cluster = torch.empty(len(x), dtype=torch.int64, device=x.device)
    best = torch.empty(len(x), dtype=dtype_for(x), device=x.device)
    length = torch.empty_like(best)
    padded = _padded(units.to(best.dtype), _TILE_CENTROIDS[best.dtype])
    limit = most_rows(x, padded)
    buffer = torch.empty(limit, len(padded), dtype=best.dtype, device=x.device)
    for rows, block in blocks(x, limit):
        products = torch.mm(block, padded.t(), out=buffer[: len(block)])[: rows.stop - rows.start]
        at = first_largest(products, cluster[rows])
        torch.gather(products, 1, at[:, None], out=best[rows, None])
        length[rows] = torch.linalg.vector_norm(block, dim=1)[: len(products)]
    cluster.masked_fill_(cluster >= len(units), 0)  # that is whose copies fill the last tile
    similarity = _over(best, length).float()
    recompute_in_float64(x, units, similarity, cluster)
    return cluster, similarity


def similarities(x: Tensor, units: Tensor, fast: bool = False) -> Tensor:  # noqa: ARG001
    """The cosine similarities of each row to every centroid, where these are few.

    Args:
        x: [N, D], as for `nearest`.
        units: [K, D], as for `nearest`.
        fast: as for `nearest`.

    Returns:
        [N, K] float32 in [-1, 1], as exact as those of `nearest`; NaN for rows that are not finite.
    """
    multiple = (
        _TILE_CENTROIDS[dtype_for(x)] if len(units) > _FEWEST_CENTROIDS else _FEWEST_CENTROIDS
    )
    padded = _padded(units.to(dtype_for(x)), multiple)
    room = len(x) + FEWEST_ROWS  # for what comes of the rows of zeros after the last block
    products = torch.empty(room, len(padded), dtype=padded.dtype, device=x.device)
    length = torch.empty(room, dtype=padded.dtype, device=x.device)
    for rows, block in blocks(x, most_rows(x, padded)):
        into = slice(rows.start, rows.start + len(block))
        torch.mm(block, padded.t(), out=products[into])
        torch.linalg.vector_norm(block, dim=1, out=length[into])
    found = _over(products[: len(x), : len(units)], length[: len(x), None]).float()
    recompute_in_float64(x, units, found)
    return found


def recompute_in_float64(
    x: Tensor, units: Tensor, similarity: Tensor, cluster: Tensor | None = None
) -> None:
    """Puts right, in place, the similarities that were left infinite, then clips all to [-1, 1].

    Those are of rows whose length float32 cannot tell from the sum of their squares: very long or
    short ones, zeros, and rows that are not finite.

    Args:
        x: [N, D], as for `nearest`.
        units: [K, D], as for `nearest`.
        similarity: [N] with clusters, [N, K] without them.
        cluster: [N].
    """
    of_row = similarity if cluster is not None else similarity[:, 0]
    again = of_row.isinf().nonzero()[:, 0]
    if len(again):
        _recompute_rows(again, x, units, similarity, cluster)
    similarity.clamp_(-1, 1)
    if cluster is not None:
        cluster.masked_fill_(similarity.isnan(), -1)


def _recompute_rows(
    again: Tensor, x: Tensor, units: Tensor, similarity: Tensor, cluster: Tensor | None
) -> None:
    """Looks at these rows in float64."""
    n_rows = max(1, _SECOND_LOOK_BYTES // (8 * max(units.shape)))
    padded = _padded(units.double(), _TILE_CENTROIDS[torch.float64])
    for rows in torch.split(again, n_rows):
        exact = widened(unit_rows(x[rows]), FEWEST_ROWS) @ padded.t()
        exact = exact[: len(rows), : len(units)]
        if cluster is None:
            similarity[rows] = exact.float()
        else:
            cluster[rows] = at = first_largest(exact)
            similarity[rows] = exact.gather(1, at[:, None])[:, 0].float()


def unit_rows(x: Tensor) -> Tensor:
    """Rows [N, D] of any length scaled to length 1, in float64; rows of zeros stay.

    NaN throughout in rows that are not finite.
    """
    x = x.double()
    x = x / x.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(x.dtype).smallest_normal)
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return torch.div(x, length.masked_fill(length == 0, 1))


def norm_is_accurate(length: Tensor) -> Tensor:
    """Whether float32 tells a row's length in full precision from the squares it adds."""
    return (length >= LEAST_LENGTH) & (length <= MOST_LENGTH)


def dtype_for(x: Tensor) -> torch.dtype:
    """What to compute with."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _padded(units: Tensor, multiple: int) -> Tensor:
    """The centroids as wide as blocks, and the first once more for each that a multiple lacks."""
    units = widened(units)
    return torch.cat((units, units[:1].expand(-len(units) % multiple, -1)))


def widened(block: Tensor, fewest_rows: int = 0) -> Tensor:
    """Rows with zeros after each up to an alignment, and rows of zeros up to the fewest."""
    columns = -block.shape[1] % (_ALIGNMENT // block.itemsize)
    n_rows = max(0, fewest_rows - len(block))
    return pad(block, (0, columns, 0, n_rows)) if columns or n_rows else block


def blocks(x: Tensor, most_rows: int) -> Iterator[tuple[slice, Tensor]]:
    """The rows by blocks, each in one piece, aligned, and `widened`."""
    for start in range(0, len(x), most_rows):
        given = x[start : start + most_rows].to(dtype_for(x)).contiguous()
        block = widened(given, FEWEST_ROWS)
        if block.data_ptr() % _ALIGNMENT:
            block = block.clone()
        yield slice(start, start + len(given)), block


def most_rows(x: Tensor, units: Tensor) -> int:
    """Rows of a block: as many as they and their products have room for."""
    on_cpu = x.device.type == "cpu"
    threads = min(torch.get_num_threads(), _MOST_THREADS) if on_cpu else _ON_GPU
    of_rows = _BLOCK_BYTES // (units.shape[1] * units.itemsize)
    of_products = _PRODUCT_BYTES // (len(units) * units.itemsize)
    return max(FEWEST_ROWS, threads * min(of_rows, of_products))


def _over(products: Tensor, length: Tensor) -> Tensor:
    """Similarities, in the place of products; infinite where float32 cannot tell the length."""
    return products.div_(length).masked_fill_(~norm_is_accurate(length), math.inf)


def first_largest(products: Tensor, out: Tensor | None = None) -> Tensor:
    """Where the largest of each row is, the first of equals."""
    if out is None:
        out = torch.empty(len(products), dtype=torch.int64, device=products.device)
    if products.device.type == "cpu":  # several times faster than torch's own
        products.numpy().argmax(1, out=out.numpy())
    else:
        torch.argmax(products, 1, out=out)
    return out
