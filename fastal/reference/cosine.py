"""Cosine similarities of rows to centroids, in blocks whose products stay in the cache.

Rows are normalised by scaling their products, so that no normalised copy of them exists.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# Bytes of a block's rows and of its products, for each thread of a CPU; on a GPU, of either. Half as
# much costs a tenth at 100 centroids, and more falls out of the cache.
_BLOCK_BYTES, _MOST_BLOCK_BYTES, _GPU_BLOCK_BYTES = 1 << 21, 1 << 24, 1 << 27
# BLAS adds in another order for a few rows, and for a matrix with a vector: blocks are padded to
# these, so that no row's similarity depends on where its block ends.
_FEWEST_ROWS, _FEWEST_CENTROIDS = 64, 2
# Lengths whose squares, and their sum, float32 has in full precision: rows of others are looked at
# again, in float64.
LEAST_LENGTH, MOST_LENGTH = 2.0**-40, 2.0**60
_SECOND_LOOK_BYTES = 1 << 24


def nearest(x: Tensor, units: Tensor, fast: bool = False) -> tuple[Tensor, Tensor]:
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
    n_rows = len(x)
    cluster = torch.empty(n_rows, dtype=torch.int64, device=x.device)
    similarity = torch.empty(n_rows, dtype=torch.float32, device=x.device)

    for rows, products, length in _blocks(x, units):
        cluster[rows] = at = _first_largest(products)
        best = products.gather(1, at[:, None])[:, 0]
        similarity[rows] = _over(best, length)
    look_again(x, units, similarity, cluster)
    return cluster, similarity


def similarities(x: Tensor, units: Tensor, fast: bool = False) -> Tensor:
    """The cosine similarities of each row to every centroid, where these are few.

    Args:
        x, units, fast: as for `nearest`.

    Returns:
        [N, K] float32 in [-1, 1], as exact as those of `nearest`; NaN for rows that are not finite.
    """
    found = torch.empty(len(x), len(units), dtype=torch.float32, device=x.device)

    for rows, products, length in _blocks(x, units):
        found[rows] = _over(products[:, : len(units)], length[:, None])
    look_again(x, units, found)
    return found


def look_again(x: Tensor, units: Tensor, similarity: Tensor, cluster: Tensor | None = None) -> None:
    """Puts right, in place, the similarities that were left infinite, then clips all to [-1, 1].

    Those are of rows whose length float32 cannot tell from the sum of their squares: very long or
    short ones, zeros, and rows that are not finite.

    Args:
        x, units: as for `nearest`.
        similarity: [N] with clusters, [N, K] without them.
        cluster: [N].
    """
    of_row = similarity if cluster is not None else similarity[:, 0]
    again = of_row.isinf().nonzero()[:, 0]
    n_rows = max(1, _SECOND_LOOK_BYTES // (8 * max(units.shape)))
    for rows in again.split(n_rows):
        exact = _exact(x[rows], units)
        if cluster is None:
            similarity[rows] = exact.float()
        else:
            cluster[rows] = at = _first_largest(exact)
            similarity[rows] = exact.gather(1, at[:, None])[:, 0].float()
    similarity.clamp_(-1, 1)
    if cluster is not None:
        cluster.masked_fill_(similarity.isnan(), -1)


def _exact(x: Tensor, units: Tensor) -> Tensor:
    """Similarities of any finite rows in float64, [n, K]; NaN for the others."""
    x = x.double()
    x = x / x.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(x.dtype).smallest_normal)
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    products = (x @ units.double().t()) / length.masked_fill(length == 0, 1)
    return products.masked_fill_(~x.isfinite().all(1, keepdim=True), math.nan)


def _blocks(x: Tensor, units: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows, their products with the centroids (and perhaps more), and their lengths.

    The next block takes the place of the last.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    units = units.to(dtype)
    if len(units) < _FEWEST_CENTROIDS:
        units = units.expand(_FEWEST_CENTROIDS, -1)
    most = _most_rows(x, max(units.shape) * dtype.itemsize)
    products = torch.empty(most, len(units), dtype=dtype, device=x.device)
    for start in range(0, len(x), most):
        rows = slice(start, min(start + most, len(x)))
        block = x[rows].to(dtype).contiguous()
        n_rows = len(block)
        if n_rows < _FEWEST_ROWS:
            block = torch.cat((block, block.new_zeros(_FEWEST_ROWS - n_rows, x.shape[1])))
        found = torch.mm(block, units.t(), out=products[: len(block)])
        length = torch.linalg.vector_norm(block, dim=1)
        yield rows, found[:n_rows], length[:n_rows]


def _most_rows(x: Tensor, row_bytes: int) -> int:
    """Rows of a block, of which each takes so many bytes, or has so many products."""
    if x.device.type == "cpu":
        n_bytes = min(_BLOCK_BYTES * torch.get_num_threads(), _MOST_BLOCK_BYTES)
    else:
        n_bytes = _GPU_BLOCK_BYTES
    return max(_FEWEST_ROWS, n_bytes // row_bytes)


def _over(products: Tensor, length: Tensor) -> Tensor:
    """Similarities from products; infinite where float32 cannot tell the row's length."""
    told = (length >= LEAST_LENGTH) & (length <= MOST_LENGTH)
    return (products / length).masked_fill_(~told, math.inf)


def _first_largest(products: Tensor) -> Tensor:
    """Where the largest of each row is, the first of equals."""
    if products.device.type == "cpu":  # several times faster than torch's own
        return torch.from_numpy(products.numpy().argmax(1))
    return products.max(1).indices
