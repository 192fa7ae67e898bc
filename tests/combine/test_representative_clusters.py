"""`representative_clusters` against its definition, written as loops in float64."""

import numpy as np
import pytest

import fastal
from fastal import combine, diversity
from tests.support.combined import cosine, pools

X = pools()[1]
LABELLED = X[::7] + np.float32(0.5)


def by_definition(x, labelled, k, n_clusters, sign=-1.0):
    """(row, cluster) and the score of each pick; the centroids are those of `CosineClusters`."""
    of_pool = diversity.CosineClusters(n_clusters).fit(x).centroids
    of_labelled = []
    if len(labelled):
        n = min(n_clusters, len(labelled))
        of_labelled = diversity.CosineClusters(n).fit(labelled).centroids
    members = {}
    for row, values in enumerate(x):
        similar = [cosine(values, centroid) for centroid in of_pool]
        unlike = max((cosine(values, centroid) for centroid in of_labelled), default=0)
        score = max(similar) + sign * unlike
        members.setdefault(int(np.argmax(similar)), []).append((-score, row))
    turns = sorted(
        (turn, *scored, cluster)
        for cluster, rows in members.items()
        for turn, scored in enumerate(sorted(rows))
    )[:k]
    return [(row, cluster) for _, _, row, cluster in turns], [-score for _, score, _, _ in turns]


def found(picks):
    return list(zip(picks.rows.tolist(), picks.groups.tolist(), strict=True))


@pytest.mark.parametrize("n_clusters", [1, 4, 12])
@pytest.mark.parametrize("k", [1, 5, 30])
def test_picks_follow_the_definition(n_clusters, k):
    picks = combine.representative_clusters(X, LABELLED, k, n_clusters=n_clusters)
    want, scores = by_definition(X, LABELLED, k, n_clusters)
    assert found(picks) == want
    # Two similarities, each within (D + 8) 2^-24, and centroids rounded to float32.
    np.testing.assert_allclose(picks.scores, scores, rtol=0, atol=4 * 14 * 2.0**-24)


def test_a_wrong_score_is_found():
    picks = combine.representative_clusters(X, LABELLED, 9, n_clusters=12)
    for sign in (1.0, 0.0):
        assert found(picks) != by_definition(X, LABELLED, 9, 12, sign)[0]


def test_up_to_the_number_of_clusters_each_cluster_gives_one_row():
    picks = combine.representative_clusters(X, LABELLED, 8, n_clusters=8)
    assert sorted(picks.groups.tolist()) == list(range(8))
    assert (np.diff(picks.scores) <= 0).all()


def test_a_small_cluster_is_made_up_for_by_others():
    x = np.tile(np.float32([1, 0]), (50, 1))
    x[3] = [0, 1]
    picks = combine.representative_clusters(x, x[:1], 40, n_clusters=2)
    assert picks.rows[0] == 3
    assert sorted(np.bincount(picks.groups).tolist()) == [1, 39]


def test_without_labelled_rows_only_the_pool_counts():
    picks = combine.representative_clusters(X, X[:0], 5, n_clusters=5)
    assert found(picks) == by_definition(X, X[:0], 5, 5)[0]


def test_fewer_labelled_rows_than_clusters_are_as_many_clusters():
    picks = combine.representative_clusters(X, LABELLED[:3], 5, n_clusters=9)
    assert found(picks) == by_definition(X, LABELLED[:3], 5, 9)[0]


def test_empty_clusters_give_nothing():
    x = np.tile(np.eye(2, dtype=np.float32), (20, 1))
    picks = combine.representative_clusters(x, x[:2], 10, n_clusters=6)
    assert len({*picks.rows.tolist()}) == 10


def test_chunks_files_and_kinds_change_nothing(tmp_path):
    np.save(tmp_path / "x.npy", X)
    want = combine.representative_clusters(X, LABELLED, 9)
    for pool in (np.split(X, [3, 100, 101]), tmp_path / "x.npy"):
        picks = combine.representative_clusters(pool, np.split(LABELLED, [9]), 9, chunk_bytes=3000)
        assert found(picks) == found(want)
        assert picks.scores.tobytes() == want.scores.tobytes()


def test_rows_are_left_out_as_if_they_were_not_there():
    x, allowed = X.copy(), np.arange(0, 400, 3)
    x[np.setdiff1d(np.arange(400), allowed)] = np.nan
    picks = combine.representative_clusters(x, LABELLED, 9, among=allowed)
    again = combine.representative_clusters(
        X, LABELLED, 9, exclude=np.setdiff1d(np.arange(400), allowed)
    )
    assert found(picks) == found(again)
    assert np.isin(picks.rows, allowed).all()


def test_all_rows_that_are_left_are_picked_and_a_warning_says_so(caplog):
    picks = combine.representative_clusters(X[:12], LABELLED, 20, exclude=[3])
    assert sorted(picks.rows.tolist()) == [0, 1, 2, *range(4, 12)]
    assert "k: wanted 20 rows; 11 valid ones are left, all picked" in caplog.text


def test_invalid_rows_raise_or_are_left_out_and_counted():
    x = X.copy()
    x[5] = np.nan
    with pytest.raises(fastal.InvalidRows, match="row 5 "):
        combine.representative_clusters(x, LABELLED, 3)
    picks = combine.representative_clusters(x, LABELLED, 399, on_invalid="skip")
    assert picks.invalid == 1
    assert sorted(picks.rows.tolist()) == [0, 1, 2, 3, 4, *range(6, 400)]


def test_bad_arguments_are_named():
    for arguments, how, match in (
        ((X, LABELLED[:, 1:], 3), {}, "labelled: wanted rows of 6 columns"),
        ((X, LABELLED, 3), {"n_clusters": 401}, "n_clusters: wanted at most the 400 valid rows"),
        ((X, LABELLED, 3), {"exclude": range(400)}, "pool: exclude and among leave no row"),
        (
            (X, LABELLED, 3),
            {"backend": "gpu"},
            "backend: wanted one of auto, triton, native",
        ),
        ((iter([X]), LABELLED, 3), {}, "pool: wanted a pool that can be read again"),
    ):
        with pytest.raises(ValueError, match=match):
            combine.representative_clusters(*arguments, **how)
    with pytest.raises(TypeError, match="kind"):
        combine.representative_clusters(X, LABELLED, 3, kind="probs")
