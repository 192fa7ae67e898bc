"""Adaptive representative sampling, as a reducer with one pass for each pick."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.checks import check_same
from fastal.base.reducer import Pending, RowStart
from fastal.ops.reference import unit_sums
from fastal.picks.picks import Picks
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scorer import Scorer
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.ties import Best


class Adaptive(ScoringReducer[Picks]):
    """Picks k rows. Each pass picks the most representative row and adds it to the training data.

    Args:
        k: how many rows to pick, at least 1.
        of_pool: [1, D] int64, `unit_sums` of the pool.
        of_training: [1, D] int64, `unit_sums` of the training data.
        measure: makes a measure from the two sums.
        options: how the measure is applied.
    """

    def __init__(
        self,
        k: int,
        of_pool: Tensor,
        of_training: Tensor,
        measure: Callable[[Tensor, Tensor], Measure],
        options: ScoringOptions,
    ) -> None:
        super().__init__(measure(of_pool, of_training), options)
        self._k = self.max_passes = k
        # Of the first measure: later measures depend on the picks, which are part of the state.
        self._identity = {"k": k, **super().identity()}
        self._of_pool = of_pool
        self._of_training = of_training
        self._measure = measure
        self._rows: list[int] = []
        self._scores: list[float] = []
        self._best: Best | None = None  # of this pass; its payload is the row's `unit_sums`

    def _begin(self) -> None:
        """Starts a pass with a measure of the present training data."""
        measure = self._measure(self._of_pool, self._of_training)
        self._scorer = Scorer(measure, self.options)
        self._best = None

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Finds the most representative row of embeddings [n, D]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        (scores,), n_invalid = self._scorer.scores(rows)
        found = self._best_of(rows, scores)

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: scores)
            self._best = found.or_better(self._best) if found else self._best

        return Pending(commit)

    def _best_of(self, rows: Rows, scores: Tensor) -> Best | None:
        """The best row of a chunk; None if all rows are invalid or were picked before."""
        left = scores.nan_to_num(nan=-torch.inf)
        _, here = rows.numbers.found(np.array(sorted(self._rows), np.int64))
        left[torch.from_numpy(here)] = -torch.inf
        if not len(left) or left.max() == -torch.inf:
            return None
        place = int(left.argmax())  # ties go to the first
        cluster = torch.zeros(1, dtype=torch.int64, device=rows.x.device)
        sums = unit_sums(rows.x[place : place + 1], cluster, 1)
        row = int(rows.numbers.at(np.array([place]))[0])
        return Best(float(left[place]), row, sums.cpu())

    def next_pass(self) -> bool:
        """Picks the best row of the pass; returns whether there is to be another pass."""
        if self._best is None:
            return False
        score, row, sums = self._best
        self._rows.append(row)
        self._scores.append(score)
        if len(self._rows) == self._k:
            return False
        self._of_training = self._of_training + sums
        self._begin()
        return True

    def part(self) -> "Adaptive":
        """A reducer with the same picks that has read no rows of this pass; see `merge`."""
        part = self._unread()
        part._best = None
        return part

    def merge(self, other: "Adaptive") -> None:
        """Adds the same pass over other rows.

        Raises:
            ValueError: the other has other arguments or picks.
            TypeError: the other is not an `Adaptive`, or is this very reducer.
        """
        self._check_mergeable(other)
        check_same({"picks": self._rows}, {"picks": other._rows}, "merge: the other")
        self._scorer.merge(other._scorer)
        if other._best is not None:
            self._best = other._best.or_better(self._best)

    def result(self) -> Picks:
        """The picks so far, in the order of picking.

        The arrays are of the kind of the last chunk, or NumPy if there was none.
        """
        to_caller_kind = self._scorer.to_caller_kind
        rows = to_caller_kind(torch.tensor(self._rows, dtype=torch.int64, device="cpu"))
        scores = to_caller_kind(torch.tensor(self._scores, dtype=torch.float32, device="cpu"))
        return Picks(rows, scores, None, self.invalid)

    @property
    def wanted(self) -> int:
        """How many rows to pick."""
        return self._k

    @property
    def strategy(self) -> str:
        """Its name."""
        return "adaptive_representative"

    @property
    def kth_score(self) -> float | None:
        """The score of the last pick; None before the first."""
        return self._scores[-1] if self._scores else None

    def identity(self) -> dict[str, Any]:
        """k, and the directions of the pool and of the training data before the first pick."""
        return self._identity

    def _state(self) -> dict[str, Any]:
        best = self._best
        return {
            **super()._state(),
            "training": self._of_training.numpy().copy(),
            "rows": list(self._rows),
            "scores": list(self._scores),
            "best": None if best is None else [best.score, best.row, best.payload.numpy().copy()],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._of_training = torch.from_numpy(state["training"])
        self._rows, self._scores = list(state["rows"]), list(state["scores"])
        self._begin()
        super()._restore(state)
        if state["best"] is not None:
            score, row, sums = state["best"]
            self._best = Best(score, row, torch.from_numpy(sums))
