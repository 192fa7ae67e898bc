"""The ops over embeddings and activations, each computed by the chosen backend."""

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from fastal.ops import reference
from fastal.ops.backend_choice import device_for
from fastal.ops.transfer import staged

_GPU_TABLE_BYTES = 4 << 30  # the largest part of a table that is on a GPU at once


def nearest(x: Tensor, units: Tensor, fast: bool = False, *, backend: str) -> tuple[Tensor, Tensor]:
    """`fastal.ops.reference.nearest`, computed by `backend`, a name that `choose` returned."""
    if backend == "torch":
        return reference.nearest(x, units, fast)
    if backend == "native":
        from fastal_kernels.native import cosine as on_host

        return on_host.nearest(x, units, partial(_recompute, units))
    from fastal_kernels import cosine

    device = device_for(x)
    units = units.to(device)
    found = []
    for _, piece in _on(device, x):
        cluster, similarity = cosine.nearest(piece, units, fast)
        reference.recompute_in_float64(piece, units, similarity, cluster)
        found.append((cluster, similarity))
    clusters, similarities = zip(*found, strict=True)
    return torch.cat(clusters), torch.cat(similarities)


def similarities(x: Tensor, units: Tensor, fast: bool = False, *, backend: str) -> Tensor:
    """`fastal.ops.reference.similarities`, computed by `backend`, a name that `choose` returned."""
    if backend == "torch":
        return reference.similarities(x, units, fast)
    if backend == "native":
        from fastal_kernels.native import cosine as on_host

        return on_host.similarities(x, units, partial(_recompute, units))
    from fastal_kernels import cosine

    device = device_for(x)
    units = units.to(device)
    found = []
    for _, piece in _on(device, x):
        similarity = cosine.similarities(piece, units, fast)
        reference.recompute_in_float64(piece, units, similarity)
        found.append(similarity)
    return torch.cat(found)


def unit_sums(x: Tensor, cluster: Tensor, n_clusters: int, *, backend: str) -> Tensor:
    """`fastal.ops.reference.unit_sums`, computed by `backend`, a name that `choose` returned.

    On a GPU, torch's ops compute it.
    """
    if backend != "native":
        return reference.unit_sums(x, cluster, n_clusters)
    from fastal_kernels.native import cosine

    total, left = cosine.unit_sums(x, cluster, n_clusters)
    if len(left):
        # NumPy starts no threads.
        sums = total.numpy()
        sums += reference.unit_sums(x[left], cluster[left], n_clusters).numpy()
    return total


def _recompute(units: Tensor, x: Tensor, similarity: Tensor, *cluster: Tensor) -> None:
    reference.recompute_in_float64(x, units, similarity, *cluster)


def mean_ranks(x: Tensor, table: Tensor, *, backend: str) -> Tensor:
    """`fastal.ops.reference.mean_ranks`, computed by `backend`, a name that `choose` returned.

    For "triton", the rows and the table may be on the host. The table may be larger than the GPU's
    memory.
    """
    if backend == "torch":
        return reference.mean_ranks(x, table)
    if backend == "native":
        from fastal_kernels import native

        return native.mean_ranks(x, table)
    from fastal_kernels import ranks

    device = device_for(x)
    n_columns = max(1, _GPU_TABLE_BYTES // (table.shape[1] * table.element_size()))
    if n_columns >= len(table):
        table = table.to(device)
        return torch.cat([ranks.mean_ranks(piece, table) for _, piece in _on(device, x)])
    sums = torch.zeros(len(x), dtype=torch.int64, device=device)
    maxima = torch.full((len(x),), -math.inf, dtype=torch.float32, device=device)
    for columns, part in zip(
        torch.split(x, n_columns, 1), torch.split(table, n_columns), strict=True
    ):
        part = part.to(device)
        for start, piece in _on(device, columns):
            rows = slice(start, start + len(piece))
            ranks.add_ranks(piece, part, sums[rows], maxima[rows])
    return ranks.means_of(sums, maxima, table.numel())


def _on(device: torch.device, x: Tensor) -> Iterable[tuple[int, Tensor]]:
    """Pairs of first row and rows on a device: one pair if `x` is on the device already."""
    return [(0, x)] if x.device == device else staged(x, device)
