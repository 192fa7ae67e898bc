"""Scores of items of several rows: the scores of an item's rows become one.

The sums of an item are float64, and add its rows in order. So no bit depends on other items.
"""

import torch
from torch import Tensor

from fastal.ops.formulas import FORMULAS, Statistics
from fastal.ops.reference.uncertainty import LEAST_PROB, probs_tolerance

_PADDING = -100.0  # a row of such logits is padding, as Hugging Face writes it


def label_scores(x: Tensor, measures: list[str], kind: str, temperature: float) -> list[Tensor]:
    """The scores of labels that are independent: each is a problem of two classes.

    Args:
        x: any shape: the logits of labels, each against 0; or probabilities p, each against 1 - p.
        measures: names from `fastal.ops.formulas.UNCERTAINTY_SCORES`.
        kind: "multilabel_logits" or "multilabel_probs".
        temperature: logits are divided by it.

    Returns:
        float32 tensors of the shape of x, NaN for NaN, +inf and numbers that are no probability.
    """
    d = x.double()
    if kind == "multilabel_probs":
        tolerance = probs_tolerance(x.dtype, 2)
        is_valid = (d >= LEAST_PROB) & (d <= 1 + tolerance)
        p = d.clamp(0, 1)
        tail = torch.minimum(p, 1 - p) / torch.maximum(p, 1 - p)
        gap = tail.log().clamp_(min=-800.0)
    else:
        is_valid = d < torch.inf  # not NaN
        gap = (d.abs() / -temperature).clamp_(min=-800.0)
        tail = gap.exp()
    tail = tail.masked_fill(~is_valid, torch.nan)
    statistics = Statistics(tail, tail, gap * tail, 2)
    return [FORMULAS[measure](statistics).clamp_(max=1).float() for measure in measures]


def padding(x: Tensor) -> Tensor:
    """Which rows of logits [..., C] are padding: all their values are -100."""
    return (x == _PADDING).all(-1)


def aggregated(scores: Tensor, offsets: Tensor, aggregate: str | int) -> Tensor:
    """One score for each item from the scores of its rows.

    Args:
        scores: [rows] float32, NaN for rows that do not count.
        offsets: [n + 1] int64: the first row of each item, and the number of rows.
        aggregate: "mean", "sum", "max", "least"; or a number for the mean of so many highest
            scores, or of all if an item has fewer.

    Returns:
        [n] float32, NaN for items of which no row counts.
    """
    counts = scores.isfinite()
    n = _reduced(counts.double(), offsets, "sum", 0.0)
    if isinstance(aggregate, int):
        scores, n = _highest(scores, counts, offsets, aggregate), n.clamp(max=aggregate)
        counts = scores.isfinite()
    reduction = {"max": "max", "least": "min"}.get(str(aggregate), "sum")
    neutral = {"max": -torch.inf, "min": torch.inf, "sum": 0.0}[reduction]
    found = _reduced(scores.double().masked_fill(~counts, neutral), offsets, reduction, neutral)
    if aggregate == "mean" or isinstance(aggregate, int):
        found = found / n
    return found.masked_fill(n == 0, torch.nan).float()


def _reduced(values: Tensor, offsets: Tensor, reduction: str, neutral: float) -> Tensor:
    found: Tensor = torch.segment_reduce(
        values, reduction, offsets=offsets, initial=neutral, unsafe=True
    )
    return found


def _highest(scores: Tensor, counts: Tensor, offsets: Tensor, n: int) -> Tensor:
    """The scores, NaN for all but the n highest of each item. Of equal scores, the first stay."""
    lengths = offsets.diff()
    item = torch.repeat_interleave(
        torch.arange(len(lengths), dtype=torch.int64, device=scores.device), lengths
    )
    by_score = scores.masked_fill(~counts, -torch.inf).sort(descending=True, stable=True).indices
    order = by_score[item[by_score].sort(stable=True).indices]  # by item, the highest first
    place = torch.arange(len(scores), dtype=torch.int64, device=scores.device) - offsets[item]
    kept = torch.full_like(scores, torch.nan)
    chosen = order[place < n]
    kept[chosen] = scores[chosen]
    return kept
