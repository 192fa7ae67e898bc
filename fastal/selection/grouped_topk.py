"""The running top-k of every group of rows, in one buffer: exact and deterministic.

Rows are ordered by key, as `fastal.selection.ties` says.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.checks import MAX_ROW
from fastal.base.groups import Groups, identity
from fastal.base.row_numbers import RowNumbers
from fastal.selection.ties import TieOrder, beat, best_first
from fastal.selection.topk import with_room

_BLOCK = 1 << 16  # rows compared at once; also the least buffer that is worth a selection
_COLUMNS = {"keys": np.float32, "ranks": np.int64, "scores": np.float32, "codes": np.int64}


class GroupedTopK:
    """Keeps the `per_group` best rows of each group; of those, the k best if k is given.

    The k best are the rows that a walk from the best row down picks if it passes over groups that
    are full. NaN is never among them. Rows that beat the threshold of their group are buffered.
    When the buffer holds twice as many rows as were kept, the best are selected by one sort and the
    thresholds rise. A threshold that lags behind only lets more rows into the buffer, so the result
    is exact. Memory is O(per_group · groups), or O(k + groups).

    Args:
        per_group: how many rows to keep of each group.
        k: how many rows to keep in all; None: as many as the groups have.
        order: the order of rows with equal keys; None: the lower row number comes first.

    Attributes:
        values: the groups, in the order of their first rows.
    """

    def __init__(self, per_group: int, k: int | None = None, order: TieOrder | None = None) -> None:
        self._per_group = per_group
        self._k = k
        self._order = TieOrder("first") if order is None else order
        self.values: list[Any] = []
        self._places: dict[Hashable, int] = {}
        # Key and rank that a group's rows must beat, with room for groups to come; and how many
        # rows with this key were dropped.
        self._thresholds = np.full(1, -np.inf, np.float32)
        self._threshold_ranks = np.full(1, MAX_ROW)
        self._lost = np.zeros(1, np.int64)
        self._columns = {name: np.empty(_BLOCK, dtype) for name, dtype in _COLUMNS.items()}
        self._held = 0
        self._limit = _BLOCK
        self._is_compact = True  # nothing was added since the last selection

    def __getstate__(self) -> dict[str, Any]:
        """The best rows alone, without room for further rows: they travel between processes."""
        self._compact()
        held = {name: column[: self._held] for name, column in self._columns.items()}
        return {**vars(self), "_columns": held}

    def update(
        self,
        keys: NDArray[np.float32],
        numbers: RowNumbers,
        scores: NDArray[np.float32],
        groups: Groups,
    ) -> None:
        """Adds rows: keys [n], row numbers, scores [n] for the result, and groups."""
        codes = self._codes_of(groups)
        for first in range(0, len(keys), _BLOCK):
            part = slice(first, first + _BLOCK)
            # Few, and cheap to find.
            places = np.flatnonzero(keys[part] >= self._thresholds[codes[part]]) + first
            if len(places):
                ranks = self._order.ranks(numbers.at(places))
                above = self._beat_thresholds(keys[places], ranks, codes[places])
                places = places[above]
                self._add(keys[places], ranks[above], scores[places], codes[places])

    def least(self, groups: Groups) -> float:
        """The key below which no row of these groups is among the best; -inf: any row may be.

        Raises the thresholds first, which changes no result.
        """
        self._compact()
        present = np.flatnonzero(np.bincount(groups.codes)).tolist()
        places = [self._places.get(identity(groups.values[code])) for code in present]
        return min(
            (-np.inf if place is None else float(self._thresholds[place]) for place in places),
            default=-np.inf,
        )

    def merge(self, other: "GroupedTopK") -> None:
        """Adds the best of other rows."""
        other._compact()
        keys, ranks, scores, codes = other._filled()
        of_theirs = self._codes_of(Groups(np.arange(len(other.values)), other.values))
        codes = of_theirs[codes]
        above = self._beat_thresholds(keys, ranks, codes)
        self._add(keys[above], ranks[above], scores[above], codes[above])
        self._compact()
        theirs = slice(len(other.values))
        same = self._thresholds[of_theirs] == other._thresholds[theirs]
        self._lost[of_theirs[same]] += other._lost[theirs][same]

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[Any]]:
        """Rows, scores and groups of the best rows, ordered by key over all groups, best first.

        The groups are int64 if all the values are, else Python objects.
        """
        self._compact()
        keys, ranks, scores, codes = self._filled()
        order = best_first(keys, ranks)
        groups = np.empty(len(self.values), object)
        groups[:] = self.values
        if all(type(value) is int and -MAX_ROW <= value <= MAX_ROW for value in self.values):
            groups = groups.astype(np.int64)
        return self._order.rows(ranks[order]), scores[order], groups[codes[order]]

    def tied(self) -> tuple[int, int, int]:
        """In how many groups rows were dropped that tie with the last row kept of the group.

        Also how many rows of these groups tie with it, and how many of them are kept. With k, the
        last row is that of all groups, and groups that are full do not count.
        """
        self._compact()
        keys, _, _, codes = self._filled()
        if self._k is not None:
            if len(keys) < self._k:
                return 0, 0, 0
            n_kept_of = np.bincount(codes, minlength=len(self._lost))
            n_tied = int(np.count_nonzero(keys == keys.min()))
            at_last = (self._thresholds == keys.min()) & (n_kept_of < self._per_group)
            n_lost = int(self._lost[at_last].sum())
            return int(n_lost > 0), n_tied + n_lost, n_tied
        with_ties = np.flatnonzero(self._lost[: len(self.values)])
        at_last = (keys == self._thresholds[codes]) & np.isin(codes, with_ties)
        n_kept = int(np.count_nonzero(at_last))
        return len(with_ties), n_kept + int(self._lost[with_ties].sum()), n_kept

    def short(self) -> list[tuple[Any, int]]:
        """The groups with fewer than `per_group` rows and how many they have, fewest first."""
        self._compact()
        counts = np.bincount(self._filled()[3], minlength=len(self.values)).tolist()
        pairs = zip(self.values, counts, strict=True)
        short = [(value, count) for value, count in pairs if count < self._per_group]
        return sorted(short, key=lambda pair: (pair[1], type(pair[0]).__name__, pair[0]))

    def state_dict(self) -> dict[str, Any]:
        """The best rows, a copy."""
        self._compact()
        keys, ranks, scores, codes = (
            column.astype(of) for column, of in zip(self._filled(), _COLUMNS.values(), strict=True)
        )
        columns = {"keys": keys, "rows": self._order.rows(ranks), "scores": scores, "codes": codes}
        lost = self._lost[: len(self.values)].astype(np.int64)
        return {"values": list(self.values), "lost": lost, **columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, into a new object; ValueError if it is no state."""
        names = ("keys", "rows", "scores", "codes")
        keys, rows, scores, codes = (
            np.asarray(state[name], of) for name, of in zip(names, _COLUMNS.values(), strict=True)
        )
        one_a_row = keys.ndim == 1 and keys.shape == rows.shape == scores.shape == codes.shape
        if not one_a_row or np.isnan(keys).any():
            raise ValueError("the state has not one key, a number, for each row")
        if ((codes < 0) | (codes >= len(state["values"]))).any():
            raise ValueError("the state has not a group for each row")
        of_values = self._codes_of(Groups(np.arange(len(state["values"])), state["values"]))
        self._add(keys, self._order.ranks(rows), scores, of_values[codes])
        self._compact()
        self._lost[of_values] += np.asarray(state["lost"], np.int64)

    def _codes_of(self, groups: Groups) -> NDArray[np.int64]:
        """The rows' places in `values`, to which groups that are new are appended."""
        places = []
        for value in groups.values:
            place = self._places.setdefault(identity(value), len(self.values))
            if place == len(self.values):
                self.values.append(value)
            places.append(place)
        n_new = len(self.values) - len(self._thresholds)
        if n_new > 0:
            self._is_compact = False
            room = n_new + len(self.values)
            self._thresholds = np.append(self._thresholds, np.full(room, -np.inf, np.float32))
            self._threshold_ranks = np.append(self._threshold_ranks, np.full(room, MAX_ROW))
            self._lost = np.append(self._lost, np.zeros(room, np.int64))
        codes: NDArray[np.int64] = np.array(places, np.int64)[groups.codes]
        return codes

    def _beat_thresholds(
        self, keys: NDArray[np.float32], ranks: NDArray[np.int64], codes: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which of these rows may be among the best. Those that lose a tie are counted."""
        thresholds = self._thresholds[codes]
        above: NDArray[np.bool_] = beat(keys, ranks, thresholds, self._threshold_ranks[codes])
        self._count_lost(codes[~above & (keys == thresholds)])
        return above

    def _count_lost(self, codes: NDArray[np.int64]) -> None:
        """Counts rows of these groups that were dropped, though they tie with the threshold."""
        self._lost += np.bincount(codes, minlength=len(self._lost))

    def _add(self, *columns: NDArray[Any]) -> None:
        if not len(columns[0]):
            return
        self._is_compact = False
        held = self._held + len(columns[0])
        for name, values in zip(self._columns, columns, strict=True):
            column = self._columns[name] = with_room(self._columns[name], held)
            column[self._held : held] = values
        self._held = held
        if held >= self._limit:
            self._compact()

    def _filled(self) -> list[NDArray[Any]]:
        """The part of each column that is in use."""
        return [column[: self._held] for column in self._columns.values()]

    def _compact(self) -> None:
        """Keeps the best rows of the buffer, and raises the thresholds."""
        if self._is_compact:
            return
        self._is_compact = True
        keys, ranks, _, codes = self._filled()
        before = self._thresholds.copy()
        order = np.lexsort((ranks, -keys, codes))
        begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
        places = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
        last = order[places == self._per_group - 1]
        self._thresholds[codes[last]] = keys[last]
        self._threshold_ranks[codes[last]] = ranks[last]
        kept = order[places < self._per_group]
        if self._k is not None and len(kept) >= self._k:
            kept = kept[best_first(keys[kept], ranks[kept])[: self._k]]
            self._raise_all(keys[kept[-1]], ranks[kept[-1]])
        self._lost[self._thresholds != before] = 0
        dropped = np.ones(len(keys), bool)
        dropped[kept] = False
        dropped &= keys == self._thresholds[codes]
        self._count_lost(codes[dropped])
        for column in self._columns.values():
            column[: len(kept)] = column[kept]
        self._held = len(kept)
        self._limit = max(2 * self._held, _BLOCK)

    def _raise_all(self, key: np.float32, rank: np.int64) -> None:
        """From now on a row must beat this one as well, whatever its group."""
        lower = beat(key, rank, self._thresholds, self._threshold_ranks)
        self._thresholds[lower], self._threshold_ranks[lower] = key, rank
