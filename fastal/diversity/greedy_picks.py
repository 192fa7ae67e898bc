"""What strategies share that pick rows one by one, by their distance to the nearest pick."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastal.base.checks import checked_count
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_filter import RowFilter
from fastal.base.row_values import RowValues
from fastal.picks.picks import Picks
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer


class GreedyPicks(ScoringReducer[Picks]):
    """A reducer that picks rows in the passes over a pool. It has 4 bytes per row of the pool.

    Args:
        k: how many rows to pick, at least 1.
        measure: scores the rows by their distance to the last picks, or to what is labelled.
        options: what to do with invalid rows, and the backend.
        row_filter: which rows may be picked; None: all.
    """

    def __init__(
        self, k: int, measure: Measure, options: ScoringOptions, row_filter: RowFilter | None
    ) -> None:
        self._k = self.max_passes = checked_count("k", k)
        super().__init__(measure, options)
        self.row_filter = row_filter
        # The distance to the nearest pick so far; -inf for rows that are picked or invalid.
        self._distance = RowValues(math.inf, torch.float32)
        self._rows: list[int] = []
        self._scores: list[float] = []

    @abstractmethod
    def _read(self, rows: Rows, nearest: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Looks for the next picks among the rows of a chunk.

        Args:
            rows: the rows.
            nearest: their distances, [n]; -inf for rows that are picked or invalid.

        Returns:
            The distances to keep, and what takes note of the possible picks when the chunk is
            committed.
        """

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Looks for the next picks in a chunk; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        (distance,), _ = self._scorer.scores(rows)
        held = self._distance.read(rows.numbers).to(distance.device)
        is_invalid = rows.invalid(distance)
        counted = held == -math.inf  # invalid rows were counted in the first pass
        n_invalid = int((is_invalid & ~counted).count_nonzero())
        distance_now = rows.without_left_out(distance, math.inf)
        nearest = torch.minimum(held, distance_now.masked_fill(is_invalid, -math.inf))
        nearest, take_note = self._read(rows, nearest)

        self._distance.reserve(rows.numbers.stop)

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: distance)
            self._distance.write(rows.numbers, nearest)
            take_note()

        return Pending(commit)

    def _end_pass(self) -> None:
        """Ends a pass."""
        self._distance.trim()
        self._scorer.next_row = 0

    def _add(self, row: int, score: float) -> None:
        """Picks a row."""
        self._rows.append(row)
        self._scores.append(score)
        self._distance.values[row] = -math.inf

    def _picks(self, scores: Sequence[float]) -> Picks:
        """The picks so far with these scores.

        The arrays are of the kind of the last chunk, or NumPy if there was none.
        """
        to_caller_kind = self._scorer.to_caller_kind
        return Picks(
            to_caller_kind(torch.tensor(self._rows, dtype=torch.int64, device="cpu")),
            to_caller_kind(torch.tensor(scores, dtype=torch.float32, device="cpu")),
            invalid=self.invalid,
        )

    @property
    def invalid(self) -> int:
        """How many rows were left out as invalid."""
        return int((self._distance.values == -math.inf).sum()) - len(self._rows)

    @property
    def wanted(self) -> int:
        """How many rows to pick."""
        return self._k

    @property
    def kth_score(self) -> float | None:
        """The score of the last pick; None before the first."""
        return self._scores[-1] if self._scores else None

    def _state(self) -> dict[str, Any]:
        """The picks and the distances. A subclass adds the possible picks of the pass."""
        return {
            **super()._state(),
            "rows": list(self._rows),
            "scores": list(self._scores),
            "first": self._distance.first,
            "distance": self._distance.values.cpu().numpy().copy(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        rows, scores, first, distance = (
            state[name] for name in ("rows", "scores", "first", "distance")
        )
        super()._restore(state)
        self._rows, self._scores = list(rows), list(scores)
        self._distance.load(torch.from_numpy(distance.copy()), first)


def expected_passes(k: int, n_picked: int, n_passes: int) -> int:
    """How many passes there will be, if picks go on as before.

    Args:
        k: how many rows to pick.
        n_picked: how many are picked.
        n_passes: how many passes have ended.
    """
    expected = n_passes + math.ceil((k - n_picked) * n_passes / max(1, n_picked))
    return max(expected, min(k, 2))
