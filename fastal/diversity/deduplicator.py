"""Semantic duplicates as a reducer: clusters first, then the rows of some after those of others."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.checks import checked_count, checked_number
from fastal.base.reducer import Pending
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.near_duplicates import near_duplicates
from fastal.diversity.row_values import RowValues
from fastal.ops.reference import unit_rows
from fastal.scoring.scorer import CheckedChunk
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_UNSEEN, _ITEM_BYTES = -1, 4
_BLOCK = 4096  # rows whose float64 is in memory at once


class Duplicates(NamedTuple):
    """Rows that are like an earlier row of their cluster.

    Attributes:
        rows: [d] int64, row numbers in the pool, ascending.
        of: [d] int64, for each the most similar earlier row, ties to the lowest; it may itself be a
            duplicate of another.
        similarity: [d] float32, the cosine similarity to that, from the threshold to 1.
    """

    rows: Any
    of: Any
    similarity: Any


class Deduplicator(ScoringReducer[Duplicates]):
    """Finds duplicates as a reducer of several passes: see `deduplicate` for the arguments.

    The first pass finds the cluster of each row. Each of the others gathers the rows of as many
    clusters as there is room for, and compares them at its end. It cannot be merged: rows that two
    reducers saw would never be compared.
    """

    def __init__(
        self,
        centroids: Any,
        threshold: float = 0.95,
        *,
        memory_bytes: int = 1 << 30,
        fast: bool = False,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        self._least_similarity = _checked_threshold(threshold)
        self._memory_bytes = checked_count("memory_bytes", memory_bytes)
        self._centroids = CentroidDistance(centroids, fast=fast)
        super().__init__(self._centroids, ScoringOptions(on_invalid, backend))
        self._cluster = RowValues(_UNSEEN, torch.int32)  # invalid rows too have this value
        # The clusters that are being gathered, first and last + 1, their rows, and these of
        # length 1; in the first pass there are none.
        self._span = (0, 0)
        self._members: NDArray[np.int64] = np.empty(0, np.int64)
        self._units = self._room_for(0)
        self._found: list[tuple[NDArray[Any], ...]] = []

    def look(self, chunk: Any, start: int | None = None) -> Pending:
        """Finds the clusters of rows, or gathers rows; see `Reducer.look`."""
        rows = self._scorer.prepare(chunk, start)
        return self._gather(rows) if self._span[1] else self._assign(rows)

    def _assign(self, rows: CheckedChunk) -> Pending:
        cluster, similarity = self._centroids.nearest(rows.x, rows.backend)
        n_invalid = int(similarity.isnan().sum())

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            self._cluster.write(rows.start, cluster.to("cpu", torch.int32))

        return Pending(commit)

    def _gather(self, rows: CheckedChunk) -> Pending:
        first, last = np.searchsorted(self._members, (rows.start, rows.start + len(rows.x)))
        places = torch.from_numpy(self._members[first:last] - rows.start).to(rows.x.device)
        units = self._units.new_empty(len(places), rows.x.shape[1], device=rows.x.device)
        for of, into in zip(torch.split(places, _BLOCK), torch.split(units, _BLOCK), strict=True):
            into.copy_(unit_rows(rows.x[of]))

        def commit() -> None:
            self._scorer.record(rows, 0, lambda: units)
            self._units = self._units.to(units.device)
            self._units[first:last] = units

        return Pending(commit)

    def next_pass(self) -> bool:
        """Compares what was gathered; whether another pass is to gather more.

        Raises:
            ValueError: a cluster does not fit into memory.
        """
        self._found.extend(self._compared())
        self._cluster.trim()
        self._span = self._next_span()
        self._members = self._rows_of(self._span)
        self._units = self._room_for(len(self._members))
        self._scorer.next_row = 0
        return len(self._members) > 0

    def _room_for(self, n_rows: int) -> Tensor:
        width = self._centroids.units.shape[1]
        return torch.zeros(n_rows, width, dtype=torch.float32, device="cpu")

    def _next_span(self) -> tuple[int, int]:
        """As many clusters as there is room for, from the last span on."""
        n_rows, first = self._to_compare(), self._span[1]
        row_bytes = _ITEM_BYTES * self._units.shape[1]
        room = self._memory_bytes // row_bytes
        largest = int(n_rows.argmax())
        if n_rows[largest] > room:
            raise ValueError(
                f"memory_bytes: cluster {largest} has {n_rows[largest]:,} rows, which take "
                f"{n_rows[largest] * row_bytes:,} bytes; there is room for {self._memory_bytes:,}: "
                "more centroids are wanted, or more memory"
            )
        return first, first + int(np.searchsorted(n_rows[first:].cumsum(), room, side="right"))

    def _to_compare(self) -> NDArray[np.int64]:
        """How many rows each cluster has, [K]; 0 for those of one row, which is like no other."""
        cluster = self._cluster.values.numpy()
        n_rows = np.bincount(cluster[cluster >= 0], minlength=len(self._centroids.units))
        return np.where(n_rows > 1, n_rows, 0)

    def _rows_of(self, span: tuple[int, int]) -> NDArray[np.int64]:
        """The rows of clusters, ascending."""
        cluster = self._cluster.values.numpy()
        rows = np.flatnonzero((cluster >= span[0]) & (cluster < span[1]))
        wanted: NDArray[np.int64] = rows[self._to_compare()[cluster[rows]] > 0]
        return wanted

    def _compared(self) -> Iterator[tuple[NDArray[Any], ...]]:
        """The duplicates among the rows gathered: rows, those they are like, similarities."""
        cluster = self._cluster.values.numpy()[self._members]
        order = np.argsort(cluster, kind="stable")
        ends = np.flatnonzero(np.diff(cluster[order])) + 1
        for places in np.split(order, ends) if len(order) else ():
            rows = torch.from_numpy(places).to(self._units.device)
            found = near_duplicates(self._units, rows, self._least_similarity)
            which, of, similarity = (column.cpu().numpy() for column in found)
            yield self._members[places[which]], self._members[places[of]], similarity

    def result(self) -> Duplicates:
        """The duplicates so far, as arrays of the kind of the last chunk, else NumPy."""
        rows, of, similarity = self._columns()
        order = np.argsort(rows)
        columns = (torch.from_numpy(column[order]) for column in (rows, of, similarity))
        return Duplicates(*map(self._scorer.to_caller_kind, columns))

    def _columns(self) -> list[NDArray[Any]]:
        none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        return [np.concatenate(columns) for columns in zip(none, *self._found, strict=True)]

    def identity(self) -> dict[str, Any]:
        """The threshold, the memory, and the centroids."""
        return {
            "strategy": "deduplicate",
            "threshold": self._least_similarity,
            "memory_bytes": self._memory_bytes,
            **self._centroids.identity(),
        }

    def _state(self) -> dict[str, Any]:
        """The state, with the rows gathered so far."""
        return {
            **super()._state(),
            "cluster": self._cluster.values.numpy().copy(),
            "span": list(self._span),
            "units": self._units.cpu().numpy().copy(),
            "found": [column.copy() for column in self._columns()],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        cluster, span, units, found = (
            state[name] for name in ("cluster", "span", "units", "found")
        )
        super()._restore(state)
        self._cluster.load(torch.from_numpy(cluster.copy()))
        self._span = span[0], span[1]
        self._members = self._rows_of(self._span)
        self._units = torch.from_numpy(units.copy())
        self._found = [tuple(found)]


def _checked_threshold(threshold: Any) -> float:
    found = checked_number("threshold", threshold)
    if not -1 <= found <= 1:
        raise ValueError(f"threshold: wanted a similarity from -1 to 1, got {threshold}")
    return found
