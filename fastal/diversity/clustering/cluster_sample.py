"""The members of each cluster that stand for it: centroid, outlier and random, in one pass."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.checks import checked_count
from fastal.base.groups import Groups
from fastal.base.reducer import Pending
from fastal.diversity.centroids import CentroidDistance
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.grouped_topk import GroupedTopK
from fastal.selection.noise import gumbel
from fastal.selection.picks import Picks


class ClusterSample(NamedTuple):
    """Rows that stand for each cluster; in all three, `groups` are the clusters and scores the
    cosine similarities to their centroids.

    Attributes:
        centroids: Picks of a row a cluster, the member most similar to the centroid.
        outliers: Picks of a row a cluster, the member least similar; none where it would be the
            same row.
        random: Picks of other members, drawn at random; fewer where there are no more.
    """

    centroids: Picks
    outliers: Picks
    random: Picks


class ClusterSampler(ScoringReducer[ClusterSample]):
    """Finds a `ClusterSample` in one pass: exact, the same whatever the chunks, O(K r) memory.

    Args:
        centroids: of the clusters.
        n_random: how many random members of a cluster, 0 or more.
        seed: of the draw, from 0 to 2^64 - 1.
        options: how the rows are compared with the centroids.
    """

    def __init__(
        self, centroids: CentroidDistance, n_random: int, *, seed: int, options: ScoringOptions
    ) -> None:
        super().__init__(centroids, options)
        self._centroids = centroids
        self._n_random = checked_count("n_random", n_random, least=0)
        self._seed = seed
        # More rows than are wanted, since some may be picked in another role.
        self._tops = [GroupedTopK(1), GroupedTopK(2), GroupedTopK(self._n_random + 2)]

    def look(self, chunk: Any, start: int | None = None) -> Pending:
        """Finds the clusters of embeddings [n, D]; see `Reducer.look`."""
        rows = self._scorer.prepare(chunk, start)
        cluster, similarity = self._centroids.nearest(rows.x, rows.backend)
        n_invalid = int(similarity.isnan().sum())
        scores = similarity.cpu().numpy()
        groups = Groups(cluster.clamp(min=0).cpu().numpy(), range(len(self._centroids.units)))

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            drawn = gumbel(self._seed, rows.start, len(scores)).astype(np.float32)
            drawn[np.isnan(scores)] = np.nan
            for top, keys in zip(self._tops, (scores, -scores, drawn), strict=True):
                top.update(keys, rows.start, scores, groups)

        return Pending(commit)

    def merge(self, other: "ClusterSampler") -> None:
        """Adds a sampler with the same arguments that saw other rows.

        Raises:
            ValueError, TypeError: the other is no such sampler.
        """
        self._check_mergeable(other)
        self._scorer.merge(other._scorer)
        for top, of_other in zip(self._tops, other._tops, strict=True):
            top.merge(of_other)

    def result(self) -> ClusterSample:
        """The sample of the rows so far, by cluster; arrays of the kind of the last chunk."""
        best, worst, drawn = (top.best() for top in self._tops)
        taken = best[0]
        worst = _others(worst, taken, 1)
        taken = np.concatenate((taken, worst[0]))
        drawn = _others(drawn, taken, self._n_random)
        return ClusterSample(*(self._picks(*found) for found in (_others(best), worst, drawn)))

    def _picks(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], clusters: NDArray[Any]
    ) -> Picks:
        to_caller_kind = self._scorer.to_caller_kind
        rows, scores = (to_caller_kind(torch.from_numpy(column)) for column in (rows, scores))
        return Picks(rows, scores, None, self.invalid, clusters)

    def identity(self) -> dict[str, Any]:
        """The centroids, and how members are drawn."""
        return {**super().identity(), "n_random": self._n_random, "seed": self._seed}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "tops": [top.state_dict() for top in self._tops]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        for top, of_top in zip(self._tops, state["tops"], strict=True):
            top.load_state_dict(of_top)


_Found = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[Any]]


_NONE = np.empty(0, np.int64)


def _others(found: _Found, taken: NDArray[np.int64] = _NONE, most: int = 1) -> _Found:
    """Of rows, scores and clusters, best first, those not taken, `most` a cluster, by cluster."""
    left = ~np.isin(found[0], taken)
    rows, scores, clusters = found[0][left], found[1][left], found[2][left]
    order = np.argsort(clusters, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(clusters[order], clusters[order])
    kept = order[place < most]
    return rows[kept], scores[kept], clusters[kept].astype(np.int64)
