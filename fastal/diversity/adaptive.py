"""Adaptive representative sampling: a reducer of a pass a pick."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.arrays import converter_for
from fastal.base.errors import check_another, check_same, restoring
from fastal.diversity.centroids import digest
from fastal.ops.reference import unit_sums
from fastal.scoring.measure import Blank
from fastal.scoring.scorer import Confirm, Scorer, watching
from fastal.selection.picks import Picks

_Best = tuple[float, int, Tensor]  # score, row, and what the row adds to a direction


class Adaptive:
    """Picks the most representative row, counts it as training data, and begins again, k times.

    Args:
        k: how many rows to pick, at least 1.
        of_pool: [1, D] int64, `unit_sums` of the pool.
        of_training: [1, D] int64, that of the training data, to which each pick is added.
        measure: makes the `Measure` of the two.
        on_invalid: "raise" or "skip".
        backend: "auto", "triton" or "torch".
    """

    def __init__(
        self,
        k: int,
        of_pool: Tensor,
        of_training: Tensor,
        *,
        measure: Any,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        self._k = k
        self._of_pool = of_pool
        self._of_training = of_training
        self._measure = measure
        self._how = {"on_invalid": on_invalid, "backend": backend}
        self._rows: list[int] = []
        self._scores: list[float] = []
        self._to_caller_kind = converter_for(np.empty(0))
        self._begin()

    def _begin(self) -> None:
        """A new pass."""
        self._scorer = Scorer(self._measure(self._of_pool, self._of_training), **self._how)
        self._best: _Best | None = None

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... of this pass (None: where the last chunk ended).

        Raises:
            InvalidRows: rows are not finite, and on_invalid is "raise".
            ValueError, TypeError: no embeddings [n, D].
        """
        rows = self._scorer.checked(chunk, start)
        (scores,), n_invalid = self._scorer.scores(rows)
        found = self._best_of(rows.x, scores, rows.start)
        self._scorer.count(rows, n_invalid, lambda: scores, confirm)
        self._best = _better(self._best, found)
        self._to_caller_kind = converter_for(chunk)

    def _best_of(self, x: Tensor, scores: Tensor, start: int) -> _Best | None:
        """The best row of a chunk that was not picked before, if there is one."""
        left = scores.nan_to_num(nan=-torch.inf)
        for row in self._rows:
            if start <= row < start + len(left):
                left[row - start] = -torch.inf
        if not len(left) or left.max() == -torch.inf:
            return None
        place = int(left.argmax())  # the first of equals
        adds = unit_sums(
            x[place : place + 1], torch.zeros(1, dtype=torch.int64, device=x.device), 1
        )
        return float(left[place]), start + place, adds.cpu()

    def next_pass(self) -> bool:
        """Takes the best row; whether one more is to be picked, and may be there."""
        if self._best is None:
            return False
        score, row, adds = self._best
        self._rows.append(row)
        self._scores.append(score)
        if len(self._rows) == self._k:
            return False
        self._of_training = self._of_training + adds
        self._begin()
        return True

    def merge(self, other: "Adaptive") -> None:
        """Takes in the same pass over other rows.

        Raises:
            ValueError, TypeError: it is no such pass.
        """
        check_another(Adaptive, self, other)
        self._scorer.merge(other._scorer)
        self._best = _better(self._best, other._best)

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(k + D)."""
        best = self._best
        return {
            "k": self._k,
            "pool": digest(self._of_pool),
            "training": self._of_training.numpy().copy(),
            "rows": list(self._rows),
            "scores": list(self._scores),
            "scorer": self._scorer.state_dict(),
            "best": None if best is None else [*best[:2], best[2].numpy().copy()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError for that of other arguments."""
        with restoring():
            check_same({"k": self._k, "pool": digest(self._of_pool)}, state, "the state")
            self._of_training = torch.from_numpy(state["training"])
            self._rows, self._scores = list(state["rows"]), list(state["scores"])
            self._begin()
            self._scorer.load_state_dict(state["scorer"])
            if state["best"] is not None:
                score, row, adds = state["best"]
                self._best = score, row, torch.from_numpy(adds)

    def result(self) -> Picks:
        """The picks so far, in their order, as arrays of the kind of the last chunk, else NumPy."""
        rows = self._to_caller_kind(torch.tensor(self._rows, dtype=torch.int64, device="cpu"))
        scores = self._to_caller_kind(torch.tensor(self._scores, dtype=torch.float32, device="cpu"))
        return Picks(rows, scores, None, self._scorer.invalid)

    @property
    def bar(self) -> float | None:
        """The score of the last pick; None before there is one."""
        return self._scores[-1] if self._scores else None

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing."""
        return self._scorer.blank

    @property
    def backend_used(self) -> str | None:
        """The backend that scored the last chunk."""
        return self._scorer.backend_used


def _better(one: _Best | None, other: _Best | None) -> _Best | None:
    """The better of two rows, ties to the lower."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda best: (best[0], -best[1]))
