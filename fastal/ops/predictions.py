"""The ops over predictions, each computed by the chosen backend."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastal.ops import reference
from fastal.ops.backend_choice import device_for
from fastal.ops.transfer import staged


def uncertainty(
    logits: Tensor,
    measures: Sequence[str],
    kind: str = "logits",
    temperature: float = 1.0,
    *,
    backend: str,
) -> list[Tensor]:
    """`fastal.ops.reference.uncertainty`, computed by `backend`, a name that `choose` returned."""
    if backend == "torch":
        return reference.uncertainty(logits, measures, kind, temperature)
    if backend == "native":
        from fastal_kernels import native

        return native.uncertainty(logits, measures, kind, temperature)
    from fastal_kernels.uncertainty import uncertainty

    device = device_for(logits)
    if device == logits.device:
        return uncertainty(logits, measures, kind, temperature)
    pieces = [
        uncertainty(piece, measures, kind, temperature) for _, piece in staged(logits, device)
    ]
    return [torch.cat(scores) for scores in zip(*pieces, strict=True)]


def scores_and_invalid(
    logits: Tensor, measures: Sequence[str], kind: str, temperature: float = 1.0, *, backend: str
) -> tuple[list[Tensor], int]:
    """The result of `uncertainty` for at least one measure, and the number of invalid rows."""
    if backend == "native":
        from fastal_kernels import native

        return native.scores_and_invalid(logits, measures, kind, temperature)
    scores = uncertainty(logits, measures, kind, temperature, backend=backend)
    return scores, int(scores[0].isnan().sum())


def candidates(
    k: int, device: torch.device, segment: int, threshold: tuple[float, int] | None
) -> Any:
    """`fastal_kernels.topk.Candidates`: the rows that `select` lets pass on a device."""
    from fastal_kernels.topk import Candidates

    return Candidates(k, device, segment, threshold)


def select(
    logits: Tensor,
    measure: str,
    kind: str,
    first_row: int,
    into: Any,
    temperature: float = 1.0,
) -> int:
    """`fastal_kernels.uncertainty.select`: scores and selects; returns the invalid rows' number."""
    from fastal_kernels.uncertainty import select

    device = device_for(logits)
    if device == logits.device:
        return select(logits, measure, kind, first_row, into, temperature)
    return sum(
        select(piece, measure, kind, first_row + start, into, temperature)
        for start, piece in staged(logits, device)
    )


def scores_above_threshold(
    logits: Tensor,
    measure: str,
    kind: str,
    first_row: int,
    threshold: tuple[float, int] | None,
    temperature: float = 1.0,
    k: int = 0,
) -> tuple[Tensor, Tensor, int, tuple[float, int]]:
    """`fastal_kernels.native.scores_above_threshold`: the rows whose scores beat a threshold."""
    from fastal_kernels import native

    return native.scores_above_threshold(
        logits, measure, kind, first_row, threshold, temperature, k
    )
