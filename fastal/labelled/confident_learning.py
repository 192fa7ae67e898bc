"""Confident learning as a reducer of two passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.reducer import Pending, RowStart
from fastal.base.row_values import RowValues
from fastal.labelled.given_labels import UNLABELLED, classes_of, values_of_labels
from fastal.ops.reference import label_confidence, suggested_classes
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_BLOCK = 1 << 20  # rows whose self-confidences are in float64 at once


@dataclass(frozen=True, eq=False, repr=False)
class LabelQuality:
    """What the predictions of a model say of the labels of N rows.

    Both scores are small where the label is likely wrong: sort them in ascending order to see the
    worst labels first. (The scores of `fastal.score` are the other way round: large = uncertain.)

    The arrays of rows and of issues are of the kind and on the device of the pool; for pools of
    files they are NumPy arrays.

    Attributes:
        self_confidence: [N] float32 in [0, 1], the probability of the given label; NaN for rows
            that are invalid or have no label.
        normalized_margin: [N] float32 in [0, 1], (p − q + 1) / 2, where p is the probability of the
            given label and q the largest of the other classes. Below 0.5, another class is more
            probable than the label. NaN as above.
        thresholds: [C] float64, a NumPy array: for each class, the mean self-confidence of the rows
            with this label; NaN for a class that no valid row has as its label.
        issues: [m] int64, the numbers of the rows whose label is an issue, the worst first: in
            ascending order of the normalized margin, ties by row number.
        given: [m] int64, the label of each issue.
        suggested: [m] int64, the class that each issue likely belongs to.
        invalid: how many rows with a label were left out as invalid.
        unlabelled: how many rows have no label.

    Example:
        >>> import fastal, numpy as np
        >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.95, 0.05]])
        >>> quality = fastal.label_quality(probs, [0, 0, 1, 1], kind="probs")
        >>> quality
        LabelQuality: 1 issue in 4 rows of 2 classes
        >>> quality.self_confidence
        array([0.9 , 0.8 , 0.7 , 0.05], dtype=float32)
        >>> quality.thresholds.round(3)
        array([0.85 , 0.375])
        >>> quality.issues, quality.given, quality.suggested
        (array([3]), array([1]), array([0]))
    """

    self_confidence: Any
    normalized_margin: Any
    thresholds: NDArray[np.float64]
    issues: Any
    given: Any
    suggested: Any
    invalid: int
    unlabelled: int

    def __repr__(self) -> str:
        n_issues, n_rows = len(self.issues), len(self.self_confidence)
        issues = "issue" if n_issues == 1 else "issues"
        counts = [
            f"{n_issues:,} {issues} in {n_rows:,} rows of {len(self.thresholds):,} classes",
            f"{self.invalid:,} invalid" if self.invalid else "",
            f"{self.unlabelled:,} without a label" if self.unlabelled else "",
        ]
        return f"LabelQuality: {', '.join(filter(None, counts))}"


class ConfidentLearning(ScoringReducer[LabelQuality]):
    """Finds label issues, as a reducer of two passes. `label_quality` runs it over a pool.

    The first pass computes the scores of each row, and from them the thresholds. The second pass
    finds the issues. The state is 12 bytes per row and 24 per issue. The reducer cannot be merged,
    since the second pass needs the thresholds of all rows.

    Args:
        kind: "logits", "probs" or "log_probs".
        temperature: logits are divided by it.
        on_invalid: "raise", or "skip" to leave out invalid rows and count them.
        backend: "auto" or "torch".

    Raises:
        ValueError: a bad argument; the message names it.
    """

    takes_groups = True
    filters_rows = False
    max_passes = 2

    def __init__(
        self,
        kind: str = "logits",
        temperature: float = 1.0,
        *,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        # Of the score, only the checks of rows are used.
        super().__init__(_Predictions(("margin",), kind), ScoringOptions(on_invalid, backend))
        self._output = ModelOutput(kind, temperature)
        self._n_classes = 0
        self._unlabelled = 0
        self._labels = RowValues(UNLABELLED, torch.int32)
        self._confidence = RowValues(torch.nan, torch.float32)
        self._margin = RowValues(torch.nan, torch.float32)
        self._thresholds: NDArray[np.float64] | None = None  # known from the second pass on
        # Rows, labels and suggested classes of the issues that the second pass found.
        self._found: list[tuple[NDArray[np.int64], ...]] = []

    def update(self, chunk: Any, start: RowStart = None, groups: Any = None) -> None:  # type: ignore[override]
        """Reads rows start, start + 1, ... of the pool and adds them to the state.

        Args:
            chunk: [n, C] predictions.
            start: as for `Reducer.update`.
            groups: the labels of the rows: [n] integers from 0 to C - 1 or None, as an array or a
                list, or `fastal.base.groups.Groups`.

        Raises:
            InvalidRows: with on_invalid="raise".
            ValueError, TypeError: the chunk is no such array, or there is not one such label for
                each row.
        """
        super().update(chunk, start, groups=groups)

    def look(self, chunk: Any, start: RowStart = None, groups: Any = None) -> Pending:
        """Scores rows, or finds their issues; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        labels = classes_of(groups, rows.numbers, rows.x.shape[1])
        if self._thresholds is None:
            return self._score(rows, labels)
        return self._find(rows, labels, torch.from_numpy(self._thresholds))

    def _score(self, rows: Rows, labels: NDArray[np.int64]) -> Pending:
        places = np.flatnonzero(labels != UNLABELLED)
        found = label_confidence(
            rows.x, _on(rows.x, places), _on(rows.x, labels[places]), self._output.kind,
            self._output.temperature,
        )  # fmt: skip
        confidence, margin = torch.full(
            (2, len(labels)), torch.nan, dtype=torch.float32, device="cpu"
        )
        for column, of_labelled in zip((confidence, margin), found, strict=True):
            column[torch.from_numpy(places)] = of_labelled.cpu()
        is_unlabelled = torch.from_numpy(labels == UNLABELLED)
        n_invalid = int(found[0].isnan().sum())

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: confidence.masked_fill(is_unlabelled, 0))
            self._n_classes = rows.x.shape[1]
            self._unlabelled += len(labels) - len(places)
            self._labels.write(rows.numbers, torch.from_numpy(labels).int())
            self._confidence.write(rows.numbers, confidence)
            self._margin.write(rows.numbers, margin)

        return Pending(commit)

    def _find(self, rows: Rows, labels: NDArray[np.int64], thresholds: Tensor) -> Pending:
        x = rows.x
        labelled = np.flatnonzero(labels != UNLABELLED)
        # A label that is the most probable class is no issue, so most rows need no exponentials.
        is_below = values_of_labels(x, labelled, labels[labelled]) < x.amax(1)[_on(x, labelled)]
        doubtful = labelled[is_below.cpu().numpy()]
        given = labels[doubtful]
        found = suggested_classes(
            x, _on(x, doubtful), _on(x, given), thresholds.to(x.device), self._output.kind,
            self._output.temperature,
        )  # fmt: skip
        suggested = found.cpu().numpy()
        is_issue = suggested >= 0
        columns = rows.numbers.at(doubtful[is_issue]), given[is_issue], suggested[is_issue]

        def commit() -> None:
            self._scorer.record(rows, 0, lambda: found)
            self._found.append(columns)

        return Pending(commit)

    def next_pass(self) -> bool:
        """Ends a pass; returns whether it was the first.

        Raises:
            ValueError: no valid row has a label.
        """
        if self._thresholds is not None:
            return False
        for column in (self._labels, self._confidence, self._margin):
            column.trim()
        thresholds = self._means()
        if np.isnan(thresholds).all():
            raise ValueError("labels: wanted a label for at least one valid row, got none")
        self._thresholds = thresholds
        self._scorer.next_row = 0
        return True

    def _means(self) -> NDArray[np.float64]:
        """The mean self-confidence of each class, [C]; NaN for classes without rows.

        The rows are summed in the order of their numbers, so no chunking changes the sums.
        """
        sums = np.zeros(self._n_classes)
        n_rows = np.zeros(self._n_classes, np.int64)
        for first in range(0, self._labels.n_rows, _BLOCK):
            labels, confidence = (
                column.values[first : first + _BLOCK].numpy()
                for column in (self._labels, self._confidence)
            )
            counted = ~np.isnan(confidence)
            of = labels[counted]
            sums += np.bincount(of, confidence[counted], self._n_classes)
            n_rows += np.bincount(of, minlength=self._n_classes)
        means = np.full(self._n_classes, np.nan)
        np.divide(sums, n_rows, out=means, where=n_rows > 0)
        return means

    def result(self) -> LabelQuality:
        """The scores and thresholds of the rows so far, and the issues that were found so far.

        The arrays are of the kind of the last chunk, or NumPy if there was none.
        """
        rows, given, suggested = self._columns()
        order = np.lexsort((rows, self._margin.values.numpy()[rows]))
        thresholds = self._means() if self._thresholds is None else self._thresholds.copy()
        confidence, margin = self._confidence.values.clone(), self._margin.values.clone()
        convert = self._scorer.to_caller_kind
        issues, given, suggested = (
            convert(torch.from_numpy(column[order])) for column in (rows, given, suggested)
        )
        return LabelQuality(
            convert(confidence), convert(margin), thresholds, issues, given, suggested,
            self.invalid, self._unlabelled,
        )  # fmt: skip

    def _columns(self) -> list[NDArray[np.int64]]:
        none = (np.empty(0, np.int64),) * 3
        return [np.concatenate(columns) for columns in zip(none, *self._found, strict=True)]

    @property
    def strategy(self) -> str:
        """Its name."""
        return "label_quality"

    def identity(self) -> dict[str, Any]:
        """The strategy, and what the rows are."""
        return {
            "strategy": "label_quality",
            "kind": self._output.kind,
            "temperature": self._output.temperature,
        }

    def _state(self) -> dict[str, Any]:
        return {
            **super()._state(),
            "n_classes": self._n_classes,
            "unlabelled": self._unlabelled,
            "labels": self._labels.values.numpy().copy(),
            "confidence": self._confidence.values.numpy().copy(),
            "margin": self._margin.values.numpy().copy(),
            "thresholds": None if self._thresholds is None else self._thresholds.copy(),
            "found": self._columns(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        n_classes, unlabelled, thresholds, found = (
            state[name] for name in ("n_classes", "unlabelled", "thresholds", "found")
        )
        columns = [state[name] for name in ("labels", "confidence", "margin")]
        super()._restore(state)
        self._n_classes, self._unlabelled = n_classes, unlabelled
        ours = (self._labels, self._confidence, self._margin)
        for column, values in zip(ours, columns, strict=True):
            column.load(torch.from_numpy(values.copy()))
        self._thresholds = None if thresholds is None else thresholds.copy()
        self._found = [tuple(found)]


class _Predictions(UncertaintyScore):
    """Predictions whose labels are judged: which of them are valid, and what is wrong with others.

    Their probabilities are computed in float64, by torch.
    """

    offers = ("torch",)


def _on(x: Tensor, numbers: NDArray[np.int64]) -> Tensor:
    """Numbers as a tensor on the device of `x`."""
    return torch.from_numpy(numbers).to(x.device)
