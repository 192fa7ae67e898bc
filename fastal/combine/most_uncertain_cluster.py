"""The most uncertain cluster: rows of the cluster of the pool with the highest mean uncertainty."""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.checks import check_choice, checked_count, checked_seed
from fastal.base.errors import prefixing_errors
from fastal.base.exact_sums import exact_sums
from fastal.base.row_numbers import RowNumbers
from fastal.base.row_random import uniform
from fastal.combine.left_rows import LeftRows, left_rows
from fastal.combine.pool_scores import pool_scores
from fastal.combine.row_match import RowMatch, opened
from fastal.combine.stages import Stages, UncertaintyStages
from fastal.diversity.assignment import Assignment
from fastal.diversity.centroids import CentroidDistance, EmbeddingMeasure
from fastal.diversity.clustering.clusters import CosineClusters
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.scoring.measure_for import By
from fastal.sources import Source
from fastal.uncertainty import output_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import UncertaintyOptions

_CLUSTERS = 20
_BLOCK = 1 << 20  # scores that are summed at once
_MEMBERS = ("random", "most_uncertain")


def most_uncertain_cluster(
    logits: Any,
    embeddings: Any,
    k: int,
    *,
    by: By = "margin",
    n_clusters: int | None = None,
    members: str = "random",
    seed: int = 0,
    **options: "Unpack[UncertaintyOptions]",
) -> Picks:
    """Members of the cluster of the pool with the highest mean uncertainty.

    The whole pool is clustered by cosine similarity: the embeddings are read at most 12 times, and
    the logits once. Memory is 40 bytes per row, and O(clusters + chunk).

    Args:
        logits: [N, C]; any pool that `fastal.select` takes and that can be read again.
        embeddings: [N, D], of the same rows; see `clustered_uncertainty`.
        k: how many rows to pick, at least 1. If the cluster has fewer, the others are of the
            cluster of the next highest mean, and so on.
        by: as for `fastal.select`.
        n_clusters: how many clusters; None: 20, or the number of rows that are left if that is
            less.
        members: which members to pick: "random", or "most_uncertain".
        seed: of the clusters and the random members, from 0 to 2^64 - 1.
        options: as for `clustered_uncertainty`.

    Returns:
        Picks: exactly k, or with a warning all rows that are left. They are ordered by the mean of
        their cluster, then drawn at random, or most uncertain first. Scores are the uncertainty.
        `groups` has the cluster. A mean is of the rows that are valid in both pools, and its sum is
        exact. Ties go to the lower cluster, and to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `clustered_uncertainty`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.1.5.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> logits = np.array([[9, 0], [0, 0], [8, 0], [1, 0]], np.float32)
        >>> x = np.array([[1, 0], [0, 1], [2, 0], [0, 3]], np.float32)
        >>> combine.most_uncertain_cluster(
        ...     logits, x, 2, n_clusters=2, members="most_uncertain"
        ... ).rows
        array([1, 3])
    """
    stages = UncertaintyStages(**options)
    stages.check_backend(EmbeddingMeasure.offers)
    check_choice("members", members, _MEMBERS)
    k, seed = checked_count("k", k), checked_seed(seed)
    pool, other = opened(logits, "logits"), opened(embeddings, "embeddings")
    match = RowMatch(pool, other, "embeddings", "logits")
    left = left_rows(pool, stages, "logits")
    wanted = (
        min(_CLUSTERS, left.n) if n_clusters is None else checked_count("n_clusters", n_clusters)
    )
    run = stages.run("uncertainty", **left.arguments())
    output = output_of(logits, by, stages.output)
    scores = pool_scores(pool, by, output, stages.scoring, run, left.n_rows)
    with prefixing_errors("embeddings"):
        cluster = _clustered(other, wanted, seed, stages, left, match)
    # Rows that are left out or invalid have no score, or no cluster.
    rows = np.flatnonzero((cluster >= 0) & ~np.isnan(scores.values))
    uncertainty, cluster = scores.values[rows], cluster[rows]
    place = np.argsort(_by_mean(uncertainty, cluster, wanted))[cluster]
    keys = -uncertainty.astype(np.float64)
    if members == "random":
        keys = uniform(seed, RowNumbers(left.n_rows, 0))[rows]
    order = np.lexsort((rows, keys, place))[:k]
    n_invalid = left.n - scores.invalid - len(rows)
    return scores.chosen(
        k, rows[order], uncertainty[order], "most_uncertain_cluster", invalid=n_invalid,
        groups=cluster[order],
    )  # fmt: skip


def _clustered(
    pool: Source, n_clusters: int, seed: int, stages: Stages, left: LeftRows, match: RowMatch
) -> NDArray[np.int64]:
    """The cluster of each row, [N]; -1 for rows that are left out or invalid."""
    rows = left.arguments(match)
    clusters = CosineClusters(
        n_clusters, seed=seed, on_invalid=stages.on_invalid, backend=stages.backend
    )
    run = stages.run("clusters", **rows)
    clusters.adopt(run_on_pool(clusters.reducer(), pool, run, lambda found, _: found))
    reducer = Assignment(CentroidDistance(clusters.centroids), stages.scoring)
    reducer.n_rows = left.n_rows
    run = stages.run("assigned", **rows)
    found = run_on_pool(reducer, pool, run, lambda found, _: found.cluster)
    return match.column(as_tensor(found, "cluster").cpu().numpy())


def _by_mean(
    scores: NDArray[np.float32], cluster: NDArray[np.int64], n_clusters: int
) -> NDArray[np.int64]:
    """The clusters in the order of their mean scores, highest first; empty clusters last."""
    totals = [0] * n_clusters
    for first in range(0, len(scores), _BLOCK):
        block = slice(first, first + _BLOCK)
        sums = exact_sums(scores[block].astype(np.float64), cluster[block], n_clusters)
        totals = [total + more for total, more in zip(totals, sums, strict=True)]
    counts = np.bincount(cluster, minlength=n_clusters).tolist()
    means = [(n > 0, Fraction(total, max(n, 1))) for total, n in zip(totals, counts, strict=True)]
    return np.array(sorted(range(n_clusters), key=lambda i: means[i], reverse=True))
