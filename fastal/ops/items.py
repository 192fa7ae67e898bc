"""The scores of items of several rows, computed by the chosen backend."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastal.ops import reference
from fastal.ops.predictions import uncertainty

_BLOCK_BYTES = 32 << 20  # of rows that are copied so that the classes of a row lie side by side
# Of items that are scored and aggregated together, on the host and on a GPU: labels and sums take
# several times as much, since they are float64.
_PIECE_BYTES, _GPU_PIECE_BYTES = 4 << 20, 64 << 20


def item_scores(
    x: Tensor,
    measures: Sequence[str],
    kind: str,
    *,
    aggregate: str | int,
    temperature: float,
    offsets: Tensor | None,
    mask: Tensor | None,
    backend: str,
) -> tuple[list[Tensor], int]:
    """`fastal_kernels.native.items.item_scores`, computed by `backend`."""
    if backend == "native":
        from fastal_kernels.native.items import item_scores

        return item_scores(
            x, measures, kind, aggregate=aggregate, temperature=temperature, offsets=offsets,
            mask=mask,
        )  # fmt: skip
    found, n_invalid = [], 0
    for part, bounds, kept in _pieces(x, offsets, mask):
        rows = _row_scores(part, list(measures), kind, temperature, offsets is not None, backend)
        scores, invalid = of_rows(rows, part, aggregate=aggregate, offsets=bounds, mask=kept)
        found.append(scores)
        n_invalid += invalid
    return [torch.cat(columns) for columns in zip(*found, strict=True)], n_invalid


def _pieces(
    x: Tensor, offsets: Tensor | None, mask: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Items one after the other, as values, offsets and mask; at least one piece."""
    most = _GPU_PIECE_BYTES if x.is_cuda else _PIECE_BYTES
    row_bytes = max(1, x[:1].numel() * x.element_size())  # without offsets, of an item
    step = max(1, most // row_bytes)
    if offsets is None:
        for first in range(0, max(1, len(x)), step):
            kept = None if mask is None else mask[first : first + step]
            yield x[first : first + step], None, kept
        return
    bounds, n, first = offsets.cpu(), len(offsets) - 1, 0
    while first < n or first == 0:
        stop = int(torch.searchsorted(bounds, bounds[first] + step, right=True)) - 1
        stop = min(n, max(first + 1, stop))
        rows = slice(int(bounds[first]), int(bounds[stop]))
        yield x[rows], offsets[first : stop + 1] - rows.start, None if mask is None else mask[rows]
        first = max(1, stop)


def of_rows(
    rows: list[Tensor],
    x: Tensor,
    *,
    aggregate: str | int,
    offsets: Tensor | None,
    mask: Tensor | None,
) -> tuple[list[Tensor], int]:
    """The scores of items by those of their rows, and how many items are invalid.

    Args:
        rows: for each score, [rows] float32, NaN for rows that do not count.
        x: the items; without offsets, [n, T, ...].
        aggregate: see `reference.aggregated`; "" for the scores of the rows as they are.
        offsets: [n + 1] int64: the first row of each item; None: each has T rows.
        mask: bool, which rows count, in their order; None: all.
    """
    device = rows[0].device
    if mask is not None:
        left_out = ~mask.reshape(-1).to(device)
        rows = [scores.masked_fill(left_out, torch.nan) for scores in rows]
    if offsets is None:
        offsets = torch.arange(len(x) + 1, dtype=torch.int64, device=device) * x.shape[1]
    offsets = offsets.to(device)
    counts = reference.aggregated(rows[0], offsets, "max")
    n_invalid = int(counts.isnan().sum())
    if not aggregate:
        return rows, n_invalid
    return [reference.aggregated(scores, offsets, aggregate) for scores in rows], n_invalid


def _row_scores(
    x: Tensor, measures: list[str], kind: str, temperature: float, are_rows: bool, backend: str
) -> list[Tensor]:
    """The scores of all rows, [rows] each, NaN for rows that are invalid or padding."""
    if kind.startswith("multilabel"):
        return [
            scores.reshape(-1) for scores in reference.label_scores(x, measures, kind, temperature)
        ]
    pieces = []
    for block in [x] if are_rows else row_blocks(x, backend):
        scores = uncertainty(block, measures, kind, temperature, backend=backend)
        if kind != "probs":
            is_padding = reference.padding(block)
            scores = [column.masked_fill(is_padding, torch.nan) for column in scores]
        pieces.append(scores)
    if not pieces:
        return [x.new_empty(0, dtype=torch.float32) for _ in measures]
    return [torch.cat(columns) for columns in zip(*pieces, strict=True)]


def row_blocks(x: Tensor, backend: str) -> Iterator[Tensor]:
    """The rows of items [n, T, C] as matrices, in order: views where possible."""
    n, length, n_classes = x.shape
    if x.stride(0) == length * x.stride(1) or n <= 1:
        yield x.reshape(-1, n_classes)
        return
    item_bytes = max(1, length * n_classes * x.element_size())
    # The Triton kernels take any strides, the rows of one item at a time.
    step = 1 if backend == "triton" else max(1, _BLOCK_BYTES // item_bytes)
    for first in range(0, n, step):
        yield x[first : first + step].reshape(-1, n_classes)
