"""The uncertainty scores of hidden states by a linear head, computed by the chosen backend."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastal.ops import reference
from fastal.ops.backend_choice import device_for
from fastal.ops.items import of_rows, row_blocks
from fastal.ops.predictions import scores_and_invalid
from fastal.ops.transfer import staged

_PADDING_ROWS = 4096  # that are compared at once


def head_scores(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    measures: Sequence[str],
    *,
    backend: str,
) -> tuple[list[Tensor], int]:
    """The scores of the logits of rows, which are never in memory together.

    Args:
        hidden: [N, H], see `fastal.ops.reference.logits_blocks`. With "triton", it may be on the
            host.
        weight: [C, H] on any device. It is copied to the device that computes the scores.
        bias: [C] float32 on any device; None: 0.
        temperature: what logits are divided by, above 0.
        measures: names from `fastal.ops.formulas.UNCERTAINTY_SCORES`, at least one.
        backend: a name that `choose` returned.

    Returns:
        For each measure, the scores [N] float32, on the device that computed them; and the number
        of invalid rows.
    """
    logits_blocks = reference.logits_blocks
    device = device_for(hidden) if backend == "triton" else hidden.device
    if backend == "native":
        from fastal_kernels.native.head import logits_blocks
    weight, bias = weight.to(device), None if bias is None else bias.to(device)
    scores = torch.empty(len(measures), len(hidden), dtype=torch.float32, device=device)
    n_invalid = 0
    pieces = [(0, hidden)] if hidden.device == device else staged(hidden, device)
    for first, piece in pieces:
        for start, logits in logits_blocks(piece, weight, bias, temperature):
            found, invalid = scores_and_invalid(logits, measures, "logits", backend=backend)
            for column, of_block in zip(scores, found, strict=True):
                column[first + start : first + start + len(logits)] = of_block
            n_invalid += invalid
    return list(scores), n_invalid


def head_item_scores(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    measures: Sequence[str],
    *,
    aggregate: str | int,
    offsets: Tensor | None,
    mask: Tensor | None,
    backend: str,
) -> tuple[list[Tensor], int]:
    """The scores of items of several hidden states.

    Args:
        x: [n, T, H], or with offsets [rows, H]; see `head_scores`. A row of which all values are
            -100 is padding.
        weight: see `head_scores`.
        bias: see `head_scores`.
        temperature: see `head_scores`.
        measures: see `head_scores`.
        aggregate: how the scores of an item's rows become one, see `reference.aggregated`.
        offsets: see `of_rows`.
        mask: see `of_rows`.
        backend: see `head_scores`.

    Returns:
        For each measure, the scores [n] float32, NaN for items of which no row counts; and the
        number of these items.
    """
    pieces = []
    for block in row_blocks(x, backend) if offsets is None else [x]:
        scores, _ = head_scores(block, weight, bias, temperature, measures, backend=backend)
        for first in range(0, len(block), _PADDING_ROWS):
            part = slice(first, first + _PADDING_ROWS)
            is_padding = reference.padding(block[part]).to(scores[0].device)
            for column in scores:
                column[part].masked_fill_(is_padding, torch.nan)
        pieces.append(scores)
    rows = [torch.cat(columns) for columns in zip(*pieces, strict=True)]
    return of_rows(rows, x, aggregate=aggregate, offsets=offsets, mask=mask)
