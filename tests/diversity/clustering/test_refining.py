"""Refining passes against moves that are tried one by one in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal import InvalidRows
from fastal.diversity import CosineClusters
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.clustering import k_means, local_search, refine_pass
from fastal.diversity.clustering.leave_one_out import best_moves
from fastal.diversity.clustering.lloyd_pass import LloydPass, no_clusters
from fastal.diversity.clustering.local_search import Partition
from fastal.diversity.clustering.refine_pass import RefinePass
from fastal.ops.reference import unit_sums
from fastal.scoring.scoring_options import ScoringOptions
from tests.support.embeddings import blobs, rows_of, unit

# Rows are scaled to length 1 in float32, which changes their lengths by at most this. The gain of a
# move has two such rows in each of two clusters, in first order.
ROUNDING = 2.0**-23


def words(n, n_words=300, seed=0):
    """Rows like texts of 3 to 8 words, of which few are frequent."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, n_words), np.float32)
    for row in x:
        row[(n_words * rng.random(rng.integers(3, 9)) ** 3).astype(int)] += 1
    return x


def spread(x, labels):
    """The sum over rows of 1 - cosine to the mean of the rows of their own cluster."""
    units = unit(x).astype(np.float64)
    total = 0.0
    for label in set(labels.tolist()):
        members = units[labels == label]
        centroid = unit(members.mean(0, keepdims=True)).astype(np.float64)[0]
        total += (1 - members @ centroid).sum()
    return total


def moves(x, labels, n_clusters):
    """By how much each move of a row, alone, lowers the spread, [N, K]."""
    before, found = spread(x, labels), np.zeros((len(x), n_clusters))
    for row in range(len(x)):
        for cluster in range(n_clusters):
            other = labels.copy()
            other[row] = cluster
            found[row, cluster] = before - spread(x, other)
    return found


def partition_of(x, labels, n_clusters):
    labels = torch.from_numpy(labels)
    sums = unit_sums(torch.from_numpy(x), labels, n_clusters)
    return Partition(sums, torch.bincount(labels, minlength=n_clusters))


def gains(x, labels, n_clusters, error=0.0):
    partition = partition_of(x, labels, n_clusters)
    sums = partition.sums.numpy() * 2.0**-30
    similarity = (unit(x) @ unit(sums).T).astype(np.float32)
    return best_moves(
        torch.from_numpy(similarity), torch.from_numpy(labels), partition.lengths, error
    )


def inertia(x, labels):
    return 2 * spread(x, labels)


# --- definition


@pytest.mark.parametrize("seed", range(3))
def test_gains_are_those_of_moves_that_are_tried(seed):
    rng = np.random.default_rng(seed)
    x, labels = words(40, 30, seed), rng.integers(0, 6, 40)
    labels[:4] = [6, 7, 8, 8]  # single rows, and the empty cluster 9
    tried = moves(x, labels, 10)
    tried[np.arange(40), labels] = -np.inf
    target, gain = gains(x, labels, 10)
    assert np.abs(gain.numpy() - tried.max(1)).max() < 1e-6  # float32's rounding of 40 numbers
    chosen = tried[np.arange(40), target.numpy()]
    assert np.abs(chosen - tried.max(1)).max() < 1e-6
    above = gains(x, labels, 10, error=1e-3)[1].numpy()
    assert (above > tried.max(1)).all()


def test_gains_without_leaving_the_row_out_are_caught():
    x, labels = words(40, 30), np.random.default_rng(0).integers(0, 6, 40)
    tried = moves(x, labels, 6)
    sums = partition_of(x, labels, 6).sums.numpy() * 2.0**-30
    similarity = unit(x) @ unit(sums).T
    wrong = similarity - similarity[np.arange(40), labels][:, None]
    for of_rows in (wrong, tried):
        of_rows[np.arange(40), labels] = -np.inf
    assert np.abs(wrong.max(1) - tried.max(1)).max() > 0.1
    assert (wrong.max(1) > 0).sum() < (tried.max(1) > 0).sum()


POOLS = {
    "words": lambda: words(90),
    "blobs": lambda: blobs(3, 90, 5),
    "noise": lambda: rows_of(90, 4).numpy(),
    "repeated rows": lambda: np.tile(words(9, 20), (7, 1)),
    "rows of zeros": lambda: np.concatenate((words(40, 20), np.zeros((9, 20), np.float32))),
    "opposite rows": lambda: np.concatenate((words(30, 20), -words(30, 20))),
    "one column": lambda: rows_of(30, 1).numpy(),
}


@pytest.mark.full
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("n_clusters", [2, 7, 15])
def test_no_move_of_one_row_helps_at_the_end(name, n_clusters):
    x = POOLS[name]()
    before = CosineClusters(n_clusters, max_iter=50).fit(x)
    found = CosineClusters(n_clusters, max_iter=50, refine=50).fit(x)
    assert found.converged
    assert found.inertia <= before.inertia + 1e-5
    labels = found.assign(x).cluster
    assert moves(x, labels, n_clusters).max() < 4 * ROUNDING
    assert found.inertia == pytest.approx(inertia(x, labels), abs=2 * len(x) * ROUNDING)
    assert found.counts.sum() == len(x)
    if name == "words":
        assert found.counts.tolist() == np.bincount(labels, minlength=n_clusters).tolist()
        assert moves(x, before.assign(x).cluster, n_clusters).max() > 0.01


def test_each_pass_lowers_the_inertia_and_the_sums_stay_exact(monkeypatch):
    """Passes that keep few rows need many passes, and end at such a point too."""
    monkeypatch.setattr(k_means, "sample_rows", lambda *_: 12)
    x = words(200, 100)
    reducer = CosineClusters(12, centroids=x[:12], refine=60).reducer()
    inertias, more = [], True
    while more:
        reducer.update(x, 0)
        more = reducer.next_pass()
        state = reducer.state_dict()
        if state["refined"] is not None:
            labels = state["refined"]["clusters"]["values"].astype(np.int64)
            want = partition_of(x, labels, 12)
            assert np.array_equal(state["refined"]["sums"], want.sums.numpy())
            assert np.array_equal(state["refined"]["counts"], want.counts.numpy())
            inertias.append(inertia(x, labels))
    assert len(inertias) > 5
    assert (np.diff(inertias) <= 0).all()
    found = reducer.result()
    assert found.converged
    labels = CosineClusters(centroids=found.centroids).assign(x).cluster
    assert moves(x, labels, 12).max() < 4 * ROUNDING


def test_moves_that_only_rounding_calls_better_are_not_made():
    """Two clusters of equal rows each: the singletons and equal clusters gain exactly 0."""
    x = np.tile(rows_of(3, 7).numpy(), (5, 1)) * np.arange(1, 16, dtype=np.float32)[:, None]
    labels = np.arange(15) % 3
    labels[12:] = [3, 4, 5]  # single rows, whose directions other clusters have
    found, cluster, n_moves = local_search.improved(
        partition_of(x, labels, 6),
        unit_sums(torch.from_numpy(x), torch.arange(15), 15).int().numpy(),
        torch.from_numpy(labels),
    )
    assert n_moves == 0
    assert cluster.tolist() == labels.tolist()
    assert found.inertia == pytest.approx(0, abs=2 * 15 * ROUNDING)


def test_sums_that_are_moved_at_once_overshoot():
    """All best moves of a pass, made at once, are a wrong variant: the spread rises."""
    x = words(300, 60)
    labels = CosineClusters(60, max_iter=50).fit(x).assign(x).cluster
    target, gain = gains(x, labels, 60)
    at_once = np.where(gain.numpy() > 0, target.numpy(), labels)
    found = CosineClusters(60, max_iter=50, refine=1).fit(x)
    assert found.inertia < inertia(x, labels)
    assert found.inertia < inertia(x, at_once)


# --- results that must stay the same


def fitted(x, k=9, **options):
    found = CosineClusters(k, **{"max_iter": 2, "refine": 3, **options}).fit(x)
    of_passes = found.n_iter, found.converged
    return found.centroids.tobytes(), found.counts.tobytes(), found.inertia, *of_passes


@settings(deadline=None, max_examples=12)
@given(
    cuts=st.lists(st.integers(0, 200), max_size=6),
    block_rows=st.integers(1, 300),
    n_kept=st.sampled_from([9, 40, 4096]),
)
def test_refined_clusters_are_the_same_for_any_chunks_and_blocks(cuts, block_rows, n_kept):
    x = words(200, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(k_means, "sample_rows", lambda *_: n_kept)
        want = fitted(x)
        for module in (refine_pass, local_search):
            patch.setattr(module, "block_rows", lambda *_: block_rows)
        patch.setattr(refine_pass, "_VECTOR_ROWS", 1 + block_rows % 64)
        assert fitted(np.split(x, sorted(cuts))) == want


def test_threads_do_not_change_refined_clusters(threads):
    x = blobs(3)
    want = fitted(x, 20)
    for n_threads in (1, 4):
        threads(n_threads)
        assert fitted(x, 20) == want


def test_an_iteration_that_keeps_clusters_has_the_same_sums():
    x, centroids = words(200), CentroidDistance(words(9, seed=1))
    plain = LloydPass(centroids, ScoringOptions())
    keeping = LloydPass(centroids, ScoringOptions(), keeps_clusters=True)
    for lloyd in (plain, keeping):
        lloyd.update(x)
    for ours, theirs in zip(keeping.result()[1:], plain.result()[1:], strict=True):
        assert np.array_equal(ours, theirs)
    want = CosineClusters(centroids=centroids.units).assign(x).cluster
    assert keeping.clusters.values.tolist() == want.tolist()
    assert plain.clusters is None


def test_passes_over_other_partitions_do_not_merge():
    x = words(60)
    passes = []
    for labels in (np.arange(60) % 3, np.arange(60) // 20):
        partition = partition_of(x, labels, 3)
        centroids = CentroidDistance(x[:3])
        passes.append(RefinePass(centroids, partition, no_clusters(), 9, ScoringOptions()))
    with pytest.raises(ValueError, match="merge: the other has sums="):
        passes[0].merge(passes[1])
    refining, other = (CosineClusters(3, max_iter=1, refine=1).reducer() for _ in range(2))
    for _ in range(2):
        refining.update(x, 0)
        refining.next_pass()
    other.update(x, 0)
    other.next_pass()
    with pytest.raises(ValueError, match="merge: the other is in another pass"):
        refining.merge(other)


# --- when to stop


def test_refining_stops_at_its_limit_or_if_no_row_moves():
    x = words(200)
    lloyd = CosineClusters(9, max_iter=50).fit(x)
    assert lloyd.converged
    one = CosineClusters(9, max_iter=50, refine=1).fit(x)
    assert (one.n_iter, one.converged) == (lloyd.n_iter + 1, False)
    all_of_them = CosineClusters(9, max_iter=50, refine=50).fit(x)
    assert all_of_them.converged
    assert all_of_them.n_iter < lloyd.n_iter + 50
    assert all_of_them.inertia <= one.inertia < lloyd.inertia
    again = CosineClusters(centroids=all_of_them.centroids, refine=50).fit(x)
    assert again.counts.tolist() == all_of_them.counts.tolist()
    assert CosineClusters(1, refine=5).fit(x).converged


def test_tol_is_a_share_of_the_inertia():
    x = blobs(0, 2000)
    inertias = [CosineClusters(20, max_iter=n).fit(x).inertia for n in range(1, 12)]
    gained = -np.diff(inertias) / inertias[:-1]
    tol = 1e-3
    want = 2 + int((gained <= tol).argmax())
    found = CosineClusters(20, max_iter=50, tol=tol).fit(x)
    assert (found.n_iter, found.converged) == (want, True)
    assert found.inertia == inertias[want - 1]
    assert CosineClusters(20, max_iter=50, tol=1).fit(x).n_iter == 2
    x = words(200)
    refined = CosineClusters(9, refine=9, tol=0.5).fit(x)
    assert (refined.n_iter, refined.converged) == (CosineClusters(9, tol=0.5).fit(x).n_iter + 1, 1)


# --- other rows


def test_rows_that_are_not_finite_or_left_out_are_not_moved():
    x = words(200)
    want = fitted(np.delete(x, [3, 77], 0), centroids=x[10:19])
    assert fitted(x, centroids=x[10:19]) != want
    x[3, 2], x[77, 0] = np.nan, np.inf
    with pytest.raises(InvalidRows, match="row 3 has NaN or an infinite value"):
        CosineClusters(4, refine=2).fit(x)
    assert fitted(x, centroids=x[10:19], on_invalid="skip") == want
    few = np.arange(1, 200, 3)
    options = {"centroids": x[10:19], "max_iter": 2, "refine": 3}
    found = CosineClusters(**options).fit(x, among=np.setdiff1d(few, [3, 77]))
    want = CosineClusters(**options).fit(x[np.setdiff1d(few, [3, 77])])
    assert found.centroids.tobytes() == want.centroids.tobytes()
    assert found.inertia == want.inertia


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_refining_rows_of_other_dtypes(dtype):
    x = torch.from_numpy(words(200)).to(dtype)
    found, want = (CosineClusters(9, refine=50).fit(rows) for rows in (x, x.float()))
    assert np.abs(found.centroids - want.centroids).max() < 1e-5
    assert found.inertia == pytest.approx(want.inertia, rel=1e-6)


def test_rows_of_float64_keep_their_digits_when_they_move():
    x = torch.from_numpy(words(200) * (1 + np.random.default_rng(0).random((200, 300)) / 9))
    assert x.dtype == torch.float64
    reducer = CosineClusters(9, max_iter=1, refine=3).reducer()
    for _ in range(3):
        reducer.update(x, 0)
        reducer.next_pass()
    refined = reducer.state_dict()["refined"]
    labels = torch.from_numpy(refined["clusters"]["values"]).long()
    assert np.array_equal(refined["sums"], unit_sums(x, labels, 9).numpy())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"refine": -1}, ValueError, "refine: wanted 0 or more, got -1"),
        ({"refine": 1.5}, TypeError, "refine: wanted an integer"),
        ({"refine": 1, "batch_size": 9}, ValueError, "refine: wanted 0 with batch_size=9, got 1"),
        ({"tol": -0.1}, ValueError, "tol: wanted 0 to 1, got -0.1"),
        ({"tol": float("nan")}, ValueError, "tol: wanted 0 to 1, got nan"),
        ({"tol": "small"}, TypeError, "tol: wanted a number"),
    ],
)
def test_bad_arguments_of_refining_are_named(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        CosineClusters(3, **arguments)
