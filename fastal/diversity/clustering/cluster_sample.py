"""The members of each cluster that stand for it: centroid, outlier and random, in one pass."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import converter_for
from fastal.base.errors import check_another, check_same, restoring
from fastal.base.groups import Groups
from fastal.diversity.centroids import CentroidDistance
from fastal.scoring.scorer import Confirm, Scorer, watching
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


class ClusterSampler:
    """Finds a `ClusterSample` in one pass: exact, the same whatever the chunks, O(K r) memory.

    Args:
        centroids: of the clusters.
        n_random: how many random members of a cluster, 0 or more.
        seed: of the draw, from 0 to 2^64 - 1.
        on_invalid: "raise" or "skip".
        backend: "auto", "triton" or "torch".
    """

    def __init__(
        self,
        centroids: CentroidDistance,
        n_random: int,
        *,
        seed: int = 0,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        self._centroids = centroids
        if isinstance(n_random, bool) or not isinstance(n_random, (int, np.integer)):
            raise TypeError(f"n_random: wanted an integer, got {n_random!r}")
        if n_random < 0:
            raise ValueError(f"n_random: wanted 0 or more, got {n_random}")
        self._n_random = int(n_random)
        self._seed = seed
        self._scorer = Scorer(centroids, on_invalid=on_invalid, backend=backend)
        # More than are wanted, where some may be taken as something else.
        self._tops = [GroupedTopK(1), GroupedTopK(2), GroupedTopK(self._n_random + 2)]
        self._to_caller_kind = converter_for(np.empty(0))

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... (None: where the last chunk ended): embeddings [n, D].

        Raises:
            InvalidRows: rows are not finite, and on_invalid is "raise".
            ValueError, TypeError: no such rows.
        """
        rows = self._scorer.checked(chunk, start)
        cluster, similarity = self._centroids.assigned(rows, self._scorer, confirm)
        scores = similarity.cpu().numpy()
        groups = Groups(cluster.clamp(min=0).cpu().numpy(), range(len(self._centroids.units)))
        drawn = gumbel(self._seed, rows.start, len(scores)).astype(np.float32)
        drawn[np.isnan(scores)] = np.nan
        for top, keys in zip(self._tops, (scores, -scores, drawn), strict=True):
            top.update(keys, rows.start, scores, groups)
        self._to_caller_kind = converter_for(chunk)

    def merge(self, other: "ClusterSampler") -> None:
        """Takes in a sampler with the same arguments that saw other rows.

        Raises:
            ValueError, TypeError: no such sampler.
        """
        check_another(ClusterSampler, self, other)
        check_same(self.arguments(), other.arguments(), "merge: the other")
        self._scorer.merge(other._scorer)
        for top, of_other in zip(self._tops, other._tops, strict=True):
            top.merge(of_other)

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(K r)."""
        tops = [top.state_dict() for top in self._tops]
        return {"arguments": self.arguments(), "scorer": self._scorer.state_dict(), "tops": tops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError for that of other arguments."""
        with restoring():
            check_same(self.arguments(), state["arguments"], "the state")
            self._scorer.load_state_dict(state["scorer"])
            for top, of_top in zip(self._tops, state["tops"], strict=True):
                top.load_state_dict(of_top)

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
        as_given = self._to_caller_kind
        rows, scores = (as_given(torch.from_numpy(column)) for column in (rows, scores))
        return Picks(rows, scores, None, self._scorer.invalid, clusters)

    def arguments(self) -> dict[str, Any]:
        """What makes a difference to the result, as plain values."""
        return {**self._centroids.arguments(), "n_random": self._n_random, "seed": self._seed}

    @property
    def backend_used(self) -> str | None:
        """The backend that looked at the last chunk."""
        return self._scorer.backend_used


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
