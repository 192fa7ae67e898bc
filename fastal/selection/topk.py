"""The running top-k: the k best of any number of scores, in O(k) memory, exact and deterministic.

Rows are ordered as `fastal.selection.ties` says.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.checks import checked_count
from fastal.selection.ties import best_first

# Scores compared at once: bounds the memory beside the chunk, hides the overhead of a call.
_BLOCK = 1 << 16
_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("scores", np.float32),
    ("rows", np.int64),
    ("payload", np.float32),
)


class TopK:
    """Keeps the k best scores. NaN is never among them.

    The first k rows set the threshold. Rows that beat it are buffered. When the buffer holds 2 k
    rows, the k best are selected in linear time, and the worst of them becomes the threshold. A
    threshold that lags behind only lets more rows into the buffer, so the result is exact.

    Args:
        k: how many rows to keep, at least 1.
        threshold: score and row that rows must beat; None: all rows are buffered.
        payload: whether each row has a second float32, which does not affect the order.

    Attributes:
        threshold: score and row of the k-th best at the last selection; the argument before that.
    """

    def __init__(
        self, k: int, threshold: tuple[float, int] | None = None, *, payload: bool = False
    ) -> None:
        self.k = checked_count("k", k)
        # One buffer, grown where it must: small arrays kept between a caller's large ones would
        # fragment the heap.
        self._columns = {name: np.empty(_BLOCK, of) for name, of in _COLUMNS[: 2 + payload]}
        self._held = 0
        self.threshold = threshold

    def update(self, scores: Tensor, start: int, *payload: Tensor) -> None:
        """Adds the scores [n] float32 of rows start, start + 1, ..., and their payload."""
        given = [_addressed(column) for column in (scores, *payload)]
        for first in range(0, len(scores), _BLOCK):
            block, *of_block = (column[first : first + _BLOCK] for column in given)
            above = _places(self._beats_threshold(block, start + first))
            if len(above):
                taken = [_on_host(column[above]) for column in (block, *of_block)]
                self.add(taken[0], _on_host(above) + (start + first), *taken[1:])

    def merge(self, other: "TopK") -> None:
        """Adds the k best of other rows."""
        other._compact()
        self.add(*other._filled())

    def best(self) -> tuple[NDArray[Any], ...]:
        """Rows and scores of the k best, or of all if there are fewer, best first.

        Their payload follows, where they have one.
        """
        self._compact()
        scores, rows, *payload = self._filled()
        order = best_first(scores, rows)
        return rows[order], scores[order], *(column[order] for column in payload)

    def kth(self) -> float | None:
        """The k-th best score so far; None before there are k."""
        if self._held < self.k:
            return None
        place = self._held - self.k
        return float(np.partition(self._columns["scores"][: self._held], place)[place])

    def state_dict(self) -> dict[str, Any]:
        """k, and the best rows so far."""
        best = zip(("rows", "scores", "payload"), self.best(), strict=False)
        return {"k": self.k, **dict(best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; ValueError if it is no such state."""
        if state["k"] != self.k:
            raise ValueError(f"the state has k={state['k']}, this one k={self.k}")
        columns = [np.asarray(state[name], c.dtype) for name, c in self._columns.items()]
        scores = columns[0]
        one_a_row = scores.ndim == 1 and all(c.shape == scores.shape for c in columns)
        if not one_a_row or np.isnan(scores).any():
            raise ValueError("the state has not one score, a number, for each row")
        self._held, self.threshold = 0, None
        self.add(*columns)

    def _filled(self) -> list[NDArray[Any]]:
        """The part of each column that is in use."""
        return [column[: self._held] for column in self._columns.values()]

    def _beats_threshold(self, scores: Any, start: int) -> Any:
        """Which rows may be among the k best, a mask on the scores' device."""
        if self.threshold is None:
            return scores == scores  # not NaN
        threshold, row = self.threshold
        keep = scores > threshold
        if start < row:  # else every row of the block loses a tie with the threshold
            keep[: row - start] |= scores[: row - start] == threshold
        return keep

    def add(
        self, scores: NDArray[np.float32], rows: NDArray[np.int64], *payload: NDArray[np.float32]
    ) -> None:
        """Adds the scores of these rows, and their payload."""
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            held = self._held + len(rows[part])
            given: tuple[NDArray[Any], ...] = (scores, rows, *payload)
            for name, values in zip(self._columns, given, strict=True):
                column = self._columns[name] = with_room(self._columns[name], held)
                column[self._held : held] = values[part]
            self._held = held
            if held >= (self.k if self.threshold is None else 2 * self.k):
                self._compact()

    def _compact(self) -> None:
        """Keeps the k best rows of the buffer; the worst of them is the new threshold."""
        scores, rows, *_ = self._filled()
        if self._held > self.k:
            worst = np.partition(scores, self._held - self.k)[self._held - self.k]
            better, tied = np.flatnonzero(scores > worst), np.flatnonzero(scores == worst)
            n_tied = self.k - len(better)
            if n_tied < len(tied):
                tied = tied[np.argpartition(rows[tied], n_tied - 1)[:n_tied]]
            kept = np.concatenate((better, tied))
            self._held = self.k
            for column in self._columns.values():
                column[: self.k] = column[kept]
            scores, rows, *_ = self._filled()
        if self._held == self.k:
            worst = scores.min()
            self.threshold = float(worst), int(rows[scores == worst].max())


def with_room(column: NDArray[Any], n: int) -> NDArray[Any]:
    """A column with room for n values, in place unless its memory belongs to a pickle."""
    if n > len(column):
        column = column if column.flags.owndata else column.copy()
        column.resize(2 * n, refcheck=False)
    return column


def _addressed(column: Tensor) -> Any:
    """The tensor; on a host a NumPy view of it, since NumPy starts no threads for a block."""
    return column.numpy() if column.device.type == "cpu" else column


def _places(keep: Any) -> Any:
    """The positions where it is true, [m]."""
    return np.flatnonzero(keep) if isinstance(keep, np.ndarray) else keep.nonzero()[:, 0]


def _on_host(column: Any) -> NDArray[Any]:
    return column if isinstance(column, np.ndarray) else column.cpu().numpy()
