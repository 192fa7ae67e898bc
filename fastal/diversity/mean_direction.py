"""The mean direction of the rows of a pool, as a reducer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastal import ops
from fastal.base.reducer import Pending, RowStart
from fastal.diversity.centroids import FiniteRows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer


class MeanDirection(ScoringReducer[Tensor]):
    """The sum of the rows, each scaled to length 1; exact, for any chunks in any order.

    Args:
        options: how invalid rows are treated. On a GPU, torch's ops compute the sum.

    Attributes:
        sums: [1, D] int64, see `unit_sums`; None before the first row.
    """

    def __init__(self, options: ScoringOptions) -> None:
        backend = "torch" if options.backend == "triton" else options.backend
        super().__init__(FiniteRows(), ScoringOptions(options.on_invalid, backend))
        self.sums: Tensor | None = None

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Sums embeddings [n, D]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        (zeros,), n_invalid = self._scorer.scores(rows)
        cluster = torch.where(zeros.isnan(), -1, 0)
        sums = ops.unit_sums(rows.x, cluster, 1, backend=rows.backend).cpu()

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: zeros)
            self.sums = sums if self.sums is None else self.sums + sums

        return Pending(commit)

    def part(self) -> "MeanDirection":
        """A reducer that has read no rows; see `merge`."""
        part = self._unread()
        part.sums = None
        return part

    def merge(self, other: "MeanDirection") -> None:
        """Adds the sum of other rows.

        Raises:
            ValueError: the rows have another number of columns.
            TypeError: the other is not a `MeanDirection`, or is this very reducer.
        """
        self._check_mergeable(other)
        self._scorer.merge(other._scorer)
        if self.sums is not None and other.sums is not None:
            self.sums = self.sums + other.sums
        self.sums = other.sums if self.sums is None else self.sums

    def result(self) -> Tensor:
        """The sum, [1, D] int64; [1, 0] if there was no chunk."""
        if self.sums is None:
            return torch.zeros(1, 0, dtype=torch.int64, device="cpu")
        return self.sums

    def _state(self) -> dict[str, Any]:
        sums = None if self.sums is None else self.sums.numpy().copy()
        return {**super()._state(), "sums": sums}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self.sums = None if state["sums"] is None else torch.from_numpy(state["sums"])


def of_one_width(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two sums of rows, [1, D] each. A sum that has no columns gets those of the other, as zeros.

    A pool without any chunk has a sum [1, 0], since its number of columns is unknown.
    """
    width = a.shape[1] or b.shape[1] or 1
    a, b = (sums if sums.shape[1] else sums.new_zeros(1, width) for sums in (a, b))
    return a, b
