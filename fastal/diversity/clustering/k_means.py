"""Spherical k-means over pools of any size: a reducer of several passes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal import ops
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_values import RowValues
from fastal.diversity.centroids import CentroidDistance, FiniteRows, digest
from fastal.diversity.clustering.lloyd_pass import (
    ORDERED_BATCHES,
    LloydPass,
    Members,
    clusters_state,
    restored_clusters,
)
from fastal.diversity.clustering.local_search import Partition
from fastal.diversity.clustering.refine_pass import RefinePass
from fastal.diversity.clustering.row_sample import RowSample
from fastal.diversity.clustering.seeding import first_centroids, moved
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_SAMPLE_ROWS = 64  # per cluster; with half of them, k-means needs one more pass
_MOST_SAMPLE_BYTES, _LEAST_SAMPLE_ROWS = 1 << 26, 1 << 12
_NO_ROWS = torch.empty(0, 0, dtype=torch.float32, device="cpu")


@dataclass(frozen=True)
class KMeansOptions:
    """How centroids are found.

    Attributes:
        max_iter: the most iterations; each is a pass over the pool.
        batch_size: how many rows a mini-batch has, after which the centroids move; None: they move
            after each pass.
        seed: the seed of all draws.
        fast: as for `nearest_centroid`.
        refine: the most refining passes after the iterations.
        tol: stop if an iteration or a refining pass lowers the inertia by at most this share of it;
            0: stop if nothing moved.
    """

    max_iter: int = 10
    batch_size: int | None = None
    seed: int = 0
    fast: bool = False
    refine: int = 0
    tol: float = 0.0


class Clustering(NamedTuple):
    """The result of k-means.

    Attributes:
        centroids: [K, D] float32 tensor, each row of length 1.
        counts: [K] int64 tensor, how many members each cluster had in the last iteration.
        inertia: see `Members.inertia`; of the last iteration, before the centroids moved. After a
            refining pass, of its partition and the directions of its sums.
        n_iter: how many iterations and refining passes there were. The pass that draws a sample is
            not one of them.
        converged: whether nothing moved in the last iteration, or less than `tol` was gained.
        invalid: how many rows were left out because they are not finite.
    """

    centroids: Tensor
    counts: Tensor
    inertia: float
    n_iter: int
    converged: bool
    invalid: int


class KMeans(ScoringReducer[Clustering]):
    """Lloyd's algorithm: assign the rows to centroids, move the centroids, test whether any moved.

    The first pass draws a sample of the rows, in which the first centroids are found. Each later
    pass is an iteration. A cluster that loses its members restarts at a row of the sample. With
    `refine`, refining passes follow, see `RefinePass`.

    Args:
        n_clusters: K, at least 1.
        centroids: [K, D], the first centroids; None: they are found in the sample.
        how: how centroids are found.
        options: how rows are compared with centroids.
    """

    def __init__(
        self, n_clusters: int, centroids: Tensor | None, how: KMeansOptions, options: ScoringOptions
    ) -> None:
        super().__init__(FiniteRows(), options)
        self._n_clusters = n_clusters
        self._centroids = centroids
        self._how = how
        self.reads_gaps = how.batch_size is None
        self.max_passes = 1 + how.max_iter + how.refine
        self._sample: RowSample | None = None
        self._least: tuple[float, int] | None = None  # the threshold that the sample begins with
        # None in the pass that draws the sample.
        self._pass: LloydPass | RefinePass | None = None
        # The centroids and sums at the start of the pass.
        self._before: tuple[Tensor, Tensor | None] = _NO_ROWS, None
        self._n_iter = self._n_refined = 0
        self._inertia: float | None = None  # of the iteration before

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Draws from or assigns embeddings [n, D]; see `Reducer.look`.

        The first pass, which draws, leaves invalid rows out. The second pass reports them.
        """
        if self._pass is not None:
            return self._pass.look(chunk, start)
        rows = self._prepare(chunk, start)
        sample = self._sample or self._empty_sample(rows.x.shape[1])
        sample = sample.with_rows(rows)

        def commit() -> None:
            self._scorer.record(rows, 0, lambda: rows.x)
            self._sample = sample

        return Pending(commit)

    def _empty_sample(self, width: int) -> RowSample:
        return RowSample(sample_rows(self._n_clusters, width), width, self._how.seed, self._least)

    def next_pass(self) -> bool:
        """Ends an iteration or a refining pass; returns whether there is to be another.

        Raises:
            ValueError: the pool has fewer finite rows than `n_clusters`.
        """
        if self._pass is None:  # the sample is complete
            self._start_assigning(self._first_centroids())
            return True
        if isinstance(self._pass, RefinePass):
            return self._end_refining(self._pass)
        # The pass has assigned all rows. Move the centroids, then test whether any moved.
        self._n_iter += 1
        found, members = self.result(), self._pass.result()
        if not (found.converged or self._n_iter == self._how.max_iter):
            self._inertia = found.inertia
            sums = members.sums if self._how.batch_size else None
            self._start_assigning(found.centroids, sums)
            return True
        if not self._how.refine:
            return False
        assert self._pass.clusters is not None
        partition = Partition(members.sums, members.counts)
        self._start_refining(found.centroids, partition, self._pass.clusters)
        return True

    def _end_refining(self, refining: RefinePass) -> bool:
        """Ends a refining pass; returns whether there is to be another."""
        self._n_iter += 1
        self._n_refined += 1
        found = self.result()
        if found.converged or self._n_refined == self._how.refine:
            return False
        self._start_refining(found.centroids, refining.result().partition, refining.moved())
        return True

    def _first_centroids(self) -> Tensor:
        sample = self._units_of_sample()
        if len(sample) < self._n_clusters:
            raise ValueError(
                f"n_clusters: wanted at most the {len(sample)} valid rows of the pool, "
                f"got {self._n_clusters}"
            )
        if self._centroids is not None:
            return self._centroids
        # The sample is on the host, also if the rows are on a GPU. So Triton is not used for it.
        backend = "auto" if self.options.backend == "triton" else self.options.backend
        chosen = ops.choose(backend, sample, ("native", "torch"))
        return first_centroids(sample, self._n_clusters, self._how.seed, backend=chosen)

    def _units_of_sample(self) -> Tensor:
        return _NO_ROWS if self._sample is None else self._sample.units()

    def _start_assigning(self, units: Tensor, sums: Tensor | None = None) -> None:
        self._before = units, sums
        centroids = CentroidDistance(units, fast=self._how.fast)
        self._pass = LloydPass(
            centroids, self.options, self._how.batch_size, sums,
            keeps_clusters=self._how.refine > 0,
        )  # fmt: skip
        self._pass.row_filter = self.row_filter

    def _start_refining(self, units: Tensor, partition: Partition, clusters: RowValues) -> None:
        self._before = units, None
        n_kept = -(-sample_rows(*units.shape) // 2)  # twice as many are held at times
        centroids = CentroidDistance(units)  # not `fast`: the error of similarities is known
        self._pass = RefinePass(centroids, partition, clusters, n_kept, self.options)
        self._pass.row_filter = self.row_filter

    def part(self) -> "KMeans | LloydPass | RefinePass":
        """What reads some rows of this pass, see `merge`: the pass alone once there is one."""
        if self._pass is not None:
            return self._pass.part()
        part = self._unread()
        part._sample = None
        return part

    @property
    def undividable(self) -> str:
        """See `Reducer.undividable`."""
        return ORDERED_BATCHES if self._how.batch_size else ""

    def merge(self, other: "KMeans | LloydPass | RefinePass") -> None:
        """Adds the same pass over other rows, or the iteration over other rows.

        Raises:
            ValueError: the other has other arguments or centroids, or is in another pass.
            TypeError: the other is neither of these, or is this very reducer.
        """
        if not isinstance(other, KMeans) and self._pass is not None:
            self._pass.merge(other)  # type: ignore[arg-type]  # which checks the class
            return
        self._check_mergeable(other)
        assert isinstance(other, KMeans)
        if type(self._pass) is not type(other._pass):
            raise ValueError("merge: the other is in another pass")
        if self._pass is not None:
            self._pass.merge(other._pass)  # type: ignore[arg-type]
            return
        self._scorer.merge(other._scorer)
        if other._sample is not None:
            self._sample = self._sample or self._empty_sample(other._sample.width)
            self._sample.merge(other._sample)

    def context_for(self, start: int, stop: int) -> Any:
        """See `Mergeable.context_for`: the key and the row that rows of the sample must beat.

        Once there is a pass, what its parts need.
        """
        if self._pass is not None:
            return self._pass.context_for(start, stop)
        return self._sample.threshold if self._sample else None

    def set_context(self, context: tuple[float, int]) -> None:
        """See `Mergeable.set_context`."""
        self._least = context

    def result(self) -> Clustering:
        """The clusters after the last iteration; there must have been one."""
        assert self._pass is not None, "no iteration yet"
        before, _ = self._before
        found: Members | Partition
        if isinstance(self._pass, RefinePass):
            found, _, n_moves = self._pass.result()
            inertia: float | None = self._pass.partition.inertia
            units = moved(before, found.sums, self._units_of_sample())
            is_same = not n_moves
        else:
            found, inertia = self._pass.result(), self._inertia
            units = moved(before, found.sums, self._units_of_sample())
            is_same = torch.equal(units, before)
        return Clustering(
            units, found.counts, found.inertia, self._n_iter,
            converged=is_same or self._gained_little(inertia, found.inertia),
            invalid=self._pass.invalid,
        )  # fmt: skip

    def _gained_little(self, before: float | None, inertia: float) -> bool:
        """Whether a pass lowered the inertia by at most `tol` of it."""
        tol = self._how.tol
        return tol > 0 and before is not None and before - inertia <= tol * before

    @property
    def invalid(self) -> int:
        """How many rows were left out as invalid in this pass; the sample counts none."""
        return 0 if self._pass is None else self._pass.invalid

    @property
    def backend_used(self) -> str | None:
        """The backend that read the last chunk; None in the pass that draws the sample."""
        return None if self._pass is None else self._pass.backend_used

    def identity(self) -> dict[str, Any]:
        """The number of clusters, the given centroids, and how centroids are found."""
        given = None if self._centroids is None else digest(self._centroids)
        return {"n_clusters": self._n_clusters, "centroids": given, **asdict(self._how)}

    def _state(self) -> dict[str, Any]:
        units, sums = self._before
        return {
            **super()._state(),
            "n_iter": self._n_iter,
            "n_refined": self._n_refined,
            "inertia": self._inertia,
            "sample": None if self._sample is None else self._sample.state_dict(),
            "units": units.numpy().copy(),
            "sums": None if sums is None else sums.numpy().copy(),
            "refined": _start_of(self._pass) if isinstance(self._pass, RefinePass) else None,
            "pass": None if self._pass is None else self._pass.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        n_iter, n_refined, inertia, sample, units, sums, refined, of_pass = (
            state[name]
            for name in (
                "n_iter", "n_refined", "inertia", "sample", "units", "sums", "refined", "pass",
            )
        )  # fmt: skip
        super()._restore(state)
        self._n_iter, self._n_refined, self._inertia = n_iter, n_refined, inertia
        if sample is not None:
            self._sample = self._empty_sample(sample["units"].shape[1])
            self._sample.load_state_dict(sample)
        if refined is not None:
            partition = Partition(*(torch.from_numpy(refined[name]) for name in Partition._fields))
            clusters = restored_clusters(refined["clusters"])
            self._start_refining(torch.from_numpy(units), partition, clusters)
        elif of_pass is not None:
            sums = None if sums is None else torch.from_numpy(sums)
            self._start_assigning(torch.from_numpy(units), sums)
        if self._pass is not None:
            self._pass.load_state_dict(of_pass)


def _start_of(refining: RefinePass) -> dict[str, Any]:
    """The partition at the start of a refining pass, as plain values."""
    partition = {name: value.numpy().copy() for name, value in refining.partition._asdict().items()}
    return {**partition, "clusters": clusters_state(refining.clusters)}


def sample_rows(n_clusters: int, width: int) -> int:
    """How many rows of so many columns the first pass draws."""
    most = max(_MOST_SAMPLE_BYTES // (4 * width), n_clusters)
    return min(max(_SAMPLE_ROWS * n_clusters, _LEAST_SAMPLE_ROWS), most)
