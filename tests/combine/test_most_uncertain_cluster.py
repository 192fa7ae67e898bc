"""`most_uncertain_cluster` against its definition, written as loops in float64."""

import math

import numpy as np
import pytest

from fastal import combine, diversity
from fastal.base.row_numbers import RowNumbers
from fastal.base.row_random import uniform
from tests.support.combined import cosine, margins, pools

LOGITS, X = pools()


def by_definition(k, n_clusters, members, seed=0, mean=lambda s: math.fsum(s) / len(s)):
    """(row, cluster) of each pick; the centroids are those of `CosineClusters`."""
    centroids = diversity.CosineClusters(n_clusters, seed=seed).fit(X).centroids
    scores, of_cluster = margins(LOGITS), {}
    for row, values in enumerate(X):
        cluster = int(np.argmax([cosine(values, centroid) for centroid in centroids]))
        of_cluster.setdefault(cluster, []).append(row)
    means = {cluster: mean([scores[row] for row in rows]) for cluster, rows in of_cluster.items()}
    drawn = uniform(seed, RowNumbers(len(X), 0))
    picks = []
    for cluster in sorted(means, key=lambda cluster: (-means[cluster], cluster)):
        key = drawn if members == "random" else -scores
        picks += [(row, cluster) for row in sorted(of_cluster[cluster], key=lambda row: key[row])]
    return picks[:k]


def found(picks):
    return list(zip(picks.rows.tolist(), picks.groups.tolist(), strict=True))


@pytest.mark.parametrize("members", ["random", "most_uncertain"])
@pytest.mark.parametrize("n_clusters", [1, 8, 24])
def test_picks_follow_the_definition(n_clusters, members):
    want = by_definition(60, n_clusters, members, 2)
    for k in (1, 60):
        picks = combine.most_uncertain_cluster(
            LOGITS, X, k, n_clusters=n_clusters, members=members, seed=2
        )
        assert found(picks) == want[:k]
        # The scores are those of `fastal.score`, whose relative error is at most 1e-5.
        np.testing.assert_allclose(picks.scores, margins(LOGITS)[picks.rows], rtol=1e-5)


def test_a_wrong_mean_is_found():
    picks = combine.most_uncertain_cluster(LOGITS, X, 9, n_clusters=8)
    for wrong in (sum, max, lambda s: -sum(s) / len(s)):  # a sum favours large clusters
        assert found(picks) != by_definition(9, 8, "random", mean=wrong)


def test_other_members_have_other_names():
    with pytest.raises(ValueError, match=r"members: wanted one of random, most_uncertain, got 'a"):
        combine.most_uncertain_cluster(LOGITS, X, 9, members="all")


def test_empty_clusters_have_no_mean():
    x = np.tile(np.eye(2, dtype=np.float32), (20, 1))
    logits = np.zeros((40, 2), np.float32)
    logits[::2, 0] = 3  # rows of the first kind are surer
    picks = combine.most_uncertain_cluster(logits, x, 25, n_clusters=6)
    assert (picks.rows[:20] % 2 == 1).all()
    assert (picks.rows[20:] % 2 == 0).all()


def test_of_equal_means_the_lower_cluster_comes_first():
    x = np.tile(np.eye(4, dtype=np.float32), (10, 1))
    picks = combine.most_uncertain_cluster(np.zeros((40, 2), np.float32), x, 40, n_clusters=4)
    assert picks.groups.tolist() == sorted(picks.groups.tolist())
