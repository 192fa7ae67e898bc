"""The running top-k of every group of rows, in one buffer: exact and deterministic.

As in `fastal.selection.topk`, rows are ordered by key, larger first, then by row number, smaller
first.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.groups import Groups, identity

_BLOCK = 1 << 16  # rows looked at in one go, and candidates that are not worth a selection
_LAST = 2**63 - 1  # loses a tie with any row
_COLUMNS = {"keys": np.float32, "rows": np.int64, "scores": np.float32, "codes": np.int64}


class GroupedTopK:
    """Keeps the `per_group` best rows of each group; of those, the k best if k is given.

    The latter are what taking rows best first gives, where full groups are passed over. NaN never
    counts. Rows that beat the bar of their group are buffered; when the buffer holds twice what was
    kept, the best are selected by one sort and the bars rise. A bar that lags behind only lets more
    rows through, so the result is exact. Memory is O(per_group · groups), or O(k + groups).

    Attributes:
        values: the groups, in the order in which they were met.
    """

    def __init__(self, per_group: int, k: int | None = None) -> None:
        self._per_group = per_group
        self._k = k
        self.values: list[Any] = []
        self._places: dict[Hashable, int] = {}
        # Key and row that a group's rows must beat, with room for groups to come.
        self._bars = np.full(1, -np.inf, np.float32)
        self._bar_rows = np.full(1, _LAST)
        self._columns = {name: np.empty(_BLOCK, dtype) for name, dtype in _COLUMNS.items()}
        self._held = 0
        self._limit = _BLOCK

    def update(
        self, keys: NDArray[np.float32], start: int, scores: NDArray[np.float32], groups: Groups
    ) -> None:
        """Takes rows start, start + 1, ...: keys, scores [n] to hand back, and their groups."""
        codes = self._codes_of(groups)
        for first in range(0, len(keys), _BLOCK):
            part = slice(first, first + _BLOCK)
            above = self._above_bars(keys[part], start + first, codes[part])
            if len(above):
                places = above + first
                self._add(keys[places], places + start, scores[places], codes[places])

    def merge(self, other: "GroupedTopK") -> None:
        """Takes in the best of other rows."""
        other._compact()
        keys, rows, scores, codes = other._filled()
        self._add(keys, rows, scores, self._codes_of(Groups(codes, other.values)))

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[Any]]:
        """Rows, scores and groups of what is kept, by key over all groups, best first.

        The groups are int64 if all the values are, else Python objects.
        """
        self._compact()
        keys, rows, scores, codes = self._filled()
        order = np.lexsort((rows, -keys))
        groups = np.empty(len(self.values), object)
        groups[:] = self.values
        if all(type(value) is int and -_LAST <= value <= _LAST for value in self.values):
            groups = groups.astype(np.int64)
        return rows[order], scores[order], groups[codes[order]]

    def short(self) -> list[tuple[Any, int]]:
        """The groups with fewer rows than `per_group`, and how many they have, the fewest first."""
        self._compact()
        counts = np.bincount(self._filled()[3], minlength=len(self.values)).tolist()
        pairs = zip(self.values, counts, strict=True)
        short = [(value, count) for value, count in pairs if count < self._per_group]
        return sorted(short, key=lambda pair: (pair[1], type(pair[0]).__name__, pair[0]))

    def state_dict(self) -> dict[str, Any]:
        """What is kept, a copy."""
        self._compact()
        columns = zip(_COLUMNS, self._filled(), strict=True)
        return {"values": list(self.values), **{name: column.copy() for name, column in columns}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, into a new object; ValueError where it cannot be it."""
        keys, rows, scores, codes = (np.asarray(state[name], of) for name, of in _COLUMNS.items())
        one_a_row = keys.ndim == 1 and keys.shape == rows.shape == scores.shape == codes.shape
        if not one_a_row or np.isnan(keys).any():
            raise ValueError("the state has not one key, a number, for each row")
        if ((codes < 0) | (codes >= len(state["values"]))).any():
            raise ValueError("the state has not a group for each row")
        self._add(keys, rows, scores, self._codes_of(Groups(codes, state["values"])))

    def _codes_of(self, groups: Groups) -> NDArray[np.int64]:
        """The rows' places in `values`, where all of their groups' values are from now on."""
        places = []
        for value in groups.values:
            place = self._places.setdefault(identity(value), len(self.values))
            if place == len(self.values):
                self.values.append(value)
            places.append(place)
        n_new = len(self.values) - len(self._bars)
        if n_new > 0:
            room = n_new + len(self.values)
            self._bars = np.append(self._bars, np.full(room, -np.inf, np.float32))
            self._bar_rows = np.append(self._bar_rows, np.full(room, _LAST))
        codes: NDArray[np.int64] = np.array(places, np.int64)[groups.codes]
        return codes

    def _above_bars(
        self, keys: NDArray[np.float32], start: int, codes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The positions of the rows that may be among the best."""
        above = np.flatnonzero(keys >= self._bars[codes])
        of_above = codes[above]
        wins_tie = above + start < self._bar_rows[of_above]
        return above[wins_tie | (keys[above] > self._bars[of_above])]

    def _add(self, *columns: NDArray[Any]) -> None:
        held = self._held + len(columns[0])
        for column, values in zip(self._columns.values(), columns, strict=True):
            if held > len(column):
                column.resize(2 * held, refcheck=False)
            column[self._held : held] = values
        self._held = held
        if held >= self._limit:
            self._compact()

    def _filled(self) -> list[NDArray[Any]]:
        """What is held of each column."""
        return [column[: self._held] for column in self._columns.values()]

    def _compact(self) -> None:
        """Keeps the best of the buffer, and raises the bars."""
        keys, rows, _, codes = self._filled()
        order = np.lexsort((rows, -keys, codes))
        begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
        places = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
        last = order[places == self._per_group - 1]
        self._bars[codes[last]], self._bar_rows[codes[last]] = keys[last], rows[last]
        kept = order[places < self._per_group]
        if self._k is not None and len(kept) >= self._k:
            kept = kept[np.lexsort((rows[kept], -keys[kept]))[: self._k]]
            self._raise_all(keys[kept[-1]], rows[kept[-1]])
        for column in self._columns.values():
            column[: len(kept)] = column[kept]
        self._held = len(kept)
        self._limit = max(2 * self._held, _BLOCK)

    def _raise_all(self, key: np.float32, row: np.int64) -> None:
        """No row can be among the k best that does not beat this one."""
        lower = (self._bars < key) | ((self._bars == key) & (self._bar_rows > row))
        self._bars[lower], self._bar_rows[lower] = key, row
