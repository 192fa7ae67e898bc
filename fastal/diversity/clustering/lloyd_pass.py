"""One pass of spherical k-means over a pool, as a reducer."""

from typing import Any

import torch
from torch import Tensor

from fastal.base.errors import check_another, check_same, restoring
from fastal.diversity.centroids import CentroidDistance
from fastal.ops.reference import unit_rows, unit_sums
from fastal.scoring.scorer import Confirm, Scorer, watching

_SCALE = 2.0**30  # similarities are added as whole multiples of its inverse, exactly


class LloydPass:
    """Sums of the rows that are nearest to each centroid, scaled to length 1.

    Sums are exact: no chunks, and no order of chunks or of merging, change a bit of them. With
    `batch_size` the centroids move after every so many rows, to the directions of the sums so far:
    then only the order of the rows matters, and nothing can be merged.

    Args:
        centroids: what rows are held against.
        batch_size: rows of a mini-batch, which begins at a multiple of it; None: the whole pass.
        sums: [K, D] of the mini-batches before; None: there were none.
        on_invalid: "raise" or "skip".
        backend: "auto", "triton" or "torch".

    Attributes:
        centroids: of the last batch.
        sums: [K, D] int64, see `unit_sums`.
        counts: [K] int64, the members in this pass.
    """

    def __init__(
        self,
        centroids: CentroidDistance,
        batch_size: int | None = None,
        sums: Tensor | None = None,
        *,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        self.centroids = centroids
        self._batch_size = batch_size
        shape = centroids.units.shape
        self.sums = torch.zeros(shape, dtype=torch.int64, device="cpu") if sums is None else sums
        self.counts = torch.zeros(len(centroids.units), dtype=torch.int64, device="cpu")
        self._similarity = 0
        self.scorer = Scorer(centroids, on_invalid=on_invalid, backend=backend)

    @property
    def inertia(self) -> float:
        """The sum of squared distances of the rows, scaled to length 1, to their centroids."""
        return 2 * (int(self.counts.sum()) - self._similarity / _SCALE)

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... (None: where the last chunk ended): embeddings [n, D].

        Raises:
            InvalidRows: rows are not finite, and on_invalid is "raise".
            ValueError, TypeError: no such rows.
        """
        rows = self.scorer.checked(chunk, start)
        before = self.centroids, self.sums, self.counts, self._similarity
        similarity: list[Tensor] = []
        try:
            first = 0
            while first < len(rows.x) or not similarity:
                to_next = _to_next(rows.start + first, self._batch_size, len(rows.x) - first)
                piece = rows.x[first : first + to_next]
                similarity.append(self._take(piece, rows.backend))
                first += len(piece)
                if self._batch_size and (rows.start + first) % self._batch_size == 0:
                    self._move()
            found = torch.cat(similarity)
            self.scorer.count(rows, int(found.isnan().sum()), lambda: found, confirm)
        except BaseException:
            self.centroids, self.sums, self.counts, self._similarity = before
            raise

    def _take(self, x: Tensor, backend: str) -> Tensor:
        """Adds rows to the sums; their similarities."""
        n_clusters = len(self.counts)
        cluster, similarity = self.centroids.nearest(x, backend)
        members = torch.bincount(cluster + 1, minlength=n_clusters + 1)[1:]  # -1: invalid
        self.sums = self.sums + unit_sums(x, cluster, n_clusters).cpu()
        self.counts = self.counts + members.cpu()
        self._similarity += int((similarity.nan_to_num() * _SCALE).long().sum())
        return similarity

    def _move(self) -> None:
        """Has the centroids of clusters with members follow them, amid the pass."""
        has_members = (self.sums != 0).any(1, keepdim=True)
        directions = torch.where(has_members, unit_rows(self.sums).float(), self.centroids.units)
        self.centroids = CentroidDistance(directions, fast=self.centroids.fast)

    def merge(self, other: "LloydPass") -> None:
        """Takes in the sums of other rows.

        Raises:
            ValueError, TypeError: no pass over other rows with the same centroids; or with
                mini-batches, which are of one order of the rows.
        """
        check_another(LloydPass, self, other)
        if self._batch_size or other._batch_size:
            raise ValueError("merge: mini-batches come one after the other; wanted batch_size=None")
        self.scorer.merge(other.scorer)
        self.sums = self.sums + other.sums
        self.counts = self.counts + other.counts
        self._similarity += other._similarity

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(K D)."""
        return {
            "batch_size": self._batch_size,
            "scorer": self.scorer.state_dict(),
            "units": self.centroids.units.numpy().copy(),
            "sums": self.sums.numpy().copy(),
            "counts": self.counts.numpy().copy(),
            "similarity": self._similarity,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError for that of other centroids."""
        with restoring():
            units, sums, counts = (state[name] for name in ("units", "sums", "counts"))
            check_same({"batch_size": self._batch_size}, state, "the state")
            self.scorer.load_state_dict(state["scorer"])
            self.centroids = CentroidDistance(units, fast=self.centroids.fast)
            self.sums, self.counts = torch.from_numpy(sums), torch.from_numpy(counts)
            self._similarity = state["similarity"]

    def result(self) -> "LloydPass":
        """Itself: sums, counts and inertia so far."""
        return self


def _to_next(row: int, batch_size: int | None, most: int) -> int:
    """How many rows there are until the next batch begins, at most `most`."""
    return most if batch_size is None else min(most, batch_size - row % batch_size)
