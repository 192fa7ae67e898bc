"""The running top-k: the k best of any number of scores, in O(k) memory, exact and deterministic.

Rows are ordered as `fastal.selection.ties` says.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.checks import checked_count
from fastal.base.row_numbers import RowNumbers
from fastal.selection.ties import TieOrder, best_first

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
        order: the order of rows with equal scores; None: the lower row number comes first.
        threshold: score and rank that rows must beat; None: all rows are buffered.
        payload: whether each row has a second float32, which does not affect the order.

    Attributes:
        threshold: score and rank of the k-th best at the last selection; the argument before that.
    """

    def __init__(
        self,
        k: int,
        order: TieOrder | None = None,
        *,
        threshold: tuple[float, int] | None = None,
        payload: bool = False,
    ) -> None:
        self.k = checked_count("k", k)
        self._order = TieOrder("first") if order is None else order
        self._lost = -np.inf, 0  # a score, and how many rows with that score were dropped
        # One buffer, grown where it must: small arrays kept between a caller's large ones would
        # fragment the heap.
        self._columns = {name: np.empty(_BLOCK, of) for name, of in _COLUMNS[: 2 + payload]}
        self._held = 0
        self.threshold = threshold

    def __getstate__(self) -> dict[str, Any]:
        """The best rows alone, without room for further rows: they travel between processes."""
        self._compact()
        held = {name: column[: self._held] for name, column in self._columns.items()}
        return {**vars(self), "_columns": held}

    def update(self, scores: Tensor, numbers: RowNumbers, *payload: Tensor) -> None:
        """Adds the scores [n] float32 of rows, and their payload."""
        given = [_addressed(column) for column in (scores, *payload)]
        # On a GPU every block makes the host wait once.
        size = max(1, len(scores)) if scores.is_cuda else _BLOCK
        for first in range(0, len(scores), size):
            block, *of_block = (column[first : first + size] for column in given)
            # NaN is not added.
            held = block == block if self.threshold is None else block >= self.threshold[0]
            above = _places(held)
            if len(above):
                taken = [_on_host(column[above]) for column in (block, *of_block)]
                self.add(taken[0], numbers.at(_on_host(above) + first), *taken[1:])

    def merge(self, other: "TopK") -> None:
        """Adds the k best of other rows."""
        other._compact()
        scores, rows, *payload = other._filled()
        self.add(scores, rows, *payload)
        self.lose(*other._lost)

    def lose(self, score: float, n: int) -> None:
        """Counts n rows with a score that were dropped, since k rows are better."""
        if n and score >= self._lost[0]:
            self._lost = score, n + (self._lost[1] if score == self._lost[0] else 0)

    def tied(self) -> tuple[int, int]:
        """How many rows have the k-th best score, and how many of them are among the k best.

        The two are equal if none was dropped.
        """
        self._compact()
        if self._held < self.k:
            return 0, 0
        worst = self._columns["scores"][: self._held].min()
        n_taken = int(np.count_nonzero(self._columns["scores"][: self._held] == worst))
        return n_taken + (self._lost[1] if self._lost[0] == worst else 0), n_taken

    def best(self) -> tuple[NDArray[Any], ...]:
        """Rows and scores of the k best, or of all if there are fewer, best first.

        Their payload follows, where they have one.
        """
        self._compact()
        scores, rows, *payload = self._filled()
        order = best_first(scores, self._order.ranks(rows))
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
        return {"k": self.k, "lost": list(self._lost), **dict(best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; ValueError if it is no such state."""
        if state["k"] != self.k:
            raise ValueError(f"the state has k={state['k']}, this one k={self.k}")
        scores, rows = np.asarray(state["scores"], np.float32), np.asarray(state["rows"], np.int64)
        payload: list[NDArray[np.float32]] = []
        if len(self._columns) > 2:
            payload = [np.asarray(state["payload"], np.float32)]
        others: list[NDArray[Any]] = [rows, *payload]
        one_a_row = scores.ndim == 1 and all(c.shape == scores.shape for c in others)
        if not one_a_row or np.isnan(scores).any():
            raise ValueError("the state has not one score, a number, for each row")
        lost, n_lost = state["lost"]
        self._held, self.threshold, self._lost = 0, None, (float(lost), int(n_lost))
        self.add(scores, rows, *payload)

    def _filled(self) -> list[NDArray[Any]]:
        """The part of each column that is in use."""
        return [column[: self._held] for column in self._columns.values()]

    def add(
        self, scores: NDArray[np.float32], rows: NDArray[np.int64], *payload: NDArray[np.float32]
    ) -> None:
        """Adds the scores of these rows, and their payload. NaN must not be among them."""
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            of_part: list[NDArray[Any]] = [scores[part], rows[part], *(c[part] for c in payload)]
            if self.threshold is not None:
                score, rank = self.threshold
                above = of_part[0] > score
                tied = np.flatnonzero(of_part[0] == score)
                above[tied] = self._order.ranks(of_part[1][tied]) < rank
                self.lose(score, len(tied) - int(np.count_nonzero(above[tied])))
                of_part = [column[above] for column in of_part]
            self._add(*of_part)

    def _add(self, *columns: NDArray[Any]) -> None:
        held = self._held + len(columns[0])
        for name, values in zip(self._columns, columns, strict=True):
            column = self._columns[name] = with_room(self._columns[name], held)
            column[self._held : held] = values
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
            self.lose(float(worst), len(tied) - n_tied)
            if n_tied < len(tied):
                tied = tied[np.argpartition(self._order.ranks(rows[tied]), n_tied - 1)[:n_tied]]
            kept = np.concatenate((better, tied))
            self._held = self.k
            for column in self._columns.values():
                column[: self.k] = column[kept]
            scores, rows, *_ = self._filled()
        if self._held == self.k:
            worst = scores.min()
            self.threshold = float(worst), int(self._order.ranks(rows[scores == worst]).max())


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
