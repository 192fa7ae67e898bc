"""Samples the members of each cluster in one pass: centroid, outlier and random members."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.checks import checked_count
from fastal.base.groups import Groups
from fastal.base.reducer import Pending, RowStart
from fastal.diversity.centroids import CentroidDistance
from fastal.picks.picks import Picks
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.grouped_topk import GroupedTopK
from fastal.selection.noise import gumbel


class ClusterSample(NamedTuple):
    """A sample of the members of each cluster. Each row occurs at most once.

    All three Picks are ordered by cluster. Their `groups` are the cluster numbers. Their scores are
    the cosine similarities to the centroid, in [-1, 1]. Ties go to the lower row number.

    Attributes:
        centroids: Picks of the member most similar to the centroid, one for each cluster that has
            members.
        outliers: Picks of the member least similar to the centroid, one for each cluster that has
            at least two members.
        random: Picks of other members, drawn at random. A cluster with too few members has fewer.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[9, 1], [1, 9], [9, 2], [9, 3]], np.float32)
        >>> sample = diversity.CosineClusters(centroids=np.eye(2)).sample(x)
        >>> [(picks.rows.tolist(), picks.groups.tolist()) for picks in sample]
        [([0, 1], [0, 1]), ([3], [0]), ([2], [0])]
    """

    centroids: Picks
    outliers: Picks
    random: Picks


class ClusterSampler(ScoringReducer[ClusterSample]):
    """Finds a `ClusterSample` in one pass.

    The sample is exact, and the same for any chunks. Memory is O(K n_random).

    Args:
        centroids: the centroids of the clusters.
        n_random: how many random members to draw from each cluster, 0 or more.
        seed: the seed of the draw, from 0 to 2^64 - 1.
        options: how rows are compared with centroids.
    """

    def __init__(
        self, centroids: CentroidDistance, n_random: int, *, seed: int, options: ScoringOptions
    ) -> None:
        super().__init__(centroids, options)
        self._centroids = centroids
        self._n_random = checked_count("n_random", n_random, least=0)
        self._seed = seed
        # Each keeps more rows than are wanted, since other roles may use some of them.
        self._tops = self._new_tops()

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Assigns embeddings [n, D] to clusters; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        cluster, similarity = self._centroids.nearest(rows)
        n_invalid = int(rows.invalid(similarity).count_nonzero())
        scores = similarity.cpu().numpy()
        groups = Groups(cluster.clamp(min=0).cpu().numpy(), range(len(self._centroids.units)))

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            drawn = gumbel(self._seed, rows.numbers).astype(np.float32)
            drawn[np.isnan(scores)] = np.nan
            for top, keys in zip(self._tops, (scores, -scores, drawn), strict=True):
                top.update(keys, rows.numbers, scores, groups)

        return Pending(commit)

    def _new_tops(self) -> list[GroupedTopK]:
        return [GroupedTopK(1), GroupedTopK(2), GroupedTopK(self._n_random + 2)]

    def part(self) -> "ClusterSampler":
        """A sampler with the same arguments that has read no rows; see `merge`."""
        part = self._unread()
        part._tops = self._new_tops()
        return part

    def merge(self, other: "ClusterSampler") -> None:
        """Adds a sampler that read other rows with the same arguments.

        Raises:
            ValueError: the other has other arguments.
            TypeError: the other is not a `ClusterSampler`, or is this very sampler.
        """
        self._check_mergeable(other)
        self._scorer.merge(other._scorer)
        for top, of_other in zip(self._tops, other._tops, strict=True):
            top.merge(of_other)

    def result(self) -> ClusterSample:
        """The sample of the rows so far, by cluster; arrays of the kind of the last chunk."""
        best, worst, drawn = (top.best() for top in self._tops)
        used = best[0]
        worst = _unused(worst, used, 1)
        used = np.concatenate((used, worst[0]))
        drawn = _unused(drawn, used, self._n_random)
        return ClusterSample(*(self._picks(*found) for found in (_unused(best), worst, drawn)))

    def _picks(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], clusters: NDArray[Any]
    ) -> Picks:
        to_caller_kind = self._scorer.to_caller_kind
        rows, scores = (to_caller_kind(torch.from_numpy(column)) for column in (rows, scores))
        return Picks(rows, scores, None, self.invalid, clusters)

    @property
    def strategy(self) -> str:
        """Its name."""
        return "cluster sample"

    def identity(self) -> dict[str, Any]:
        """The centroids, the number of random members, and the seed."""
        return {**super().identity(), "n_random": self._n_random, "seed": self._seed}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "tops": [top.state_dict() for top in self._tops]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        tops = state["tops"]
        super()._restore(state)
        for top, of_top in zip(self._tops, tops, strict=True):
            top.load_state_dict(of_top)


_Found = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[Any]]


_NONE = np.empty(0, np.int64)


def _unused(found: _Found, used: NDArray[np.int64] = _NONE, most: int = 1) -> _Found:
    """The `most` best rows of each cluster that are not in `used`, ordered by cluster.

    Args:
        found: rows, their scores and their clusters, best first.
        used: rows to leave out.
        most: how many rows to keep of each cluster.
    """
    left = ~np.isin(found[0], used)
    rows, scores, clusters = found[0][left], found[1][left], found[2][left]
    order = np.argsort(clusters, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(clusters[order], clusters[order])
    kept = order[place < most]
    return rows[kept], scores[kept], clusters[kept].astype(np.int64)
