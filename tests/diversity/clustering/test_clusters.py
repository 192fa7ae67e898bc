"""Spherical k-means against Lloyd's iteration in float64, scikit-learn, and other chunks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal import InvalidRows, open_pool
from fastal.commands.diversity import cluster_to_file
from fastal.diversity import CosineClusters
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.clustering.lloyd_pass import LloydPass
from fastal.scoring.scoring_options import ScoringOptions
from tests.support.embeddings import blobs, rows_of


def unit(x):
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def lloyd(x, centroids):
    """An iteration by its definition: new centroids, counts, and inertia before the move."""
    x, centroids = unit(x.astype(np.float64)), unit(centroids.astype(np.float64))
    distances = ((x[:, None] - centroids[None]) ** 2).sum(2)
    nearest = distances.argmin(1)
    sums = np.stack([x[nearest == k].sum(0) for k in range(len(centroids))])
    return unit(sums), np.bincount(nearest, minlength=len(centroids)), distances.min(1).sum()


def fitted(x, k=4, **options):
    found = CosineClusters(k, **options).fit(x)
    return found.centroids.tobytes(), found.counts.tobytes(), found.inertia, found.n_iter


# --- definition


def test_every_iteration_follows_lloyd():
    x = blobs(0, 700)
    centroids = x[:9]
    for _ in range(4):
        found = CosineClusters(centroids=centroids, max_iter=1).fit(x)
        want, counts, inertia = lloyd(x, centroids)
        assert np.abs(found.centroids - want).max() < 1e-6
        assert found.counts.tolist() == counts.tolist()
        assert found.inertia == pytest.approx(inertia, rel=1e-6)
        assert np.abs(np.linalg.norm(found.centroids, axis=1) - 1).max() < 1e-6
        centroids = found.centroids
    several = CosineClusters(centroids=x[:9], max_iter=4).fit(x)
    assert several.centroids.tobytes() == centroids.tobytes()
    assert several.n_iter == 4


def test_a_wrong_iteration_is_found():
    """Sums of rows that are not scaled to length 1."""
    x = blobs(0, 700) * np.random.default_rng(1).uniform(0.1, 10, (700, 1)).astype("f4")
    found = CosineClusters(centroids=x[:9], max_iter=1).fit(x).centroids
    right, _, _ = lloyd(x, x[:9])
    nearest = (unit(x) @ unit(x[:9]).T).argmax(1)
    wrong = unit(np.stack([x[nearest == k].sum(0) for k in range(9)]))
    assert np.abs(found - right).max() < 1e-6
    assert np.abs(found - wrong).max() > 1e-2


def datasets():
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    yield "blobs", blobs(1), 12
    yield "more clusters than blobs", blobs(2), 40
    yield "noise", rng.random((3000, 10), np.float32) - 0.5, 20
    yield "digits", load_digits().data.astype(np.float32), 10


@pytest.mark.full
@pytest.mark.parametrize(("x", "k"), [pytest.param(x, k, id=name) for name, x, k in datasets()])
def test_inertia_is_within_a_percent_of_that_of_scikit_learn(x, k):
    """The mean over seeds. Each partition is given the centroids that are best for it."""
    from sklearn.cluster import KMeans

    def inertia(labels):
        sums = np.stack([unit(x.astype("f8"))[labels == c].sum(0) for c in range(k)])
        return 2 * len(x) - 2 * np.linalg.norm(sums, axis=1).sum()

    ours, theirs = [], []
    for seed in range(5):
        clusters = CosineClusters(k, seed=seed, max_iter=30).fit(x)
        ours.append(inertia(clusters.assign(x).cluster))
        theirs.append(inertia(KMeans(k, n_init=1, random_state=seed).fit(unit(x)).labels_))
    assert np.mean(ours) < 1.01 * np.mean(theirs)


# --- results that must stay the same


@settings(deadline=None, max_examples=12)
@given(
    cuts=st.lists(st.integers(0, 200), max_size=6),
    batch_size=st.sampled_from([None, 7, 64, 100, 199, 200, 1000]),
    n_columns=st.sampled_from([2, 5, 17]),
)
def test_a_fit_is_the_same_for_any_chunks(cuts, batch_size, n_columns):
    x = rows_of(200, n_columns).numpy()
    options = {"max_iter": 3, "batch_size": batch_size, "seed": 5}
    chunks = np.split(x, sorted(cuts))
    assert fitted(chunks, **options) == fitted(x, **options)


def test_threads_do_not_change_a_fit_and_seeds_do(threads):
    x = blobs(3)
    want = fitted(x, 20)
    for n_threads in (1, 4):
        threads(n_threads)
        assert fitted(x, 20) == want
    assert fitted(x, 20, seed=1) != want


def test_passes_merge_in_any_order():
    x, centroids = rows_of(300, 6), CentroidDistance(rows_of(4, 6, seed=1))
    whole = LloydPass(centroids, ScoringOptions())
    whole.update(x)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        passes = [LloydPass(centroids, ScoringOptions()) for _ in order]
        for lloyd, start in zip(passes, (0, 100, 250), strict=True):
            lloyd.update(x[start : {0: 100, 100: 250, 250: 300}[start]], start)
        merged = passes[order[0]]
        for i in order[1:]:
            merged.merge(passes[i])
        found, want = merged.result(), whole.result()
        assert torch.equal(found.sums, want.sums)
        assert torch.equal(found.counts, want.counts)
        assert found.inertia == want.inertia
    for other, words in (
        (LloydPass(CentroidDistance(rows_of(4, 6, seed=2)), ScoringOptions()), "the other has by="),
        (LloydPass(centroids, ScoringOptions(), 10), "the other has batch_size=10"),
    ):
        with pytest.raises(ValueError, match=words):
            whole.merge(other)
    batched = [LloydPass(centroids, ScoringOptions(), 10) for _ in range(2)]
    with pytest.raises(ValueError, match="mini-batches depend on the order"):
        batched[0].merge(batched[1])


@pytest.mark.full
def test_samples_of_the_first_pass_merge():
    x = blobs(4)
    whole, *parts = (CosineClusters(5).reducer() for _ in range(4))
    whole.update(x)
    for part, (start, stop) in zip(parts, ((2000, 3000), (0, 700), (700, 2000)), strict=True):
        part.update(x[start:stop], start)
    empty = CosineClusters(5).reducer()
    for part in parts:
        before = part.state_dict()["sample"]["keys"].tobytes()
        empty.merge(part)
        assert part.state_dict()["sample"]["keys"].tobytes() == before
    for reducer in (whole, empty):
        assert reducer.next_pass()
    units = [reducer.state_dict()["units"].tobytes() for reducer in (whole, empty)]
    assert units[0] == units[1]
    narrow = CosineClusters(5).reducer()
    narrow.update(x[:, :3])
    other = CosineClusters(5).reducer()
    other.update(x, 0)
    words = r"the other has row_shape=\[16\], this one row_shape=\[3\]"
    with pytest.raises(ValueError, match=words):
        narrow.merge(other)


# --- few rows, equal rows, invalid rows


def test_one_cluster_and_one_cluster_for_each_row():
    x = rows_of(20, 5).numpy()
    one = CosineClusters(1).fit(x)
    want = unit(unit(x.astype("f8")).sum(0, keepdims=True))
    assert np.abs(one.centroids - want).max() < 1e-6
    assert (one.counts.tolist(), one.converged) == ([20], True)
    each = CosineClusters(20).fit(x)
    assert each.counts.tolist() == [1] * 20
    assert each.inertia == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match=r"n_clusters: wanted at most the 20 valid rows .* got 21"):
        CosineClusters(21).fit(x)


@pytest.mark.parametrize("batch_size", [None, 30])
def test_more_clusters_than_distinct_rows(batch_size):
    x = np.tile(rows_of(3, 4).numpy(), (40, 1))
    found = CosineClusters(7, max_iter=50, batch_size=batch_size).fit(x)
    assert found.n_iter < 50
    assert found.converged
    assert (found.counts.sum(), (found.counts > 0).sum()) == (120, 3)
    assert found.inertia == pytest.approx(0, abs=1e-4)
    assert np.abs(np.linalg.norm(found.centroids, axis=1) - 1).max() < 1e-6
    zeros = CosineClusters(3).fit(np.zeros((9, 4), np.float32))
    assert (zeros.converged, zeros.centroids.any()) == (True, False)


DUPLICATES = "3 of 7 clusters are distinct: the pool may have too few distinct rows"


@pytest.mark.parametrize("batch_size", [None, 30])
@pytest.mark.parametrize("max_iter", [1, 50])
def test_too_few_distinct_clusters_are_warned_of_once(batch_size, max_iter, caplog):
    """Also of rows of other lengths, whose centroids may differ in their last bits."""
    x = np.tile(rows_of(3, 4).numpy(), (40, 1))
    lengths = np.random.default_rng(0).uniform(0.1, 9, (120, 1)).astype(np.float32)
    for rows in (x, x * lengths):
        caplog.clear()
        CosineClusters(7, max_iter=max_iter, batch_size=batch_size).fit(rows)
        assert [record.getMessage() for record in caplog.records] == [DUPLICATES]
    caplog.clear()
    CosineClusters(3).fit(np.zeros((9, 4), np.float32))
    assert "1 of 3 clusters are distinct" in caplog.text


def test_the_command_warns_of_too_few_distinct_clusters_once(tmp_path, caplog):
    np.save(tmp_path / "x.npy", np.tile(rows_of(3, 4).numpy(), (40, 1)))
    cluster_to_file(open_pool(tmp_path / "x.npy"), 7, 1, out=tmp_path / "picks.csv")
    assert [record.getMessage() for record in caplog.records].count(DUPLICATES) == 1


def test_distinct_clusters_are_not_warned_of(caplog):
    x = blobs(5, 600)
    CosineClusters(20).fit(rows_of(20, 5))
    CosineClusters(9, batch_size=70).fit(x)
    # The second cluster has no members yet, and restarts at a row far from the others.
    CosineClusters(centroids=np.stack([x[0], x[0]]), max_iter=1).fit(x)
    assert not caplog.records


def test_a_cluster_that_loses_its_members_restarts():
    x = blobs(5, 600)
    # The second has the direction of the first. No row is near the third.
    away = np.stack([x[0], x[0] * 2, -unit(x).sum(0)])
    found = CosineClusters(centroids=away, max_iter=20).fit(x)
    assert (found.counts > 0).all()
    assert found.inertia < CosineClusters(centroids=away[:1], max_iter=1).fit(x).inertia


def test_given_centroids_are_used_and_not_changed():
    x, given = rows_of(50, 4).numpy(), 3 * rows_of(4, 4, seed=1).numpy()
    before = given.copy()
    clusters = CosineClusters(centroids=given)
    assert (clusters.assign(x).cluster == (unit(x) @ unit(given).T).argmax(1)).all()
    moved = clusters.fit(x).centroids.copy()
    assert np.array_equal(given, before)
    again = clusters.fit(x, chunk_bytes=100)
    assert (again.n_iter, again.converged) == (1, True)
    assert np.array_equal(again.centroids, moved)
    stopped = CosineClusters(centroids=given, max_iter=1).fit(x)
    assert (stopped.n_iter, stopped.converged) == (1, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype, tmp_path):
    x = torch.from_numpy(blobs(6, 500)).to(dtype)
    found = CosineClusters(5).fit(x)
    want = CosineClusters(5).fit(x.float())
    assert np.abs(found.centroids - want.centroids).max() < 1e-5
    torch.save(x, tmp_path / "x.pt")
    for array in found.assign(str(tmp_path / "x.pt")):
        assert isinstance(array, np.ndarray)


def test_rows_that_are_not_finite():
    x = blobs(7, 500)
    want = fitted(np.delete(x, [3, 77], 0), centroids=x[10:14])
    x[3, 2], x[77, 0] = np.nan, np.inf
    with pytest.raises(InvalidRows, match="row 3 has NaN or an infinite value"):
        CosineClusters(4).fit(x)
    assert fitted(x, centroids=x[10:14], on_invalid="skip") == want
    found = CosineClusters(4, on_invalid="skip").fit(x)
    assert found.counts.sum() == 498
    assert np.flatnonzero(found.assign(x).cluster == -1).tolist() == [3, 77]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, TypeError, "n_clusters: wanted an integer, got None"),
        ({"n_clusters": 0}, ValueError, "n_clusters: wanted at least 1, got 0"),
        (
            {"n_clusters": 2, "centroids": np.eye(3)},
            ValueError,
            "centroids: wanted n_clusters=2 rows, got 3",
        ),
        ({"n_clusters": 2, "seed": -1}, ValueError, "seed: wanted 0 to"),
        ({"n_clusters": 2, "seed": 2**64}, ValueError, "seed: wanted 0 to"),
        ({"n_clusters": 2, "batch_size": 0}, ValueError, "batch_size: wanted at least 1"),
        ({"n_clusters": 2, "max_iter": True}, TypeError, "max_iter: wanted an integer"),
        ({"n_clusters": 2, "on_invalid": "drop"}, ValueError, "on_invalid: wanted one of"),
        ({"n_clusters": 2, "backend": "cuda"}, ValueError, "backend: wanted one of"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=f"^{words}"):
        CosineClusters(**arguments)


def test_pools_and_calls_that_are_refused():
    x = rows_of(9, 3)
    with pytest.raises(ValueError, match="a generator can be read once only, a list of arrays"):
        CosineClusters(2).fit(chunk for chunk in [x])
    with pytest.raises(ValueError, match="n_clusters: wanted at most the 0 valid rows"):
        CosineClusters(2).fit(x[:0])
    with pytest.raises(ValueError, match=r"^centroids: wanted 3 columns, .* got 2"):
        CosineClusters(centroids=np.eye(2)).fit(x)
    for method in ("assign", "sample", "save"):
        with pytest.raises(ValueError, match=r"^centroids: there are none yet"):
            getattr(CosineClusters(2), method)(x if method != "save" else "clusters.npz")


@pytest.mark.parametrize("batch_size", [None, 50])
def test_few_rows_are_read_alone_unless_mini_batches_count_them(batch_size, monkeypatch):
    x, few = blobs(0, n=600), np.arange(5, 600, 10)
    others = np.setdiff1d(np.arange(600), few)
    want = CosineClusters(3, batch_size=batch_size).fit(x, exclude=others)
    read, nearest = [], CentroidDistance.nearest

    def counted(self, rows):
        read.append(len(rows.x))
        return nearest(self, rows)

    monkeypatch.setattr(CentroidDistance, "nearest", counted)
    clusters = CosineClusters(3, batch_size=batch_size).fit(x, among=few)
    assert clusters.centroids.tobytes() == want.centroids.tobytes()
    assert sum(read) == clusters.n_iter * (60 if batch_size is None else 600)
