"""Representative clusters: rows like a cluster of the pool and unlike the labelled clusters."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.blank_rows import Blank
from fastal.base.checks import checked_count
from fastal.base.errors import prefixing_errors
from fastal.base.groups import Groups
from fastal.base.reducer import Pending, RowStart
from fastal.combine.left_rows import check_number, left_rows
from fastal.combine.row_match import counted, opened
from fastal.combine.stages import Stages
from fastal.diversity.centroids import CentroidDistance, EmbeddingMeasure
from fastal.diversity.clustering.clusters import CosineClusters
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool, with_ids
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.grouped_topk import GroupedTopK
from fastal.selection.pick_warnings import warn_of
from fastal.sources import Source
from fastal.sources.files import in_column_order_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import StageOptions

_CLUSTERS = 20


def representative_clusters(
    pool: Any,
    labelled: Any,
    k: int,
    *,
    n_clusters: int | None = None,
    seed: int = 0,
    **options: "Unpack[StageOptions]",
) -> Picks:
    """Of each cluster of the pool, the row that is most like it and least like labelled clusters.

    Pool and labelled data are clustered apart, by cosine similarity. The score of a row is its
    largest similarity to a centroid of the pool minus its largest similarity to a centroid of the
    labelled data. The best row of each cluster of the pool is a candidate, and the k best
    candidates are picked. The pool is read at most 12 times; if k is above the number of clusters
    and they differ in size, it may be read a few times more. Memory is O(k + clusters + chunk).

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again.
        labelled: embeddings [L, D] of the labelled rows; any pool that can be read again. If
            L = 0, the score is the similarity to the pool's centroids alone.
        k: how many rows to pick, at least 1. If it is above the number of clusters, the second best
            row of each cluster follows, then the third, and so on.
        n_clusters: how many clusters the pool has, and the labelled data, or L if L is less; None:
            20, or the number of rows that are left if that is less.
        seed: of the clusters, from 0 to 2^64 - 1.
        options: the arguments of `fastal.select` that `StageOptions` names. `exclude` and `among`
            are about the pool: other rows do not count in its clusters. Each stage has a folder in
            the folder `checkpoint`.

    Returns:
        Picks: exactly k, or with a warning all rows that are left. First come the best rows of the
        clusters, best first, then the second best rows, and so on. Scores are in [-2, 2]; larger
        means more worth labelling. `groups` has the cluster. Ties go to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`; no row is left to pick; or
            there are fewer valid rows than clusters.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.1.4.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> x = np.array([[1, 0], [9, 1], [0, 1], [1, 9], [0, -1], [0, -2]], np.float32)
        >>> picks = combine.representative_clusters(x, x[:2], 2, n_clusters=3)
        >>> sorted(picks.rows.tolist())
        [2, 4]
    """
    stages = Stages(**options)
    stages.check_backend(EmbeddingMeasure.offers)
    k, source = checked_count("k", k), opened(pool, "pool")
    left = left_rows(source, stages, "pool")
    with prefixing_errors("labelled"):
        of_labelled = in_column_order_of(source, opened(labelled, "labelled"))
    wanted = (
        min(_CLUSTERS, left.n) if n_clusters is None else checked_count("n_clusters", n_clusters)
    )
    centroids = _centroids(
        source, wanted, seed, stages, stages.run("pool-clusters", **left.arguments())
    )
    unlike = CentroidDistance(torch.zeros_like(centroids.units[:1]))
    n_labelled = counted(of_labelled)
    if n_labelled:
        with prefixing_errors("labelled"):
            unlike = _centroids(
                of_labelled, min(wanted, n_labelled), seed, stages, stages.run("labelled-clusters")
            )
    measure = ClusterRepresentativeness(centroids.units, unlike.units)
    per_cluster = math.ceil(k / wanted)
    while True:
        reducer = BestOfClusters(per_cluster, measure, stages.scoring)
        run = stages.run(f"best-{per_cluster}", **left.arguments())
        found = run_on_pool(reducer, source, run, lambda found, _: found)
        if len(found) >= min(k, left.n - found.invalid):
            break
        per_cluster *= 2
    picks = with_ids(found[:k], source, reducer)
    check_number(k, len(picks))
    warn_of(picks, reducer, source)
    return picks


def _centroids(
    pool: Source, n_clusters: int, seed: int, stages: Stages, run: RunOptions
) -> CentroidDistance:
    """The centroids of the clusters of a pool."""
    clusters = CosineClusters(
        n_clusters, seed=seed, on_invalid=stages.on_invalid, backend=stages.backend
    )
    clusters.adopt(run_on_pool(clusters.reducer(), pool, run, lambda found, _: found))
    return CentroidDistance(clusters.centroids)


class ClusterRepresentativeness(EmbeddingMeasure):
    """The largest similarity to a centroid of the pool minus that to one of the labelled data.

    Args:
        pool: [K, D], the centroids of the pool.
        labelled: [L, D], the centroids of the labelled data.
    """

    blank: Blank | None = Blank(0.0, 0.0, 0.0)

    def __init__(self, pool: Tensor, labelled: Tensor) -> None:
        if pool.shape[1] != labelled.shape[1]:
            raise ValueError(
                f"labelled: wanted rows of {pool.shape[1]} columns, as the pool has, "
                f"got {labelled.shape[1]}"
            )
        self._pool, self._labelled = CentroidDistance(pool), CentroidDistance(labelled)
        self.width = pool.shape[1]
        self.n_clusters = len(pool)

    def of_cluster(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The nearest cluster of the pool of each row, -1 for invalid rows; and the score."""
        cluster, similarity = self._pool.nearest(rows)
        return cluster, similarity - self._labelled.nearest(rows)[1]

    def score(self, rows: Rows) -> Tensor:
        """The scores of rows [n, D], [n] float32 from -2 to 2; NaN for rows not finite."""
        return self.of_cluster(rows)[1]

    @property
    def strategy(self) -> str:
        """The strategy that scores by it."""
        return "representative_clusters"

    def identity(self) -> dict[str, Any]:
        """The centroids of both."""
        return {"pool": self._pool.identity(), "labelled": self._labelled.identity()}


class BestOfClusters(ScoringReducer[Picks]):
    """Finds the best rows of each cluster, in one pass.

    The result is the same for any chunks. Memory is O(K per_cluster).

    Args:
        per_cluster: how many rows of each cluster to keep, at least 1.
        measure: knows the clusters, and scores the rows.
        options: how the measure is applied.
    """

    def __init__(
        self, per_cluster: int, measure: ClusterRepresentativeness, options: ScoringOptions
    ) -> None:
        super().__init__(measure, options)
        self._measure = measure
        self._per_cluster = per_cluster
        self._top = GroupedTopK(per_cluster)

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Assigns embeddings [n, D] to clusters, and scores them; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        cluster, scores = self._measure.of_cluster(rows)
        n_invalid = int(rows.invalid(scores).count_nonzero())
        found = scores.cpu().numpy()
        groups = Groups(cluster.clamp(min=0).cpu().numpy(), range(self._measure.n_clusters))

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: scores)
            self._top.update(found, rows.numbers, found, groups)

        return Pending(commit)

    def part(self) -> "BestOfClusters":
        """A reducer with the same arguments that has read no rows; see `merge`."""
        part = self._unread()
        part._top = GroupedTopK(self._per_cluster)
        return part

    def merge(self, other: "BestOfClusters") -> None:
        """Adds a reducer that read other rows with the same arguments.

        Raises:
            ValueError: the other has other arguments.
            TypeError: the other is not a `BestOfClusters`, or is this very reducer.
        """
        self._check_mergeable(other)
        self._scorer.merge(other._scorer)
        self._top.merge(other._top)

    def result(self) -> Picks:
        """The best rows of all clusters, then the second best, and so on; in a turn, best first."""
        rows, scores, clusters = self._top.best()  # best first
        by_cluster = np.argsort(clusters, kind="stable")
        turn = np.empty(len(rows), np.int64)
        ascending = clusters[by_cluster]
        turn[by_cluster] = np.arange(len(rows)) - np.searchsorted(ascending, ascending)
        order = np.argsort(turn, kind="stable")
        rows, scores = (
            self._scorer.to_caller_kind(torch.from_numpy(x[order])) for x in (rows, scores)
        )
        return Picks(rows, scores, None, self.invalid, clusters[order].astype(np.int64))

    def identity(self) -> dict[str, Any]:
        """The measure, and how many rows of a cluster are kept."""
        return {**super().identity(), "per_cluster": self._per_cluster}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "top": self._top.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._top.load_state_dict(state["top"])
