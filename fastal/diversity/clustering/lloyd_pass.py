"""One pass of spherical k-means over a pool, as a reducer: assigns rows and sums the members."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal import ops
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_values import RowValues
from fastal.diversity.centroids import CentroidDistance
from fastal.ops.reference import unit_rows
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_SCALE = 2.0**30  # similarities are summed as integer multiples of 1 / _SCALE, without rounding
# The rows of a chunk that are assigned at once. torch divides ops over more numbers among threads,
# which wait for one another by spinning.
_PIECE_ROWS = 1 << 15
# Why mini-batches cannot be divided among machines.
ORDERED_BATCHES = "mini-batches depend on the order of the rows; wanted batch_size=None"


class Members(NamedTuple):
    """Sums over the members of each cluster.

    Attributes:
        centroids: the centroids that rows are assigned to.
        sums: [K, D] int64, the exact sums of the members scaled to length 1, see `unit_sums`.
        counts: [K] int64, how many rows were assigned to each cluster in this pass.
        similarity: the sum of the rows' similarities to their centroids, in units of 2^-30.
    """

    centroids: CentroidDistance
    sums: Tensor
    counts: Tensor
    similarity: int

    @property
    def inertia(self) -> float:
        """The sum over rows of the squared distance of the unit row to its centroid."""
        return 2 * (int(self.counts.sum()) - self.similarity / _SCALE)


class LloydPass(ScoringReducer[Members]):
    """Assigns rows to their nearest centroids, and sums the members, scaled to length 1.

    Sums are exact. So they are the same bits for any chunks, any order of chunks and any order of
    merging. With `batch_size`, the centroids also move within the pass: after each mini-batch, to
    the directions of the sums so far. Then the result depends on the order of the rows, still not
    on the chunks, and passes cannot be merged.

    Args:
        centroids: the centroids that rows are assigned to.
        options: how rows are compared with centroids.
        batch_size: how many rows a mini-batch has; it begins at a multiple of `batch_size`. None:
            the centroids do not move within the pass.
        sums: [K, D] int64, the sums of earlier mini-batches; None: there were none.
        keeps_clusters: whether to keep the cluster of each row, in 4 bytes.

    Attributes:
        clusters: the cluster of each row, int32, -1 for rows that are invalid or not read; None:
            they are not kept.
    """

    def __init__(
        self,
        centroids: CentroidDistance,
        options: ScoringOptions,
        batch_size: int | None = None,
        sums: Tensor | None = None,
        *,
        keeps_clusters: bool = False,
    ) -> None:
        super().__init__(centroids, options)
        shape = centroids.units.shape
        zeros = torch.zeros(shape, dtype=torch.int64, device="cpu")
        counts = torch.zeros(len(centroids.units), dtype=torch.int64, device="cpu")
        self._batch_size = batch_size
        self.reads_gaps = batch_size is None  # else the row numbers say where a mini-batch begins
        self._members = Members(centroids, zeros if sums is None else sums, counts, 0)
        self.clusters = no_clusters() if keeps_clusters else None

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Assigns embeddings [n, D] to centroids; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        members, first = self._members, 0
        assigned: list[tuple[Tensor, Tensor]] = []
        while first < len(rows.x) or not assigned:
            most = min(_PIECE_ROWS, len(rows.x) - first)
            to_next = _to_next(rows.start + first, self._batch_size, most)
            piece = rows.part(first, first + to_next)
            members, cluster, similarity = _assign(members, piece)
            assigned.append((cluster, similarity))
            first += len(piece.x)
            if self._batch_size and (rows.start + first) % self._batch_size == 0:
                members = _move(members)
        cluster, similarity = map(torch.cat, zip(*assigned, strict=True))
        n_invalid = int(rows.invalid(similarity).count_nonzero())
        of_rows = None
        if self.clusters is not None:
            self.clusters.reserve(rows.numbers.stop)
            of_rows = cluster.int().cpu()

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            self._members = members
            if self.clusters is not None and of_rows is not None:
                self.clusters.write(rows.numbers, of_rows)

        return Pending(commit)

    def part(self) -> "LloydPass":
        """A pass with the same centroids that has read no rows; see `merge`."""
        part = self._unread()
        ours = self._members
        zeros = torch.zeros_like(ours.sums), torch.zeros_like(ours.counts)
        part._members = Members(ours.centroids, *zeros, 0)
        part.clusters = None if self.clusters is None else no_clusters()
        return part

    def context_for(self, start: int, stop: int) -> int | None:  # noqa: ARG002
        """See `Mergeable.context_for`: the first row, if the cluster of each row is kept."""
        return None if self.clusters is None else start

    def set_context(self, context: int) -> None:
        """See `Mergeable.set_context`."""
        self.clusters = no_clusters(context)

    @property
    def undividable(self) -> str:
        """See `Reducer.undividable`."""
        return ORDERED_BATCHES if self._batch_size else ""

    def merge(self, other: "LloydPass") -> None:
        """Adds the sums of other rows of the same pass.

        Raises:
            ValueError: the other has other centroids or another batch size; or there are
                mini-batches, which depend on the order of the rows.
            TypeError: the other is not a `LloydPass`, or is this very reducer.
        """
        self._check_mergeable(other)
        if self._batch_size:
            raise ValueError(f"merge: {ORDERED_BATCHES}")
        self._scorer.merge(other._scorer)
        ours, theirs = self._members, other._members
        self._members = Members(
            ours.centroids, ours.sums + theirs.sums, ours.counts + theirs.counts,
            ours.similarity + theirs.similarity,
        )  # fmt: skip
        if self.clusters is not None and other.clusters is not None:
            self.clusters.merge(other.clusters, torch.maximum)

    def result(self) -> Members:
        """The sums over the members of each cluster so far."""
        return self._members

    def identity(self) -> dict[str, Any]:
        """The centroids at the start of the pass, the batch size, and whether clusters are kept."""
        return {
            **super().identity(),
            "batch_size": self._batch_size,
            "keeps_clusters": self.clusters is not None,
        }

    def _state(self) -> dict[str, Any]:
        centroids, sums, counts, similarity = self._members
        return {
            **super()._state(),
            # The centroids are those of the identity unless mini-batches have moved them.
            "units": centroids.units.numpy().copy() if self._batch_size else None,
            "sums": sums.numpy().copy(),
            "counts": counts.numpy().copy(),
            "similarity": similarity,
            "clusters": None if self.clusters is None else clusters_state(self.clusters),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        units, sums, counts, clusters = (
            state[name] for name in ("units", "sums", "counts", "clusters")
        )
        super()._restore(state)
        centroids = self._members.centroids
        if units is not None:
            centroids = CentroidDistance(units, fast=centroids.fast)
        self._members = Members(
            centroids, torch.from_numpy(sums), torch.from_numpy(counts), state["similarity"]
        )
        self.clusters = None if clusters is None else restored_clusters(clusters)


def no_clusters(first: int = 0) -> RowValues:
    """The clusters of no rows, int32; they can be written from row `first` on."""
    return RowValues(-1, torch.int32, first)


def clusters_state(clusters: RowValues) -> dict[str, Any]:
    """The cluster of each row, as plain values."""
    return {"first": clusters.first, "values": clusters.values.numpy().copy()}


def restored_clusters(state: Mapping[str, Any]) -> RowValues:
    """What `clusters_state` was given."""
    clusters = no_clusters()
    clusters.load(torch.from_numpy(state["values"].copy()), state["first"])
    return clusters


def _assign(members: Members, rows: Rows) -> tuple[Members, Tensor, Tensor]:
    """Members that also have rows x; the clusters [n] and similarities [n] of these rows."""
    n_clusters = len(members.counts)
    cluster, similarity = members.centroids.nearest(rows)
    cluster = cluster.to(rows.x.device)  # a GPU also reads rows on the host
    counts = torch.bincount(cluster + 1, minlength=n_clusters + 1)[1:]  # -1: invalid
    sums = ops.unit_sums(rows.x, cluster, n_clusters, backend=rows.backend).cpu()
    added = Members(
        members.centroids,
        # By NumPy: threads of torch would spin while those of the next rows are at work.
        torch.from_numpy(members.sums.numpy() + sums.numpy()),
        members.counts + counts.cpu(),
        members.similarity + int((similarity.nan_to_num() * _SCALE).long().sum()),
    )
    return added, cluster, similarity


def _move(members: Members) -> Members:
    """Members whose centroids are the directions of their sums; if a sum is 0, the old centroid."""
    centroids, sums = members.centroids, members.sums
    has_members = (sums != 0).any(1, keepdim=True)
    directions = torch.where(has_members, unit_rows(sums).float(), centroids.units)
    return members._replace(centroids=CentroidDistance(directions, fast=centroids.fast))


def _to_next(row: int, batch_size: int | None, most: int) -> int:
    """How many rows to read before the next mini-batch begins, at most `most`."""
    return most if batch_size is None else min(most, batch_size - row % batch_size)
