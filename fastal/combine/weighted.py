"""Weighted scores: several scores of the same rows, put on a common scale and combined."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.checks import check_choice, checked_count, checked_number
from fastal.base.errors import prefixing_errors
from fastal.base.row_numbers import RowNumbers
from fastal.combine.left_rows import left_rows
from fastal.combine.pool_scores import PoolScores, pool_scores
from fastal.combine.row_match import RowMatch, opened
from fastal.combine.stages import Stages
from fastal.picks.picks import Picks
from fastal.scoring.measure_for import By
from fastal.scoring.model_output import ModelOutput
from fastal.selection.topk import TopK
from fastal.uncertainty import output_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import StageOptions

_BLOCK = 1 << 20  # rows at once: bounds the memory beside the scores
_SCALES = ("rank", "range")
_COMBINATIONS = ("mean", "product")
_Floats = NDArray[np.float64]
_Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """A score that `weighted` combines with others.

    Attributes:
        pool: any pool that `fastal.select` takes and that can be read again.
        by: as for `fastal.select`.
        weight: a finite number above 0. Only the ratios of weights matter.
        kind: as for `fastal.select`.
        temperature: as for `fastal.select`.
        class_axis: as for `fastal.select`.
        draws_axis: as for `fastal.select`.
        aggregate: as for `fastal.select`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> probs = np.array([[0.9, 0.1], [0.6, 0.4]])
        >>> combine.weighted([combine.Part(probs, "entropy", kind="probs")], 1).rows
        array([1])
    """

    pool: Any
    by: By = "margin"
    weight: float = 1.0
    kind: str = "logits"
    temperature: float = 1.0
    class_axis: int = -1
    draws_axis: int | None = None
    aggregate: str | None = None

    def __post_init__(self) -> None:
        weight = checked_number("weight", self.weight)
        if not 0 < weight < np.inf:
            raise ValueError(f"weight: wanted a finite number above 0, got {self.weight}")
        object.__setattr__(self, "weight", weight)
        self.output  # noqa: B018 (checks it)

    @property
    def output(self) -> ModelOutput:
        """What the pool holds."""
        return ModelOutput(
            self.kind, self.temperature, self.class_axis, self.draws_axis, self.aggregate
        )


def weighted(
    parts: Sequence[Part | tuple[Any, By, float]],
    k: int,
    *,
    scale: str = "rank",
    combination: str = "mean",
    **options: "Unpack[StageOptions]",
) -> Picks:
    """The k rows with the highest weighted mean, or product, of several scores.

    Scores of different kinds have different distributions. So each is first put on the scale from 0
    to 1. Each pool is read once for each of its parts. Memory is 4 bytes per row and part, and 28
    bytes per row.

    Args:
        parts: at least one. Each is a `Part`, or its first three attributes as a tuple: a pool, a
            score and a weight, such as `(logits, "margin", 0.7)`. All pools have the same rows. If
            two pools have ids, their rows are matched by id, which takes 8 bytes per row and the
            ids.
        k: how many rows to pick, at least 1.
        scale: "rank" is the share of the other rows that have a lower score; other rows with an
            equal score count half. A row alone has 0.5. "range" is (score - lowest) / (highest -
            lowest). Only rows that are left, and valid in all parts, count.
        combination: "mean" is the weighted mean of the scaled scores. "product" is the product of
            the scaled scores, each to the power of its weight / the sum of the weights: a row with
            0 in one part has 0.
        options: the arguments of `fastal.select` that `StageOptions` names. They hold for all
            pools; `exclude` and `among` are about the rows of the first. Each part has a folder in
            the folder `checkpoint`.

    Returns:
        Picks, best first: exactly k, or with a warning all rows that are left. Rows, ids and
        carried columns are of the first pool. Scores are from 0 to 1. They are computed in float64,
        and ranked as float32. Ties go to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`; no row is left to pick; or,
            with "range", a part has an infinite score, or one score for all rows.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.1.7.

    Example:
        >>> import numpy as np
        >>> from fastal import combine, diversity
        >>> logits = np.array([[9, 0], [1, 0], [0, 0]], np.float32)
        >>> x = np.array([[-1, 0], [0, 1], [1, 0]], np.float32)
        >>> outliers = diversity.CentroidDistance(np.array([[1.0, 0.0]]))
        >>> picks = combine.weighted([(logits, "margin", 0.7), (x, outliers, 0.3)], k=2)
        >>> picks.rows, picks.scores
        (array([2, 1]), array([0.7, 0.5], dtype=float32))
    """
    stages = Stages(**options)
    k = checked_count("k", k)
    check_choice("scale", scale, _SCALES)
    check_choice("combination", combination, _COMBINATIONS)
    given = [_part(part, f"parts[{i}]") for i, part in enumerate(parts)]
    if not given:
        raise ValueError("parts: wanted at least one, got none")
    first, values, n_left = _scores(given, stages)
    rows = np.flatnonzero(np.logical_and.reduce([~np.isnan(of_part) for of_part in values]))
    combined = np.full(len(values[0]), np.nan, np.float32)
    total = np.zeros(len(rows))
    largest = max(part.weight for part in given)  # so that no sum of weights overflows
    shares = np.array([part.weight / largest for part in given])
    shares /= shares.sum()
    for i, of_part in enumerate(values):
        with prefixing_errors(f"parts[{i}]"):
            _add(total, of_part[rows], shares[i], scale, combination)
    combined[rows] = np.exp(total) if combination == "product" else total
    top = TopK(k)
    top.update(torch.from_numpy(combined), RowNumbers(len(combined), 0))
    picked, scores = top.best()
    n_invalid = n_left - len(rows) - first.invalid
    return first.chosen(k, picked, scores, "weighted", invalid=n_invalid)


def _part(given: Any, name: str) -> Part:
    """A part that was given as such or as a tuple."""
    if isinstance(given, Part):
        return given
    if not isinstance(given, tuple) or len(given) != 3:
        raise TypeError(
            f"{name}: wanted a Part or a tuple (pool, by, weight), got {type(given).__name__}"
        )
    with prefixing_errors(name):
        return Part(*given)


def _scores(parts: list[Part], stages: Stages) -> tuple[PoolScores, list[_Scores], int]:
    """The scores of the first part; the scores of all parts in its rows; how many rows are left."""
    pools = [opened(part.pool, f"parts[{i}]") for i, part in enumerate(parts)]
    left = left_rows(pools[0], stages, "parts[0]")
    found: list[PoolScores] = []
    values: list[_Scores] = []
    for i, (part, pool) in enumerate(zip(parts, pools, strict=True)):
        match = RowMatch(pools[0], pool, f"parts[{i}]", "parts[0]")
        output = output_of(part.pool, part.by, part.output)
        run = stages.run(f"part-{i}", **left.arguments(match))
        with prefixing_errors(f"parts[{i}]"):
            found.append(pool_scores(pool, part.by, output, stages.scoring, run, left.n_rows))
        values.append(match.column(found[-1].values))
    return found[0], values, left.n


def _add(total: _Floats, scores: _Scores, share: float, scale: str, combination: str) -> None:
    """Adds the scaled scores of a part, [n], or for a product their logarithms, in place."""
    scaled = _ranks if scale == "rank" else _in_range
    for first, block in scaled(scores):
        if combination == "product":
            with np.errstate(divide="ignore"):  # log 0 = -inf, as is right
                block = np.log(block)
        total[first : first + len(block)] += share * block


def _ranks(scores: _Scores) -> Iterator[tuple[int, _Floats]]:
    """The share of the other scores that are lower, equal ones counted half, block by block."""
    ascending = np.sort(scores)
    for first in range(0, len(scores), _BLOCK):
        block = scores[first : first + _BLOCK]
        below = np.searchsorted(ascending, block, "left")
        not_above = np.searchsorted(ascending, block, "right")
        others = len(scores) - 1
        yield first, (below + not_above - 1) / (2 * others) if others else np.full(1, 0.5)


def _in_range(scores: _Scores) -> Iterator[tuple[int, _Floats]]:
    """The scores from 0, the lowest, to 1, the highest, block by block."""
    if not len(scores):
        return
    low, high = float(scores.min()), float(scores.max())
    if not np.isfinite(high - low) or low == high:
        raise ValueError(
            f"scale: 'range' wanted finite scores that differ, got {low:g} to {high:g}; 'rank' "
            "takes any"
        )
    for first in range(0, len(scores), _BLOCK):
        block = scores[first : first + _BLOCK].astype(np.float64)
        yield first, (block - low) / (high - low)
