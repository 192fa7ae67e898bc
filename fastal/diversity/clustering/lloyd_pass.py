"""One pass of spherical k-means over a pool, as a reducer: rows are assigned to centroids."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal.base.reducer import Pending
from fastal.diversity.centroids import CentroidDistance
from fastal.ops.reference import unit_rows, unit_sums
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_SCALE = 2.0**30  # similarities are added as whole multiples of its inverse, exactly


class Members(NamedTuple):
    """What is known of the members of each cluster.

    Attributes:
        centroids: what rows are assigned to.
        sums: [K, D] int64, the exact sums of the members scaled to length 1, see `unit_sums`.
        counts: [K] int64, how many members there are in this pass.
        similarity: the sum of the similarities to the centroids, in units of 2^-30.
    """

    centroids: CentroidDistance
    sums: Tensor
    counts: Tensor
    similarity: int

    @property
    def inertia(self) -> float:
        """The sum of squared distances of the rows, scaled to length 1, to their centroids."""
        return 2 * (int(self.counts.sum()) - self.similarity / _SCALE)


class LloydPass(ScoringReducer[Members]):
    """Sums the rows that are nearest to each centroid, scaled to length 1.

    Sums are exact: no chunks, and no order of chunks or of merging, change a bit of them. With
    `batch_size` the centroids move after every so many rows, to the directions of the sums so far:
    then only the order of the rows matters, and nothing can be merged.

    Args:
        centroids: what rows are assigned to.
        options: how rows are compared with them.
        batch_size: rows of a mini-batch, which begins at a multiple of it; None: the whole pass.
        sums: [K, D] of the mini-batches before; None: there were none.
    """

    def __init__(
        self,
        centroids: CentroidDistance,
        options: ScoringOptions,
        batch_size: int | None = None,
        sums: Tensor | None = None,
    ) -> None:
        super().__init__(centroids, options)
        shape = centroids.units.shape
        zeros = torch.zeros(shape, dtype=torch.int64, device="cpu")
        counts = torch.zeros(len(centroids.units), dtype=torch.int64, device="cpu")
        self._batch_size = batch_size
        self._members = Members(centroids, zeros if sums is None else sums, counts, 0)

    def look(self, chunk: Any, start: int | None = None) -> Pending:
        """Assigns embeddings [n, D] to centroids; see `Reducer.look`."""
        rows = self._scorer.prepare(chunk, start)
        members, first = self._members, 0
        similarity: list[Tensor] = []
        while first < len(rows.x) or not similarity:
            to_next = _to_next(rows.start + first, self._batch_size, len(rows.x) - first)
            piece = rows.x[first : first + to_next]
            members, similar = _assigned(members, piece, rows.backend)
            similarity.append(similar)
            first += len(piece)
            if self._batch_size and (rows.start + first) % self._batch_size == 0:
                members = _moved(members)
        found = torch.cat(similarity)
        n_invalid = int(found.isnan().sum())

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: found)
            self._members = members

        return Pending(commit)

    def merge(self, other: "LloydPass") -> None:
        """Adds the sums of other rows.

        Raises:
            ValueError, TypeError: the other is no pass over other rows with the same centroids; or
                there are mini-batches, which depend on the order of the rows.
        """
        self._check_mergeable(other)
        if self._batch_size:
            raise ValueError("merge: mini-batches come one after the other; wanted batch_size=None")
        self._scorer.merge(other._scorer)
        ours, theirs = self._members, other._members
        self._members = Members(
            ours.centroids, ours.sums + theirs.sums, ours.counts + theirs.counts,
            ours.similarity + theirs.similarity,
        )  # fmt: skip

    def result(self) -> Members:
        """The members of each cluster so far."""
        return self._members

    def identity(self) -> dict[str, Any]:
        """The centroids of the first batch, and the batch size."""
        return {**super().identity(), "batch_size": self._batch_size}

    def _state(self) -> dict[str, Any]:
        centroids, sums, counts, similarity = self._members
        return {
            **super()._state(),
            "units": centroids.units.numpy().copy(),
            "sums": sums.numpy().copy(),
            "counts": counts.numpy().copy(),
            "similarity": similarity,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        units, sums, counts = (state[name] for name in ("units", "sums", "counts"))
        super()._restore(state)
        centroids = CentroidDistance(units, fast=self._members.centroids.fast)
        self._members = Members(
            centroids, torch.from_numpy(sums), torch.from_numpy(counts), state["similarity"]
        )


def _assigned(members: Members, x: Tensor, backend: str) -> tuple[Members, Tensor]:
    """The members with rows x added, and the rows' similarities to their centroids."""
    n_clusters = len(members.counts)
    cluster, similarity = members.centroids.nearest(x, backend)
    counts = torch.bincount(cluster + 1, minlength=n_clusters + 1)[1:]  # -1: invalid
    added = Members(
        members.centroids,
        members.sums + unit_sums(x, cluster, n_clusters).cpu(),
        members.counts + counts.cpu(),
        members.similarity + int((similarity.nan_to_num() * _SCALE).long().sum()),
    )
    return added, similarity


def _moved(members: Members) -> Members:
    """The members with centroids at the directions of their sums; without members they stay."""
    centroids, sums = members.centroids, members.sums
    has_members = (sums != 0).any(1, keepdim=True)
    directions = torch.where(has_members, unit_rows(sums).float(), centroids.units)
    return members._replace(centroids=CentroidDistance(directions, fast=centroids.fast))


def _to_next(row: int, batch_size: int | None, most: int) -> int:
    """How many rows there are until the next batch begins, at most `most`."""
    return most if batch_size is None else min(most, batch_size - row % batch_size)
