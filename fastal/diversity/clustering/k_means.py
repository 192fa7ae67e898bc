"""Spherical k-means over pools of any size: a reducer of several passes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal.base.errors import check_another, check_same, restoring
from fastal.diversity.centroids import CentroidDistance, FiniteRows, digest
from fastal.diversity.clustering.lloyd_pass import LloydPass
from fastal.diversity.clustering.row_sample import RowSample
from fastal.diversity.clustering.seeding import moved, seeds
from fastal.scoring.scorer import Confirm, Scorer, watching

_SAMPLE_ROWS = 64  # a cluster; half as many cost an epoch more
_MOST_SAMPLE_BYTES, _LEAST_SAMPLE_ROWS = 1 << 26, 1 << 12
_NO_ROWS = torch.empty(0, 0, dtype=torch.float32, device="cpu")


class Clustering(NamedTuple):
    """What k-means ended with.

    Attributes:
        centroids: [K, D] float32 tensor, each of length 1.
        counts: [K] int64 tensor, the members in the last epoch.
        inertia: in the last epoch, before the centroids moved, see `LloydPass.inertia`.
        epochs: how many passes there were, but for that which draws a sample.
        converged: whether the centroids stayed where they were in the last.
        invalid: how many rows were left out as not finite.
    """

    centroids: Tensor
    counts: Tensor
    inertia: float
    epochs: int
    converged: bool
    invalid: int


class KMeans:
    """A first pass draws a sample, to begin from and for clusters that lose their members to begin
    anew at; each that follows moves the centroids to the direction of their members' sum.

    Args:
        n_clusters: K, at least 1.
        centroids: [K, D] to begin from instead of the sample.
        max_iter: the most passes after the first.
        batch_size: see `LloydPass`.
        seed: of the sample, and of what is drawn from it.
        fast: see `nearest_centroid`.
        on_invalid: "raise" or "skip".
        backend: "auto", "triton" or "torch".
    """

    def __init__(
        self,
        n_clusters: int,
        centroids: Tensor | None,
        *,
        max_iter: int,
        batch_size: int | None,
        seed: int,
        fast: bool,
        on_invalid: str,
        backend: str,
    ) -> None:
        self._n_clusters = n_clusters
        self._centroids = centroids
        self._max_iter = max_iter
        self._batch_size = batch_size
        self._seed = seed
        self._fast = fast
        self._how = {"on_invalid": on_invalid, "backend": backend}
        self._scorer = Scorer(FiniteRows(), **self._how)
        self._sample: RowSample | None = None
        self._epoch: LloydPass | None = None
        # Centroids and sums that the epoch began with.
        self._first: tuple[Tensor, Tensor | None] = _NO_ROWS, None
        self._epochs = 0

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... of this pass (None: where the last chunk ended).

        Raises:
            InvalidRows: rows are not finite, and on_invalid is "raise"; not in the first pass.
            ValueError, TypeError: no embeddings [n, D], or of another D.
        """
        if self._epoch is not None:
            self._epoch.update(chunk, start, confirm=confirm)
            return
        rows = self._scorer.checked(chunk, start)
        self._scorer.count(rows, 0, lambda: rows.x, confirm)
        if self._sample is None:
            self._sample = self._empty_sample(rows.x.shape[1])
        self._sample.update(rows.x, rows.start)

    def _empty_sample(self, width: int) -> RowSample:
        most = max(_MOST_SAMPLE_BYTES // (4 * width), self._n_clusters)
        n_rows = min(max(_SAMPLE_ROWS * self._n_clusters, _LEAST_SAMPLE_ROWS), most)
        return RowSample(n_rows, width, self._seed)

    def next_pass(self) -> bool:
        """Whether the centroids are to move once more; called after the last chunk of a pass.

        Raises:
            ValueError: the pool has fewer rows that are finite than there are to be clusters.
        """
        if self._epoch is None:
            self._begin(self._seeds())
            return True
        self._epochs += 1
        found = self.result()
        if found.converged or self._epochs == self._max_iter:
            return False
        self._begin(found.centroids, self._epoch.sums if self._batch_size else None)
        return True

    def _seeds(self) -> Tensor:
        sample = self._units_of_sample()
        if len(sample) < self._n_clusters:
            raise ValueError(
                f"n_clusters: wanted at most the {len(sample)} valid rows of the pool, "
                f"got {self._n_clusters}"
            )
        if self._centroids is not None:
            return self._centroids
        return seeds(sample, self._n_clusters, self._seed)

    def _units_of_sample(self) -> Tensor:
        return _NO_ROWS if self._sample is None else self._sample.units()

    def _begin(self, units: Tensor, sums: Tensor | None = None) -> None:
        self._first = units, sums
        centroids = CentroidDistance(units, fast=self._fast)
        self._epoch = LloydPass(centroids, self._batch_size, sums, **self._how)

    def merge(self, other: "KMeans") -> None:
        """Takes in the same pass over other rows; merge `LloydPass`es to distribute k-means.

        Raises:
            ValueError, TypeError: no k-means of other rows with the same arguments and centroids.
        """
        check_another(KMeans, self, other)
        check_same(self.arguments(), other.arguments(), "merge: the other")
        if (self._epoch is None) != (other._epoch is None):
            raise ValueError("merge: the other is at another pass")
        if self._epoch is not None and other._epoch is not None:
            self._epoch.merge(other._epoch)
            return
        self._scorer.merge(other._scorer)
        if other._sample is not None:
            self._sample = self._sample or self._empty_sample(other._sample.width)
            self._sample.merge(other._sample)

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(K D)."""
        units, sums = self._first
        return {
            "arguments": self.arguments(),
            "epochs": self._epochs,
            "scorer": self._scorer.state_dict(),
            "sample": None if self._sample is None else self._sample.state_dict(),
            "units": units.numpy().copy(),
            "sums": None if sums is None else sums.numpy().copy(),
            "epoch": None if self._epoch is None else self._epoch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError for that of other arguments."""
        with restoring():
            check_same(self.arguments(), state["arguments"], "the state")
            self._scorer.load_state_dict(state["scorer"])
            self._epochs = state["epochs"]
            if state["sample"] is not None:
                self._sample = self._empty_sample(state["sample"]["units"].shape[1])
                self._sample.load_state_dict(state["sample"])
            if state["epoch"] is not None:
                sums = None if state["sums"] is None else torch.from_numpy(state["sums"])
                self._begin(torch.from_numpy(state["units"]), sums)
                assert self._epoch is not None
                self._epoch.load_state_dict(state["epoch"])

    def result(self) -> Clustering:
        """The clusters as of the epoch that is over; there has been one when all passes are."""
        assert self._epoch is not None, "no epoch yet"
        epoch, (before, _) = self._epoch, self._first
        units = moved(before, epoch.sums, self._units_of_sample())
        return Clustering(
            units, epoch.counts, epoch.inertia, self._epochs, torch.equal(units, before),
            epoch.scorer.invalid,
        )  # fmt: skip

    @property
    def backend_used(self) -> str | None:
        """The backend that looked at the last chunk."""
        return None if self._epoch is None else self._epoch.scorer.backend_used

    def arguments(self) -> dict[str, Any]:
        """What makes a difference to the result, as plain values."""
        given = None if self._centroids is None else digest(self._centroids)
        return {
            "n_clusters": self._n_clusters,
            "centroids": given,
            "max_iter": self._max_iter,
            "batch_size": self._batch_size,
            "seed": self._seed,
            "fast": self._fast,
        }
