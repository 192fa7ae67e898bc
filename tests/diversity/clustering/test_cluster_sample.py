"""Samples of cluster members against lists of all members."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal import InvalidRows
from fastal.diversity import ClusterSample, CosineClusters
from fastal.diversity.clustering.cluster_sample import ClusterSampler
from fastal.pipeline import checkpoint
from tests.support.embeddings import rows_of
from tests.support.stopping import Stop, stopping

CENTROIDS = rows_of(4, 5, seed=1).numpy()


def columns(sample):
    """Rows, scores and clusters of a sample, as plain lists."""
    return [
        [np.asarray(array).tolist() for array in (picks.rows, picks.scores, picks.groups)]
        for picks in sample
    ]


def nearest(x, centroids):
    """Each row's cluster, -1 for a row that is not finite, and similarity, both in float64."""
    x, centroids = (np.asarray(rows, np.float64) for rows in (x, centroids))
    x, centroids = (rows / np.sqrt((rows * rows).sum(1))[:, None] for rows in (x, centroids))
    similarities = (x[:, None] * centroids).sum(2)
    is_finite = np.isfinite(similarities).all(1)
    return np.where(is_finite, similarities.argmax(1), -1), similarities.max(1)


def checked(sample, x, centroids, n_random):
    """Checks a sample against a list of each cluster's members."""
    cluster, similarity = nearest(x, centroids)
    members = {k: np.flatnonzero(cluster == k) for k in range(len(centroids))}
    best = [m[np.lexsort((m, -similarity[m]))][0] for m in members.values() if len(m)]
    worst = [m[np.lexsort((m, similarity[m]))] for m in members.values() if len(m) > 1]
    worst = [m[0] if m[0] not in best else m[1] for m in worst]
    assert sample.centroids.rows.tolist() == best
    assert sample.outliers.rows.tolist() == worst
    taken = {*best, *worst}
    for k, rows in members.items():
        drawn = sample.random.rows[sample.random.groups == k].tolist()
        assert len(drawn) == len(set(drawn)) == min(n_random, len({*rows} - taken))
        assert set(drawn) <= {*rows.tolist()} - taken
    for picks in sample:
        assert (cluster[picks.rows] == picks.groups).all()
        assert np.abs(similarity[picks.rows] - picks.scores).max(initial=0) < 1e-6
        assert (np.diff(picks.groups) >= 0).all()


@pytest.mark.parametrize("n_random", [0, 1, 3, 100])
@pytest.mark.parametrize("n_rows", [0, 1, 2, 7, 60])
def test_most_similar_least_similar_and_random_members(n_random, n_rows):
    x = rows_of(n_rows, 5).numpy()
    sample = CosineClusters(centroids=CENTROIDS, seed=3).sample(x, n_random)
    checked(sample, x, CENTROIDS, n_random)


def test_ties_and_clusters_without_members():
    x = np.repeat(rows_of(2, 5).numpy(), 6, 0)
    checked(CosineClusters(centroids=CENTROIDS).sample(x, 2), x, CENTROIDS, 2)
    far = np.concatenate(
        (CENTROIDS, CENTROIDS[:1])
    )  # ties go to the first, so the last has no members
    sample = CosineClusters(centroids=far).sample(x)
    assert 4 not in sample.centroids.groups.tolist()


def test_the_example_of_nemo_curator():
    """The same rows and centroids, except that here each row is in the nearest cluster.

    There, [.6, .8] is in the first cluster, at a distance of .4. Its nearest centroid is the
    second, at a similarity of .8.
    """
    x = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    clusters = CosineClusters(centroids=np.eye(2))
    found = clusters.assign(x)
    assert found.cluster.tolist() == [0, 1, 1]
    np.testing.assert_allclose(1 - found.similarity, [0, 0, 0.2], atol=1e-6)
    sample = clusters.sample(x)
    assert (sample.centroids.rows.tolist(), sample.outliers.rows.tolist()) == ([0, 1], [2])


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 80), max_size=6), order=st.permutations(range(3)))
def test_a_sample_is_the_same_for_any_chunks_merging_and_saving(cuts, order):
    x = rows_of(80, 5).numpy()
    clusters = CosineClusters(centroids=CENTROIDS, seed=9)
    want = columns(clusters.sample(x, 3))
    assert columns(clusters.sample(np.split(x, sorted(cuts)), 3)) == want
    samplers = [clusters.sampler(3) for _ in order]
    bounds = [0, *sorted(cuts)[:2], *[80] * 3]
    for sampler, start, stop in zip(samplers, bounds, bounds[1:], strict=False):
        sampler.update(x[start:stop], start)
    restored = clusters.sampler(3)
    restored.load_state_dict(samplers[order[0]].state_dict())
    for i in order[1:]:
        restored.merge(samplers[i])
    assert columns(restored.result()) == want


def test_random_members_are_equally_likely():
    """Chi-square of 37 degrees of freedom exceeds 37 + 5 sqrt(74) once in millions of draws."""
    x = rows_of(40, 5).numpy()
    counts = np.zeros(40)
    for seed in range(300):
        sample = CosineClusters(centroids=np.eye(5)[:1], seed=seed).sample(x, 5)
        counts[sample.random.rows] += 1
    others = np.delete(counts, [sample.centroids.rows[0], sample.outliers.rows[0]])
    assert others.sum() == counts.sum() == 1500
    expected = 1500 / 38
    assert ((others - expected) ** 2 / expected).sum() < 37 + 5 * 74**0.5


def test_kinds_dtypes_and_rows_that_are_not_finite():
    x = rows_of(50, 5, torch.bfloat16)
    x[4, 1] = torch.nan
    clusters = CosineClusters(centroids=CENTROIDS)
    with pytest.raises(InvalidRows, match="row 4 has NaN"):
        clusters.sample(x)
    sample = CosineClusters(centroids=CENTROIDS, on_invalid="skip").sample(x, 2)
    assert isinstance(sample, ClusterSample)
    assert all(isinstance(picks.rows, torch.Tensor) for picks in sample)
    assert [picks.invalid for picks in sample] == [1, 1, 1]
    as_numpy = ClusterSample(
        *(replace(p, rows=p.rows.numpy(), scores=p.scores.numpy()) for p in sample)
    )
    checked(as_numpy, x.float().numpy(), CENTROIDS, 2)


def test_bad_counts_and_other_samplers_are_refused():
    clusters = CosineClusters(centroids=CENTROIDS)
    for bad, error in ((-1, ValueError), (1.0, TypeError), (True, TypeError), (None, TypeError)):
        with pytest.raises(error, match=r"^n_random: wanted"):
            clusters.sample(rows_of(3, 5), bad)
    assert len(clusters.sample(rows_of(30, 5), np.int64(2**63 - 1)).random.rows) > 20
    sampler = clusters.sampler(2)
    with pytest.raises(TypeError, match="wanted another ClusterSampler"):
        sampler.merge(sampler)
    for other in (
        clusters.sampler(3),
        CosineClusters(centroids=CENTROIDS, seed=1).sampler(2),
        CosineClusters(centroids=CENTROIDS[:3]).sampler(2),
    ):
        with pytest.raises(ValueError, match=r"^merge: the other has"):
            sampler.merge(other)
        with pytest.raises(ValueError, match=r"^load_state_dict: the state has"):
            other.load_state_dict(sampler.state_dict())


def test_a_resumed_sample_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    np.savez(tmp_path / "x.npz", x=rows_of(90, 5).numpy(), id=np.arange(90) + 7)
    from fastal import open_pool

    pool = open_pool(str(tmp_path / "x.npz"), column="x", id_column="id")
    clusters = CosineClusters(centroids=CENTROIDS)
    want = clusters.sample(pool, 2)
    assert want.random.ids.tolist() == (want.random.rows + 7).tolist()
    for left in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            stopping(patch, ClusterSampler, left)
            with pytest.raises(Stop):
                clusters.sample(pool, 2, checkpoint=tmp_path / "saved", chunk_bytes=32 * 10)
        found = clusters.sample(pool, 2, checkpoint=tmp_path / "saved", resume=True)
        assert columns(found) == columns(want)
