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


class TopK:
    """Keeps the k best of the scores it has seen. NaN never counts.

    Candidates that beat the k-th best so far are buffered; once the buffer holds 2 k, the k best of
    it are selected, in linear time, and the bar rises. A bar that lags behind only lets more
    candidates through, so the result is exact.

    Attributes:
        bar: score and row of the k-th best as of the last selection; None before the first.
    """

    def __init__(self, k: int, bar: tuple[float, int] | None = None) -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
            raise TypeError(f"k: wanted an integer, got {k!r}")
        if k < 1:
            raise ValueError(f"k: wanted at least 1, got {k}")
        self.k = int(k)
        # One buffer, grown where it must: small arrays kept between a caller's large ones would
        # fragment the heap.
        self._scores = np.empty(_BLOCK, np.float32)
        self._rows = np.empty(_BLOCK, np.int64)
        self._held = 0
        self.bar = bar

    def update(self, scores: Tensor, start: int) -> None:
        """Takes the scores [n] float32 of rows start, start + 1, ..."""
        for first in range(0, len(scores), _BLOCK):
            block = scores[first : first + _BLOCK]
            above = self._above_bar(block, start + first)
            if len(above):
                self.add(block[above].cpu().numpy(), above.cpu().numpy() + (start + first))

    def merge(self, other: "TopK") -> None:
        """Takes in the k best of other rows."""
        other._compact()  # in no order: that is for the end
        self.add(other._scores[: other._held], other._rows[: other._held])

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows and scores of the k best, or of all if there are fewer, best first."""
        self._compact()
        scores, rows = self._scores[: self._held], self._rows[: self._held]
        order = np.lexsort((rows, -scores))
        return rows[order], scores[order]

    def state_dict(self) -> dict[str, Any]:
        """k, and the best so far."""
        rows, scores = self.best()
        return {"k": self.k, "rows": rows, "scores": scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError where that cannot be it."""
        if state["k"] != self.k:
            raise ValueError(f"the state has k={state['k']}, this one k={self.k}")
        scores, rows = np.asarray(state["scores"], np.float32), np.asarray(state["rows"], np.int64)
        if scores.ndim != 1 or scores.shape != rows.shape or np.isnan(scores).any():
            raise ValueError("the state has not one score, a number, for each row")
        self._held, self.bar = 0, None
        self.add(scores, rows)

    def _above_bar(self, scores: Tensor, start: int) -> Tensor:
        """Positions of the scores that may be among the k best, on the scores' device."""
        if self.bar is None:
            keep = ~scores.isnan()
        else:
            bar, bar_row = self.bar
            keep = scores > bar
            if start < bar_row:  # else every row of the block loses a tie with the bar
                keep[: bar_row - start] |= scores[: bar_row - start] == bar
        return keep.nonzero()[:, 0]

    def add(self, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Takes the scores of these rows."""
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            held = self._held + len(rows[part])
            if held > len(self._rows):
                self._scores.resize(2 * held, refcheck=False)
                self._rows.resize(2 * held, refcheck=False)
            self._scores[self._held : held] = scores[part]
            self._rows[self._held : held] = rows[part]
            self._held = held
            if held >= (self.k if self.bar is None else 2 * self.k):
                self._compact()

    def _compact(self) -> None:
        """Keeps the k best of the buffer; the worst of them is the new bar."""
        scores, rows = self._scores[: self._held], self._rows[: self._held]
        if self._held > self.k:
            worst = np.partition(scores, self._held - self.k)[self._held - self.k]
            better, tied = np.flatnonzero(scores > worst), np.flatnonzero(scores == worst)
            n_tied = self.k - len(better)
            if n_tied < len(tied):
                tied = tied[np.argpartition(rows[tied], n_tied - 1)[:n_tied]]
            kept = np.concatenate((better, tied))
            self._held = self.k
            self._scores[: self.k], self._rows[: self.k] = scores[kept], rows[kept]
            scores, rows = scores[: self.k], rows[: self.k]
        if self._held == self.k:
            worst = scores.min()
            self.bar = float(worst), int(rows[scores == worst].max())
