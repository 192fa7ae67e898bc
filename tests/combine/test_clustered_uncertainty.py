"""`clustered_uncertainty` against its definition, written as loops in float64."""

import math

import numpy as np
import pytest

from fastal import combine, diversity
from fastal.base.row_numbers import RowNumbers
from fastal.selection.noise import gumbel
from tests.support.combined import clustered_picks, cosine, margins, pools, uncertain_rows


def by_definition(logits, x, k, *, n_clusters, share=0.1, seed=0, scores=margins):
    """(row, cluster, role) of each pick; the centroids are those of `CosineClusters`."""
    candidates = uncertain_rows(scores(logits), max(k, math.ceil(len(logits) * share)))
    clusters = diversity.CosineClusters(n_clusters, seed=seed).fit(x, among=candidates)
    keys = gumbel(seed, RowNumbers(len(x), 0)).astype(np.float32)
    members = {cluster: [] for cluster in range(n_clusters)}
    similarity = {}
    for row in sorted(candidates):
        similar = [cosine(x[row], centroid) for centroid in clusters.centroids]
        cluster = int(np.argmax(similar))
        members[cluster].append(row)
        similarity[row] = similar[cluster]
    turns = []
    for cluster, rows in members.items():
        if not rows:
            continue
        centroid = max(rows, key=lambda row: (similarity[row], -row))
        left = [row for row in rows if row != centroid]
        outliers = sorted(left, key=lambda row: (similarity[row], row))[:1]
        left = sorted((row for row in left if row not in outliers), key=lambda row: -keys[row])
        turns += [((0, 0, cluster), centroid, "centroid")]
        turns += [((1, 0, cluster), row, "outlier") for row in outliers]
        turns += [((2, place, cluster), row, "random") for place, row in enumerate(left)]
    return [(row, turn[2], role) for turn, row, role in sorted(turns)[:k]]


@pytest.mark.parametrize("n_clusters", [1, 3, 10])
@pytest.mark.parametrize("k", [1, 7, 40, 60])
def test_picks_follow_the_definition(n_clusters, k):
    logits, x = pools()
    picks = combine.clustered_uncertainty(logits, x, k, n_clusters=n_clusters, seed=3)
    want = by_definition(logits, x, k, n_clusters=n_clusters, seed=3)
    assert clustered_picks(picks) == want
    assert len(picks) == k
    # The scores are those of `fastal.score`, whose relative error is at most 1e-5.
    np.testing.assert_allclose(picks.scores, margins(logits)[picks.rows], rtol=1e-5)


def test_a_wrong_uncertainty_is_found():
    logits, x = pools()
    picks = combine.clustered_uncertainty(logits, x, 20, n_clusters=4)
    for wrong in (lambda z: -margins(z), lambda z: -np.sort(z)[:, -1]):
        assert clustered_picks(picks) != by_definition(logits, x, 20, n_clusters=4, scores=wrong)


@pytest.mark.parametrize("k", [1, 5, 6, 23])
def test_by_default_a_cluster_gives_five_rows(k):
    logits, x = pools()
    picks = combine.clustered_uncertainty(logits, x, k)
    assert clustered_picks(picks) == by_definition(logits, x, k, n_clusters=math.ceil(k / 5))


def test_only_the_most_uncertain_share_is_picked():
    logits, x = pools()
    for share in (0.05, 0.5, 1):
        picks = combine.clustered_uncertainty(logits, x, 20, share=share)
        candidates = uncertain_rows(margins(logits), math.ceil(share * len(x)))
        assert np.isin(picks.rows, candidates).all()
    with pytest.raises(ValueError, match=r"share: wanted a number above 0, at most 1, got 0"):
        combine.clustered_uncertainty(logits, x, 20, share=0)


@pytest.mark.parametrize(("n", "share", "want"), [(70, 0.1, 7), (71, 0.1, 8), (30, 0.1, 3)])
def test_the_share_is_that_of_its_decimal_digits(n, share, want):
    logits, x = pools(n)  # 70 * 0.1 is above 7 in float64
    with pytest.raises(ValueError, match=rf"wanted at most the {want} valid rows"):
        combine.clustered_uncertainty(logits, x, 3, share=share, n_clusters=n)


def test_empty_clusters_give_nothing():
    logits, x = pools(40)
    x[:] = x[np.arange(40) % 2]  # two distinct rows, and eight clusters
    for seed in range(3):
        picks = combine.clustered_uncertainty(logits, x, 12, n_clusters=8, share=1, seed=seed)
        assert len(set(picks.rows.tolist())) == 12


def test_a_small_cluster_is_made_up_for_by_others():
    logits, x = pools(100)
    x[:] = [1, 0, 0, 0, 0, 0]
    x[0] = [0, 1, 0, 0, 0, 0]
    logits[0] = 0
    picks = combine.clustered_uncertainty(logits, x, 30, n_clusters=2, share=1)
    assert len(picks) == 30
    assert sorted(np.bincount(picks.groups).tolist()) == [1, 29]
    assert picks["role"].tolist().count("random") == 27


def test_more_clusters_than_rows_are_refused():
    logits, x = pools(20)
    with pytest.raises(ValueError, match=r"n_clusters: wanted at most the 2 valid rows"):
        combine.clustered_uncertainty(logits, x, 2, n_clusters=3)


def test_ties_among_the_candidates_are_not_reported_as_ties_of_the_picks(caplog):
    logits, x = pools(100)
    logits[:] = logits[np.arange(100) % 2]
    combine.clustered_uncertainty(logits, x, 5)
    assert "last pick" not in caplog.text
