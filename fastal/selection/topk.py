"""The running top-k: the k best of any number of scores, in O(k) memory, exact and deterministic.

Rows are ordered by score, larger first, then by row number, smaller first: a total order, so the
k best are one set, whatever the chunks, their order, or how many `TopK` were merged.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Scores looked at in one go: bounds the memory beside the chunk, hides the overhead of a call.
_BLOCK = 1 << 16
_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("scores", np.float32),
    ("rows", np.int64),
    ("carried", np.float32),
)


class TopK:
    """Keeps the k best of the scores it has seen. NaN never counts.

    Candidates that beat the k-th best so far are buffered; once the buffer holds 2 k, the k best of
    it are selected, in linear time, and the bar rises. A bar that lags behind only lets more
    candidates through, so the result is exact.

    Args:
        k: how many to keep, at least 1.
        bar: score and row that rows must beat, ties to the lower row; None: there is no such.
        payload: whether a second float32 comes along with each score, without a say in the order.

    Attributes:
        bar: score and row of the k-th best as of the last selection; None before the first.
    """

    def __init__(
        self, k: int, bar: tuple[float, int] | None = None, *, payload: bool = False
    ) -> None:
        self.k = checked_count("k", k)
        # One buffer, grown where it must: small arrays kept between a caller's large ones would
        # fragment the heap.
        self._columns = {name: np.empty(_BLOCK, of) for name, of in _COLUMNS[: 2 + payload]}
        self._held = 0
        self.bar = bar

    def update(self, scores: Tensor, start: int, *carried: Tensor) -> None:
        """Takes the scores [n] float32 of rows start, start + 1, ..., and what they carry."""
        given = [_addressed(column) for column in (scores, *carried)]
        for first in range(0, len(scores), _BLOCK):
            block, *of_block = (column[first : first + _BLOCK] for column in given)
            above = _places(self._above_bar(block, start + first))
            if len(above):
                taken = [_on_host(column[above]) for column in (block, *of_block)]
                self.add(taken[0], _on_host(above) + (start + first), *taken[1:])

    def merge(self, other: "TopK") -> None:
        """Takes in the k best of other rows."""
        other._compact()  # in no order: that is for the end
        self.add(*other._filled())

    def best(self) -> tuple[NDArray[Any], ...]:
        """Rows and scores of the k best, or of all if there are fewer, best first.

        With them, where there is such a thing, what they carry.
        """
        self._compact()
        scores, rows, *carried = self._filled()
        order = np.lexsort((rows, -scores))
        return rows[order], scores[order], *(column[order] for column in carried)

    def kth(self) -> float | None:
        """The k-th best score so far; None before there are k."""
        if self._held < self.k:
            return None
        place = self._held - self.k
        return float(np.partition(self._columns["scores"][: self._held], place)[place])

    def state_dict(self) -> dict[str, Any]:
        """k, and the best so far."""
        best = zip(("rows", "scores", "carried"), self.best(), strict=False)
        return {"k": self.k, **dict(best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError where that cannot be it."""
        if state["k"] != self.k:
            raise ValueError(f"the state has k={state['k']}, this one k={self.k}")
        columns = [np.asarray(state[name], c.dtype) for name, c in self._columns.items()]
        scores = columns[0]
        one_a_row = scores.ndim == 1 and all(c.shape == scores.shape for c in columns)
        if not one_a_row or np.isnan(scores).any():
            raise ValueError("the state has not one score, a number, for each row")
        self._held, self.bar = 0, None
        self.add(*columns)

    def _filled(self) -> list[NDArray[Any]]:
        """What is held of each column."""
        return [column[: self._held] for column in self._columns.values()]

    def _above_bar(self, scores: Any, start: int) -> Any:
        """Which of the scores may be among the k best, where they are."""
        if self.bar is None:
            return scores == scores  # not NaN
        bar, bar_row = self.bar
        keep = scores > bar
        if start < bar_row:  # else every row of the block loses a tie with the bar
            keep[: bar_row - start] |= scores[: bar_row - start] == bar
        return keep

    def add(
        self, scores: NDArray[np.float32], rows: NDArray[np.int64], *carried: NDArray[np.float32]
    ) -> None:
        """Takes the scores of these rows, and what they carry."""
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            held = self._held + len(rows[part])
            given: tuple[NDArray[Any], ...] = (scores, rows, *carried)
            for column, values in zip(self._columns.values(), given, strict=True):
                if held > len(column):
                    column.resize(2 * held, refcheck=False)
                column[self._held : held] = values[part]
            self._held = held
            if held >= (self.k if self.bar is None else 2 * self.k):
                self._compact()

    def _compact(self) -> None:
        """Keeps the k best of the buffer; the worst of them is the new bar."""
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
            self.bar = float(worst), int(rows[scores == worst].max())


def checked_count(name: str, count: Any) -> int:
    """`count` as a plain int; TypeError, ValueError where it is no integer of at least 1."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(f"{name}: wanted an integer, got {count!r}")
    if count < 1:
        raise ValueError(f"{name}: wanted at least 1, got {count}")
    return int(count)


def _addressed(column: Tensor) -> Any:
    """The tensor, or on a host the array that it is: NumPy starts no threads for a block."""
    return column.numpy() if column.device.type == "cpu" else column


def _places(keep: Any) -> Any:
    """Where it is true, [m]."""
    return np.flatnonzero(keep) if isinstance(keep, np.ndarray) else keep.nonzero()[:, 0]


def _on_host(column: Any) -> NDArray[Any]:
    return column if isinstance(column, np.ndarray) else column.cpu().numpy()
