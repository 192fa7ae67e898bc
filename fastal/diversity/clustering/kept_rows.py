"""The n rows of a pool with the largest keys, with their vectors; the same for any chunks."""

import copy
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastal.base.checks import MAX_ROW
from fastal.selection.ties import beat, best_first

_NAMES = ("keys", "rows", "units")
_Columns = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]
Self = TypeVar("Self", bound="KeptRows")


class KeptRows:
    """Keeps the n rows with the largest keys. Ties go to the lower row number.

    Args:
        n: how many rows to keep.
        width: how many columns their vectors have.
        dtype: the dtype of the vectors.
        threshold: a key and a row that rows have to beat; None: all rows count.

    Attributes:
        threshold: the n-th best key and row of those merged or selected so far.
    """

    def __init__(
        self, n: int, width: int, dtype: Any, threshold: tuple[float, int] | None = None
    ) -> None:
        self.width = width
        self._n = n
        self.threshold = threshold or (-np.inf, MAX_ROW)
        empty = np.empty(0, np.float32), np.empty(0, np.int64), np.empty((0, width), dtype)
        self._held: list[_Columns] = [empty]  # keys, rows and vectors, in pieces

    def copied(self: Self) -> Self:
        """A copy: rows that are added to it are not added to this one."""
        found = copy.copy(self)
        found._held = list(self._held)
        return found

    def above(self, keys: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the rows that beat the threshold, at most n, in ascending order.

        A key that is NaN beats nothing.
        """
        above = np.flatnonzero(beat(keys, rows, *self.threshold))
        if len(above) > self._n:
            above = np.sort(above[best_first(keys[above], rows[above])[: self._n]])
        return above

    def add(
        self, keys: NDArray[np.float32], rows: NDArray[np.int64], vectors: NDArray[Any]
    ) -> None:
        """Adds rows [m] that beat the threshold, with their vectors [m, width]."""
        if not len(keys):
            return
        self._held.append((keys, rows, vectors))
        if sum(len(keys) for keys, _, _ in self._held) >= 2 * self._n:
            self.columns()

    def merge(self, other: "KeptRows") -> None:
        """Adds what was kept of other rows."""
        keys, rows, vectors = other.columns()
        above = np.flatnonzero(beat(keys, rows, *self.threshold))
        self.add(keys[above], rows[above], vectors[above])
        self._raise_threshold()

    def columns(self) -> _Columns:
        """The keys [m], rows [m] and vectors [m, width] that are kept, m <= n, best first."""
        if len(self._held) > 1:
            keys, rows = (np.concatenate([piece[i] for piece in self._held]) for i in (0, 1))
            order = best_first(keys, rows)[: self._n]
            vectors = np.concatenate([piece[2] for piece in self._held])[order]
            self._hold((keys[order], rows[order], vectors))
        return self._held[0]

    def state_dict(self) -> dict[str, Any]:
        """What is kept so far."""
        return dict(zip(_NAMES, self.columns(), strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        keys, rows, vectors = (np.asarray(state[name]) for name in _NAMES)
        self._hold((keys, rows, vectors))

    def _raise_threshold(self) -> None:
        """Finds the threshold. The rows below it are dropped later, all at once."""
        keys, rows = (np.concatenate([piece[i] for piece in self._held]) for i in (0, 1))
        if len(keys) >= self._n:
            last = best_first(keys, rows)[self._n - 1]
            self.threshold = float(keys[last]), int(rows[last])

    def _hold(self, best: _Columns) -> None:
        """Replaces all rows by these, at most n, those with the largest keys first."""
        self._held = [best]
        keys, rows, _ = best
        if len(keys) == self._n:
            self.threshold = float(keys[-1]), int(rows[-1])
