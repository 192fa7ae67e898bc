"""Compares rows with earlier rows, in blocks, so that not all products are in memory at once."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastal.ops.reference import in_row_threads
from fastal.ops.reference.cosine import first_largest

_BLOCK_ROWS = 1024
_MULTIPLE = 64  # BLAS sums few rows in another order, and equal rows would not tie

Found = tuple[Tensor, Tensor, Tensor]


def near_duplicates(units: Tensor, groups: Sequence[Tensor], threshold: float) -> list[Found]:
    """Rows whose similarity to an earlier row of their group is at least the threshold.

    Similarities are compared as they are returned: computed in float64, and rounded to float32.
    Products in float32 find the most similar earlier row, unless another one is nearly as similar.
    Then the row is compared with all earlier rows again, in float64.

    Args:
        units: [M, D] float32, rows of length 1 or zeros.
        groups: of each group, [n] int64 on the same device: its rows of `units`, in order.
        threshold: the least similarity.

    Returns:
        For each group three tensors of equal length: the positions in it of the rows found, the
        positions of the most similar earlier row of each, of equals the first, and their
        similarities, float32.
    """
    starts = [(rows, start) for rows in groups for start in range(0, len(rows), _BLOCK_ROWS)]
    place = torch.empty(0, dtype=torch.int64, device=units.device)
    none = place, place, place.float()
    found = [none] * len(starts)

    def work(claimed: Iterator[slice]) -> None:
        for some in claimed:
            found[some] = [_found(units, *block, threshold) for block in starts[some]]

    in_row_threads(work, torch.empty(len(starts), 0, dtype=units.dtype, device=units.device), 1)
    of_blocks = iter(found)
    n_blocks = [-(-len(rows) // _BLOCK_ROWS) for rows in groups]
    return [_joined([none, *islice(of_blocks, n)]) for n in n_blocks]


def _found(units: Tensor, rows: Tensor, start: int, threshold: float) -> Found:
    """The rows found in the block of a group that begins at `start`."""
    # Twice the error of a product, which is also the most by which two of them may be out of order.
    margin = (units.shape[1] + 8) * 2.0**-23
    padded = torch.cat((rows, rows[:1].expand(-len(rows) % _MULTIPLE)))
    largest, second, earlier = (
        of_row[: len(rows) - start] for of_row in _most_similar(units, padded, start)
    )  # without the padding
    near = (largest >= threshold - margin).nonzero()[:, 0]
    if not len(near):
        return near, near, largest[near]
    unclear = (second[near] >= largest[near] - margin).nonzero()[:, 0]
    of = earlier[near]
    near += start
    if len(unclear):
        of[unclear] = _most_similar_in_float64(units, rows, near[unclear])
    similarity = _similarity(units[rows[near]], units[rows[of]])
    keep = similarity >= torch.tensor(threshold, dtype=torch.float32, device="cpu")
    return near[keep], of[keep], similarity[keep]


def _joined(parts: list[Found]) -> Found:
    which, earlier, similarity = map(torch.cat, zip(*parts, strict=True))
    return which, earlier, similarity


def _most_similar(units: Tensor, rows: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two largest products of each row of a block with earlier rows; the largest's position."""
    block = units[rows[start : start + _BLOCK_ROWS]]
    largest = torch.full((len(block),), -math.inf, dtype=torch.float32, device=units.device)
    second = largest.clone()
    earlier = torch.zeros(len(block), dtype=torch.int64, device=units.device)
    for first in range(0, start + 1, _BLOCK_ROWS):
        products = block @ units[rows[first : first + _BLOCK_ROWS]].t()
        if first == start:  # in the block itself, only rows before each row are earlier
            itself_and_later = torch.ones_like(products, dtype=torch.bool).triu_()
            products.masked_fill_(itself_and_later, -math.inf)
        at = first_largest(products)
        best = products.gather(1, at[:, None])[:, 0]
        next_best = products.scatter_(1, at[:, None], -math.inf).amax(1)
        second = second.maximum(next_best).maximum(best.minimum(largest))
        _replace_smaller(largest, earlier, best, at + first)
    return largest, second, earlier


def _most_similar_in_float64(units: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """The position of the first earlier row with the largest similarity, rounded to float32.

    Args:
        units: as for `near_duplicates`.
        rows: as for `near_duplicates`.
        places: [m] ascending positions in `rows` of the rows to compare, m >= 1.

    Returns:
        [m] int64.
    """
    compared = units[rows[places]].double()
    length = _length(compared)[:, None]
    largest = torch.full((len(places),), -math.inf, dtype=torch.float32, device=units.device)
    earlier = torch.zeros_like(places)
    for first in range(0, int(places[-1]), _BLOCK_ROWS):
        others = units[rows[first : first + _BLOCK_ROWS]].double()
        product = (compared @ others.t()).div_(length).div_(_length(others))
        similarity = product.clamp_(-1, 1).float()
        last = first + len(others)
        position = torch.arange(first, last, dtype=torch.int64, device=units.device)
        similarity.masked_fill_(position >= places[:, None], -math.inf)
        at = first_largest(similarity)
        best = similarity.gather(1, at[:, None])[:, 0]
        _replace_smaller(largest, earlier, best, at + first)
    return earlier


def _replace_smaller(largest: Tensor, earlier: Tensor, best: Tensor, at: Tensor) -> None:
    """Puts larger values, and their positions, in the place of smaller ones; ties stay."""
    is_better = best > largest
    largest[is_better] = best[is_better]
    earlier[is_better] = at[is_better]


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarities of pairs of rows, [n, D] each, in float64, then rounded to float32."""
    # How torch sums a row may depend on how many rows there are: on a GPU, and if there is one.
    n, fewest = len(a), 2 if a.device.type == "cpu" else _BLOCK_ROWS
    a, b = (pad(rows.double(), (0, 0, 0, max(0, fewest - n))) for rows in (a, b))
    similarity: Tensor = torch.linalg.vecdot(a, b) / (_length(a) * _length(b))
    return similarity[:n].clamp_(-1, 1).float()


def _length(rows: Tensor) -> Tensor:
    """The length of each row, [n]; 1 for rows of zeros."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return length.masked_fill(length == 0, 1)
