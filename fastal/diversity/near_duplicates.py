"""Compares rows with earlier rows, in blocks, so that not all products are in memory at once."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from fastal.ops.reference import in_row_threads
from fastal.ops.reference.cosine import first_largest

_BLOCK_ROWS = 1024
_MULTIPLE = 64  # BLAS sums few rows in another order, and equal rows would not tie


Found = tuple[Tensor, Tensor, Tensor]


def near_duplicates(units: Tensor, groups: Sequence[Tensor], threshold: float) -> list[Found]:
    """Rows whose similarity to an earlier row of their group is at least the threshold.

    Args:
        units: [M, D] float32, rows of length 1 or zeros.
        groups: of each group, [n] int64 on the same device with n >= 1: its rows of `units`, in
            order.
        threshold: the least similarity.

    Returns:
        For each group three tensors of equal length: the positions in it of the rows found, the
        positions of the most similar earlier row of each, and their similarities, float32.
    """
    starts = [(rows, start) for rows in groups for start in range(0, len(rows), _BLOCK_ROWS)]
    found: list[Found | None] = [None] * len(starts)

    def work(claimed: Iterator[slice]) -> None:
        for block in claimed:
            found[block] = [_found(units, *one, threshold) for one in starts[block]]

    in_row_threads(work, torch.empty(len(starts), 0, dtype=units.dtype, device=units.device), 1)
    of_blocks = iter(found)
    return [_joined(list(islice(of_blocks, -(-len(rows) // _BLOCK_ROWS)))) for rows in groups]


def _found(units: Tensor, rows: Tensor, start: int, threshold: float) -> Found:
    """The rows found of a group's block that begins at `start`."""
    margin = (units.shape[1] + 8) * 2.0**-23  # allows for the error of the products
    padded = torch.cat((rows, rows[:1].expand(-len(rows) % _MULTIPLE)))
    similarity, earlier = _most_similar(units, padded, start)
    similarity = similarity[: len(rows) - start]  # without the padding
    near = (similarity >= threshold - margin).nonzero()[:, 0]
    of = earlier[near]
    near += start
    exact = _similarity(units[rows[near]], units[rows[of]])
    keep = exact >= torch.tensor(threshold, dtype=torch.float32, device="cpu")
    return near[keep], of[keep], exact[keep]


def _joined(parts: list[Found | None]) -> Found:
    which, earlier, similarity = map(torch.cat, zip(*filter(None, parts), strict=True))
    return which, earlier, similarity


def _most_similar(units: Tensor, rows: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The largest product of each row of a block with an earlier row, and that row's position."""
    block = units[rows[start : start + _BLOCK_ROWS]]
    largest = torch.full((len(block),), -math.inf, dtype=torch.float32, device=units.device)
    earlier = torch.zeros(len(block), dtype=torch.int64, device=units.device)
    for first in range(0, start + 1, _BLOCK_ROWS):
        products = block @ units[rows[first : first + _BLOCK_ROWS]].t()
        if first == start:  # in the block itself, only rows before each row are earlier
            itself_and_later = torch.ones_like(products, dtype=torch.bool).triu_()
            products.masked_fill_(itself_and_later, -math.inf)
        at = first_largest(products)
        best = products.gather(1, at[:, None])[:, 0]
        is_better = best > largest  # ties go to the first
        largest[is_better] = best[is_better]
        earlier[is_better] = at[is_better] + first
    return largest, earlier


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarities of pairs of rows, [n, D] each, in float64, then rounded to float32."""
    a, b = a.double(), b.double()
    length = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    similarity: Tensor = torch.linalg.vecdot(a, b) / length.masked_fill(length == 0, 1)
    return similarity.clamp_(-1, 1).float()
