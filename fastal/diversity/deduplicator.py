"""Finds semantic duplicates, as a reducer of several passes."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.checks import checked_count, checked_number
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_filter import row_filter_of
from fastal.base.row_values import RowValues
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.duplicates import Duplicates
from fastal.diversity.keep_order import KeepOrder
from fastal.diversity.near_duplicates import near_duplicates
from fastal.ops.reference import unit_rows
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_UNSEEN, _ITEM_BYTES = -1, 4
_BLOCK = 4096  # rows that are held in float64 at once


class Deduplicator(ScoringReducer[Duplicates]):
    """Finds duplicates, as a reducer of several passes. `deduplicate` runs it over a pool.

    The first pass assigns each row to a cluster. Each later pass gathers the rows of as many
    clusters as fit into memory, and compares them at its end. The reducer cannot be merged, since
    rows that two reducers read would never be compared.

    Args:
        centroids: [K, D] array; its rows have any length.
        threshold: the least cosine similarity of duplicates, from -1 to 1. Several thresholds need
            one reducer, with the least of them; see `Duplicates`.
        keep: as for `deduplicate`, without names of columns.
        seed: as for `deduplicate`.
        memory_bytes: memory for the rows that are compared at once; see `deduplicate`.
        fast: as for `nearest_centroid`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite and count them.
        backend: "auto", "triton", "native" or "torch".
        exclude: as for `fastal.Selector`.
        among: as for `fastal.Selector`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> reducer = diversity.Deduplicator(np.ones((1, 2)))
        >>> has_next = True
        >>> while has_next:
        ...     reducer.update(np.array([[1, 0], [0, 1], [2, 0]], np.float32), 0)
        ...     has_next = reducer.next_pass()
        >>> reducer.result().rows
        array([2])
    """

    def __init__(
        self,
        centroids: Any,
        threshold: float = 0.95,
        *,
        keep: Any = "first",
        seed: int = 0,
        memory_bytes: int = 1 << 30,
        fast: bool = False,
        on_invalid: str = "raise",
        backend: str = "auto",
        exclude: Any = None,
        among: Any = None,
    ) -> None:
        self._least_similarity = checked_threshold(threshold)
        self._order = KeepOrder(keep, seed)
        self._memory_bytes = checked_count("memory_bytes", memory_bytes)
        self._centroids = CentroidDistance(centroids, fast=fast)
        super().__init__(self._centroids, ScoringOptions(on_invalid, backend))
        self.row_filter = row_filter_of(exclude, among)
        self.max_passes = 2  # until the first ends
        self._cluster = RowValues(_UNSEEN, torch.int32)  # also of invalid rows
        self._similarity = RowValues(math.nan, torch.float32)  # to the centroid, if it is needed
        # The clusters that this pass gathers (first, last + 1), the numbers of their rows, and the
        # rows scaled to length 1. The first pass gathers none.
        self._span = (0, 0)
        self._members: NDArray[np.int64] = np.empty(0, np.int64)
        self._units = self._room_for(0)
        self._found: list[tuple[NDArray[Any], ...]] = []

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Assigns or gathers embeddings [n, D]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        return self._gather(rows) if self._span[1] else self._assign(rows)

    def _assign(self, rows: Rows) -> Pending:
        cluster, similarity = self._centroids.nearest(rows)
        n_invalid = int(rows.invalid(similarity).count_nonzero())
        on_host = cluster.to("cpu", torch.int32)
        self._order.check(rows.numbers, on_host.numpy() != _UNSEEN)

        self._cluster.reserve(rows.numbers.stop)
        if self._order.needs_similarity:
            self._similarity.reserve(rows.numbers.stop)

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            self._cluster.write(rows.numbers, on_host)
            if self._order.needs_similarity:
                self._similarity.write(rows.numbers, similarity.cpu())

        return Pending(commit)

    def _gather(self, rows: Rows) -> Pending:
        of_members, here = rows.numbers.found(self._members)
        places = torch.from_numpy(here).to(rows.x.device)
        units = self._units.new_empty(len(places), rows.x.shape[1], device=rows.x.device)
        for of, into in zip(torch.split(places, _BLOCK), torch.split(units, _BLOCK), strict=True):
            into.copy_(unit_rows(rows.x[of]))

        def commit() -> None:
            self._scorer.record(rows, 0, lambda: units)
            self._units = self._units.to(units.device)
            self._units[torch.from_numpy(of_members)] = units

        return Pending(commit)

    def next_pass(self) -> bool:
        """Compares the gathered rows; returns whether another pass is to gather more.

        Raises:
            ValueError: a cluster does not fit into memory.
        """
        self._found.extend(self._compared())
        self._cluster.trim()
        self._similarity.trim()
        if not self._span[1]:
            self.max_passes = self._n_passes()
        self._span = self._next_span(self._to_compare(), self._span[1])
        self._members = self._rows_of(self._span)
        self._units = self._room_for(len(self._members))
        self._scorer.next_row = 0
        return len(self._members) > 0

    def _room_for(self, n_rows: int) -> Tensor:
        width = self._centroids.units.shape[1]
        return torch.zeros(n_rows, width, dtype=torch.float32, device="cpu")

    def _n_passes(self) -> int:
        """How many passes there are in all, known when each row has a cluster."""
        n_rows, last, n_passes = self._to_compare(), 0, 1
        while n_rows[last:].any():
            _, last = self._next_span(n_rows, last)
            n_passes += 1
        return n_passes

    def _next_span(self, n_rows: NDArray[np.int64], first: int) -> tuple[int, int]:
        """The clusters (first, last + 1) from `first` on: as many as fit into memory."""
        row_bytes = _ITEM_BYTES * self._units.shape[1]
        room = self._memory_bytes // row_bytes
        largest = int(n_rows.argmax())
        if n_rows[largest] > room:
            raise ValueError(
                f"memory_bytes: cluster {largest} has {n_rows[largest]:,} rows, which take "
                f"{n_rows[largest] * row_bytes:,} bytes; memory_bytes is {self._memory_bytes:,}: "
                "wanted more centroids or more memory"
            )
        return first, first + int(np.searchsorted(n_rows[first:].cumsum(), room, side="right"))

    def _to_compare(self) -> NDArray[np.int64]:
        """How many rows of each cluster to compare, [K]; 0 for clusters of a single row."""
        cluster = self._cluster.values.numpy()
        n_rows = np.bincount(cluster[cluster >= 0], minlength=len(self._centroids.units))
        return np.where(n_rows > 1, n_rows, 0)

    def _rows_of(self, span: tuple[int, int]) -> NDArray[np.int64]:
        """The numbers of the rows to compare in these clusters, ascending."""
        cluster = self._cluster.values.numpy()
        rows = np.flatnonzero((cluster >= span[0]) & (cluster < span[1]))
        wanted: NDArray[np.int64] = rows[self._to_compare()[cluster[rows]] > 0]
        return wanted

    def _compared(self) -> Iterator[tuple[NDArray[Any], ...]]:
        """The duplicates among the gathered rows of each cluster, as `Duplicates` has them."""
        cluster = self._cluster.values.numpy()[self._members]
        order = np.argsort(cluster, kind="stable")
        ends = np.flatnonzero(np.diff(cluster[order])) + 1
        groups = [
            places[self._places(self._members[places])]
            for places in (np.split(order, ends) if len(order) else ())
        ]
        of_groups = near_duplicates(
            self._units,
            [torch.from_numpy(places).to(self._units.device) for places in groups],
            self._least_similarity,
        )
        for places, found in zip(groups, of_groups, strict=True):
            which, of, similarity = (column.cpu().numpy() for column in found)
            yield self._members[places[which]], self._members[places[of]], similarity

    def _places(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the rows of a cluster in the order in which they are compared."""
        similarity = None
        if self._order.needs_similarity:
            similarity = self._similarity.values.numpy()[members]
        return self._order.places(members, similarity)

    def result(self) -> Duplicates:
        """The duplicates so far.

        The arrays are of the kind of the last chunk, or NumPy if there was none.
        """
        rows, of, similarity = self._columns()
        order = np.argsort(rows)
        columns = (torch.from_numpy(column[order]) for column in (rows, of, similarity))
        return Duplicates(*map(self._scorer.to_caller_kind, columns))

    def _columns(self) -> list[NDArray[Any]]:
        none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        return [np.concatenate(columns) for columns in zip(none, *self._found, strict=True)]

    @property
    def clusters(self) -> NDArray[np.int32]:
        """The cluster of each row that was read, [n]; -1 for rows that were left out."""
        return self._cluster.values.numpy()

    @property
    def strategy(self) -> str:
        """Its name."""
        return "deduplicate"

    def identity(self) -> dict[str, Any]:
        """The threshold, what is kept, the memory, and the centroids."""
        return {
            "strategy": "deduplicate",
            "threshold": self._least_similarity,
            **self._order.identity(),
            "memory_bytes": self._memory_bytes,
            **self._centroids.identity(),
        }

    def _state(self) -> dict[str, Any]:
        """The state, which includes the rows gathered so far."""
        return {
            **super()._state(),
            "cluster": self._cluster.values.numpy().copy(),
            "similarity": self._similarity.values.numpy().copy(),
            "span": list(self._span),
            "units": self._units.cpu().numpy().copy(),
            "found": [column.copy() for column in self._columns()],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        cluster, similarity, span, units, found = (
            state[name] for name in ("cluster", "similarity", "span", "units", "found")
        )
        super()._restore(state)
        self._cluster.load(torch.from_numpy(cluster.copy()))
        self._similarity.load(torch.from_numpy(similarity.copy()))
        self._span = span[0], span[1]
        self._members = self._rows_of(self._span)
        self._units = torch.from_numpy(units.copy())
        if self._span[1]:
            self.max_passes = self._n_passes()
        self._found = [tuple(found)]


def checked_threshold(threshold: Any) -> float:
    """`threshold` as a plain float; TypeError or ValueError unless it is from -1 to 1."""
    found = checked_number("threshold", threshold)
    if not -1 <= found <= 1:
        raise ValueError(f"threshold: wanted a similarity from -1 to 1, got {threshold}")
    return found
