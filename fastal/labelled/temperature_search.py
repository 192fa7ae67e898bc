"""The search for the best temperature over labelled rows, as a reducer."""

import logging
import math
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.checks import check_choice
from fastal.base.reducer import Pending, RowStart
from fastal.labelled.bracket import FIRST_BETAS, Bracket
from fastal.labelled.given_labels import UNLABELLED, WrongLabel, classes_of, values_of_labels
from fastal.labelled.loss_sums import Point, calibration_error_of, loss_sums, n_sums_of, points_of
from fastal.labelled.temperature_fit import TemperatureFit
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_log = logging.getLogger("fastal")
# Least slope at a beta near 0, relative to the spread of the logits. Rounding alone gives 1e-15.
_NO_SLOPE = 1e-12


class TemperatureSearch(ScoringReducer[TemperatureFit]):
    """Finds the T > 0 that minimises the mean negative log-likelihood of softmax(logits / T).

    Each pass evaluates the loss and its two derivatives at several temperatures, and narrows a
    bracket around the minimum; see `Bracket`. Sums over rows are exact. So the result is the same
    bits for any chunks, any order of chunks and any order of merging.

    Args:
        kind: "logits" or "log_probs".
        on_invalid: as for `fastal.select`.
    """

    takes_groups = True
    max_passes = 12

    def __init__(self, kind: str = "logits", on_invalid: str = "raise") -> None:
        if kind == "probs":
            raise ValueError(
                "kind: wanted logits or log_probs, got 'probs'; give the logarithms of the "
                "probabilities with kind='log_probs'"
            )
        check_choice("kind", kind, ("logits", "log_probs"))
        # Of the score, only NaN for invalid rows is used.
        super().__init__(
            UncertaintyScore(("margin",), kind), ScoringOptions(on_invalid, backend="auto")
        )
        self._betas = list(FIRST_BETAS)
        self._bracket: Bracket | None = None
        self._before: tuple[float, float] | None = None  # loss and calibration error at T = 1
        self._fit: TemperatureFit | None = None
        self._begin_pass()

    def _begin_pass(self) -> None:
        self._totals = [0] * n_sums_of(self._betas)
        self._n_rows = 0
        self._n_unlabelled = 0
        self._extremes: set[int] = set()  # labels, the lowest and the highest among them
        self._scorer.invalid = 0
        self._scorer.next_row = 0

    def look(self, chunk: Any, start: RowStart = None, groups: Any = None) -> Pending:
        """Reads rows [n, C] with labels, `groups`; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        classes = classes_of(groups, rows.numbers, rows.x.shape[1])
        is_read = np.ones(len(classes), bool) if rows.kept is None else rows.kept
        is_labelled = classes != UNLABELLED
        (scores,), _ = self._scorer.scores(rows)
        scores = scores.cpu().masked_fill(torch.from_numpy(~is_labelled), 0)
        n_invalid = int(rows.invalid(scores).count_nonzero())
        places = np.flatnonzero(is_read & is_labelled & ~scores.isnan().numpy())
        labels = classes[places]
        self._check_possible(rows, places, labels)
        totals = loss_sums(rows.x, places, labels, self._betas)
        n_unlabelled = int(np.count_nonzero(is_read & ~is_labelled))
        extremes = {int(labels.min()), int(labels.max())} if len(labels) else set()

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: scores)
            self._add(totals, len(places), n_unlabelled, extremes)

        return Pending(commit)

    def _add(self, totals: list[int], n_rows: int, n_unlabelled: int, extremes: set[int]) -> None:
        self._totals = [ours + more for ours, more in zip(self._totals, totals, strict=True)]
        self._n_rows += n_rows
        self._n_unlabelled += n_unlabelled
        self._extremes |= extremes

    def _check_possible(
        self, rows: Rows, places: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> None:
        """WrongLabel if the model rules out the label of one of these rows."""
        values = values_of_labels(rows.x, places, labels)
        ruled_out = values.isneginf().nonzero()[:, 0].cpu().numpy()
        if len(ruled_out):
            first = ruled_out[0]
            raise WrongLabel(
                f"labels: row {rows.numbers.at(places[first])} has label {labels[first]}, whose "
                f"value is -inf, so the loss is infinite at every temperature; "
                f"{len(ruled_out)} such among rows {rows.start} to {rows.numbers.stop - 1}"
            )

    def next_pass(self) -> bool:
        """Narrows the bracket, unless the result is found. See `Reducer.next_pass`."""
        if self._fit is not None:
            return False
        n = self._n_rows
        if not n:
            raise ValueError(
                f"labels: wanted at least one row with a label, got none: {self._n_unlabelled} "
                f"rows without a label and {self.invalid} invalid rows"
            )
        points = points_of(self._totals, self._betas, n)
        first, error = points[0], calibration_error_of(self._totals, n)
        if self._bracket is None:
            self._before = first.loss, error
            low, *_, high = sorted(points, key=lambda point: point.beta)
            self._check_minimum(low, high)
            self._bracket = Bracket(low, high)
        self._bracket = self._bracket.narrowed(points)
        if self._bracket.is_enough and first in (self._bracket.low, self._bracket.high):
            self._finish(first, error)
            return False
        self._betas = self._bracket.trials()
        self._begin_pass()
        return True

    def _check_minimum(self, low: Point, high: Point) -> None:
        """ValueError unless the loss falls at the least beta and rises at the largest."""
        if -low.slope <= _NO_SLOPE * math.sqrt(low.curvature):
            raise ValueError(
                "labels: no temperature is best: the loss falls as T grows without end, because "
                "the predictions are no better than chance; wanted labels of these rows, in their "
                "order"
            )
        if high.slope <= 0:
            raise ValueError(
                "labels: no temperature is best: the loss falls as T falls to 0, because each of "
                f"the {self._n_rows} labels has the largest value of its row; wanted rows that "
                "the model was not trained on, some of them misclassified"
            )

    def _finish(self, found: Point, calibration_error: float) -> None:
        assert self._before is not None
        if len(self._extremes) == 1:
            _log.warning(
                "labels: all %d labels are %d: the temperature suits this class alone",
                self._n_rows, *self._extremes,
            )  # fmt: skip
        loss, error = self._before
        self._fit = TemperatureFit(
            1 / found.beta, loss, found.loss, error, calibration_error, self._n_rows,
            self._n_unlabelled, self.invalid,
        )  # fmt: skip

    def part(self) -> "TemperatureSearch":
        """A search in the same pass that has read no rows of it; see `merge`."""
        part = self._unread()
        part._begin_pass()
        return part

    def merge(self, other: "TemperatureSearch") -> None:
        """Adds the sums over other rows of the same pass.

        Raises:
            ValueError: the other has other arguments, or is in another pass.
            TypeError: the other is not a `TemperatureSearch`, or is this very reducer.
        """
        self._check_mergeable(other)
        if self._betas != other._betas:
            raise ValueError("merge: the other is in another pass")
        self._scorer.merge(other._scorer)
        self._add(other._totals, other._n_rows, other._n_unlabelled, other._extremes)

    def result(self) -> TemperatureFit:
        """The temperature, after the last pass.

        Raises:
            ValueError: `next_pass` asked for another pass, or was not called.
        """
        if self._fit is None:
            raise ValueError(
                "result: the search is not done: wanted passes until next_pass is False"
            )
        return self._fit

    def _state(self) -> dict[str, Any]:
        bracket = self._bracket
        return {
            **super()._state(),
            "betas": list(self._betas),
            "bracket": None if bracket is None else [astuple(bracket.low), astuple(bracket.high)],
            "before": self._before,
            "totals": list(self._totals),
            "n_rows": self._n_rows,
            "n_unlabelled": self._n_unlabelled,
            "extremes": sorted(self._extremes),
            "fit": None if self._fit is None else astuple(self._fit),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        bracket, before, fit = (state[name] for name in ("bracket", "before", "fit"))
        super()._restore(state)
        self._betas, self._totals = list(state["betas"]), list(state["totals"])
        self._bracket = None if bracket is None else Bracket(*(Point(*end) for end in bracket))
        self._before = None if before is None else tuple(before)
        self._n_rows, self._n_unlabelled = state["n_rows"], state["n_unlabelled"]
        self._extremes = set(state["extremes"])
        self._fit = None if fit is None else TemperatureFit(*fit)
