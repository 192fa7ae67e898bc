"""Semantic duplicates as a reducer: clusters first, then the rows of some after those of others."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import converter_for
from fastal.base.errors import check_same, restoring
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.near_duplicates import near_duplicates
from fastal.diversity.row_values import RowValues
from fastal.ops.reference import unit_rows
from fastal.scoring.scorer import Confirm, Scorer, watching
from fastal.selection.topk import checked_count

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


class Deduplicator:
    """Finds duplicates as a reducer of several passes: see `deduplicate` for the arguments.

    The first pass tells the cluster of each row. Each of the others gathers the rows of as many
    clusters as there is room for, and compares them when the last is there.
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
        self._threshold = _checked_threshold(threshold)
        self._memory_bytes = checked_count("memory_bytes", memory_bytes)
        self._centroids = CentroidDistance(centroids, fast=fast)
        self._scorer = Scorer(self._centroids, on_invalid=on_invalid, backend=backend)
        self._cluster = RowValues(_UNSEEN, torch.int32)  # that too of invalid rows
        # The clusters that are being gathered, first and last + 1, their rows, and these of
        # length 1; in the first pass there are none.
        self._span = (0, 0)
        self._members: NDArray[np.int64] = np.empty(0, np.int64)
        self._units = self._room_for(0)
        self._found: list[tuple[NDArray[Any], ...]] = []
        self._to_caller_kind = converter_for(np.empty(0))

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... of this pass; see `Selector.update`.

        Raises:
            InvalidRows: with on_invalid="raise".
            ValueError, TypeError: the chunk is no such array, or its width has changed.
        """
        rows = self._scorer.checked(chunk, start)
        stop = rows.start + len(rows.x)
        if self._span[1]:
            first, last = np.searchsorted(self._members, (rows.start, stop))
            places = torch.from_numpy(self._members[first:last] - rows.start).to(rows.x.device)
            units = self._units.new_empty(len(places), rows.x.shape[1], device=rows.x.device)
            for of, into in zip(
                torch.split(places, _BLOCK), torch.split(units, _BLOCK), strict=True
            ):
                into.copy_(unit_rows(rows.x[of]))
            self._scorer.count(rows, 0, lambda: units, confirm)
            self._units = self._units.to(units.device)
            self._units[first:last] = units
        else:
            cluster, _ = self._centroids.assigned(rows, self._scorer, confirm)
            self._cluster.of(rows.start, stop).copy_(cluster)
        self._to_caller_kind = converter_for(chunk)

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
            found = near_duplicates(self._units, rows, self._threshold)
            which, of, similarity = (column.cpu().numpy() for column in found)
            yield self._members[places[which]], self._members[places[of]], similarity

    def merge(self, other: Any) -> None:  # noqa: ARG002
        """Refused: rows that two readers saw would never be compared.

        Raises:
            TypeError: always.
        """
        raise TypeError("merge: duplicates are found by one reader, which sees all rows")

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays; it has the rows gathered so far."""
        return {
            "arguments": self.arguments(),
            "scorer": self._scorer.state_dict(),
            "cluster": self._cluster.values.numpy().copy(),
            "span": list(self._span),
            "units": self._units.cpu().numpy().copy(),
            "found": [column.copy() for column in self._columns()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores exactly what `state_dict` gave.

        Raises:
            ValueError: the state is of other arguments, or no such state.
        """
        with restoring():
            check_same(self.arguments(), state["arguments"], "the state")
            cluster, span, units, found = (
                state[name] for name in ("cluster", "span", "units", "found")
            )
            self._scorer.load_state_dict(state["scorer"])
        self._cluster.load(torch.from_numpy(cluster.copy()))
        self._span = span[0], span[1]
        self._members = self._rows_of(self._span)
        self._units = torch.from_numpy(units.copy())
        self._found = [tuple(found)]

    def result(self) -> Duplicates:
        """The duplicates so far, as arrays of the kind of the last chunk, else NumPy."""
        rows, of, similarity = self._columns()
        order = np.argsort(rows)
        columns = (torch.from_numpy(column[order]) for column in (rows, of, similarity))
        return Duplicates(*map(self._to_caller_kind, columns))

    def _columns(self) -> list[NDArray[Any]]:
        none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        return [np.concatenate(columns) for columns in zip(none, *self._found, strict=True)]

    def arguments(self) -> dict[str, Any]:
        """What a state is bound to, as plain values."""
        return {
            "strategy": "deduplicate",
            "threshold": self._threshold,
            "memory_bytes": self._memory_bytes,
            **self._centroids.arguments(),
        }

    @property
    def invalid(self) -> int:
        """How many rows were left out as invalid."""
        return self._scorer.invalid

    @property
    def backend_used(self) -> str | None:
        """The backend that told the clusters of the last chunk."""
        return self._scorer.backend_used


def _checked_threshold(threshold: Any) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)):
        raise TypeError(f"threshold: wanted a number, got {threshold!r}")
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold: wanted a similarity from -1 to 1, got {threshold}")
    return float(threshold)
