"""Where the rows of a pool point, taken together, as a reducer."""

from typing import Any

import torch
from torch import Tensor

from fastal.base.errors import restoring
from fastal.diversity.centroids import FiniteRows
from fastal.ops.reference import unit_sums
from fastal.scoring.scorer import Confirm, Scorer, watching


class MeanDirection:
    """The sum of the rows, each scaled to length 1: exact, whatever the chunks and their order.

    Args:
        on_invalid: "raise" or "skip".

    Attributes:
        sums: [1, D] int64, see `unit_sums`; None before the first row.
    """

    def __init__(self, *, on_invalid: str = "raise") -> None:
        self.sums: Tensor | None = None
        self._scorer = Scorer(FiniteRows(), on_invalid=on_invalid, backend="torch")

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... (None: where the last chunk ended): embeddings [n, D].

        Raises:
            InvalidRows: rows are not finite, and on_invalid is "raise".
            ValueError, TypeError: no such rows.
        """
        rows = self._scorer.checked(chunk, start)
        (zeros,), n_invalid = self._scorer.scores(rows)
        sums = unit_sums(rows.x, torch.where(zeros.isnan(), -1, 0), 1).cpu()
        self._scorer.count(rows, n_invalid, lambda: zeros, confirm)
        self.sums = sums if self.sums is None else self.sums + sums

    def merge(self, other: "MeanDirection") -> None:
        """Takes in the sum of other rows."""
        self._scorer.merge(other._scorer)
        if self.sums is not None and other.sums is not None:
            self.sums = self.sums + other.sums
        self.sums = other.sums if self.sums is None else self.sums

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(D)."""
        sums = None if self.sums is None else self.sums.numpy().copy()
        return {"scorer": self._scorer.state_dict(), "sums": sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        with restoring():
            self._scorer.load_state_dict(state["scorer"])
            self.sums = None if state["sums"] is None else torch.from_numpy(state["sums"])

    def result(self) -> Tensor:
        """The sum, [1, D] int64; [1, 0] where there were no rows."""
        return (
            torch.zeros(1, 0, dtype=torch.int64, device="cpu") if self.sums is None else self.sums
        )
