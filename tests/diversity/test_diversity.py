"""Outliers and representative sampling against their definitions in float64."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import InvalidRows
from fastal.diversity import (
    CentroidDistance,
    ValidationRank,
    adaptive_representative,
    cluster_outliers,
    model_outliers,
    representative,
)
from fastal.pipeline import checkpoint
from fastal.pipeline.sequential import Sequential
from tests.support.embeddings import rows_of
from tests.support.marks import needs_triton
from tests.support.stopping import Stop, stopping

POOL, TRAINING = rows_of(60, 6).numpy(), rows_of(9, 6, seed=1).numpy()
CENTROIDS, VALIDATION = rows_of(4, 6, seed=2).numpy(), rows_of(21, 6, seed=3).numpy()
METHODS = {
    "cluster": lambda pool, **options: cluster_outliers(pool, CENTROIDS, 5, **options),
    "model": lambda pool, **options: model_outliers(pool, VALIDATION, 5, **options),
    "representative": lambda pool, **options: representative(pool, TRAINING, 5, **options),
    "adaptive": lambda pool, **options: adaptive_representative(pool, TRAINING, 5, **options),
}


def unit(x):
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def distances(x):
    """1 - similarity to the nearest centroid."""
    return np.array([min(1 - row @ center for center in unit(CENTROIDS)) for row in unit(x)])


def get_rank(value, validation):
    """The rank by the book's loop over the validation values of a neuron, in ascending order."""
    previous_value, previous_rank = -np.inf, 0.0
    for rank, other in enumerate(sorted(validation)):
        if value < other:
            if previous_value == -np.inf:
                return 0.0
            part = (value - previous_value) / (other - previous_value)
            return (previous_rank + part) / len(validation)
        previous_value, previous_rank = other, float(rank)
    return 1.0


def outlyingness(x, rank=get_rank):
    columns = VALIDATION.astype(np.float64).T
    return np.array([1 - np.mean([rank(*pair) for pair in zip(row, columns)]) for row in x])  # noqa: B905


def representativeness(x, training=TRAINING, of_rows=unit):
    """The score by its definition. Rows of zeros add nothing to a direction."""
    pool_direction, of_training = (unit(of_rows(rows).sum(0)[None])[0] for rows in (x, training))
    return unit(x) @ pool_direction - unit(x) @ of_training


def one_by_one(x, k, training=TRAINING):
    """Adaptive sampling by its definition: each pick becomes training data."""
    rows, scores = [], []
    for _ in range(k):
        found = representativeness(x, np.concatenate((training, x[rows])))
        found[rows] = -np.inf
        rows.append(int(found.argmax()))
        scores.append(found[rows[-1]])
    return rows, scores


def assert_picks(picks, want, k=5):
    order = np.lexsort((np.arange(len(want)), -want))[:k]
    assert np.asarray(picks.rows).tolist() == order.tolist()
    np.testing.assert_allclose(picks.scores, want[order], rtol=0, atol=2e-6)


def columns(picks):
    return np.asarray(picks.rows).tolist(), np.asarray(picks.scores).tobytes(), picks.invalid


# --- definitions


@pytest.mark.parametrize("backend", ["auto", "torch", pytest.param("triton", marks=needs_triton)])
def test_picks_follow_the_definitions(backend):
    assert_picks(METHODS["cluster"](POOL, backend=backend), distances(POOL))
    assert_picks(METHODS["model"](POOL, backend=backend), outlyingness(POOL))
    assert_picks(METHODS["representative"](POOL, backend=backend), representativeness(POOL))
    found = METHODS["adaptive"](POOL, backend=backend)
    rows, scores = one_by_one(POOL, 5)
    assert found.rows.tolist() == rows
    np.testing.assert_allclose(found.scores, scores, rtol=0, atol=2e-6)


def test_wrong_definitions_are_found():
    """Distance to the farthest centroid, ranks without interpolation, sums of unscaled rows."""
    x = POOL * np.linspace(0.1, 30, len(POOL), dtype="f4")[:, None]
    right = cluster_outliers(x, CENTROIDS, 5), representative(x, TRAINING, 5)
    assert_picks(right[0], distances(x))
    assert_picks(right[1], representativeness(x))
    farthest = (1 - unit(x) @ unit(CENTROIDS).T).max(1)
    by_counts = outlyingness(POOL, lambda value, ranks: np.mean(ranks <= value))
    as_they_are = representativeness(x, of_rows=lambda rows: rows.astype("f8"))
    for picks, wrong in (
        (right[0], farthest), (METHODS["model"](POOL), by_counts), (right[1], as_they_are),
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            assert_picks(picks, wrong)
    assert one_by_one(POOL, 5)[0] != np.argsort(-representativeness(POOL))[:5].tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_and_tensors(dtype):
    x = torch.from_numpy(POOL).to(dtype)
    wide = x.double().numpy()
    for name, want in (("cluster", distances), ("representative", representativeness)):
        picks = METHODS[name](x)
        assert isinstance(picks.rows, torch.Tensor)
        assert_picks(picks, want(wide))
    assert_picks(METHODS["model"](x), outlyingness(wide))
    assert METHODS["adaptive"](x).rows.tolist() == one_by_one(wide, 5)[0]


def test_training_data_without_a_direction():
    to_the_pool = unit(POOL) @ unit(unit(POOL).sum(0)[None])[0]
    opposite = np.concatenate((TRAINING, -TRAINING))
    for training in (TRAINING[:0], np.zeros((3, 6), "f4"), opposite, iter(()), [TRAINING[:0]]):
        assert_picks(representative(POOL, training, 5), to_the_pool)
    alone = adaptive_representative(POOL, TRAINING[:0], 3)
    assert alone.rows.tolist() == one_by_one(POOL, 3, TRAINING[:0])[0]


# --- results that must stay the same


@settings(deadline=None, max_examples=15)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), name=st.sampled_from([*METHODS]))
def test_picks_are_the_same_for_any_chunks(cuts, name):
    want = columns(METHODS[name](POOL))
    assert columns(METHODS[name](np.split(POOL, sorted(cuts)))) == want
    assert columns(METHODS[name](POOL, chunk_bytes=32 * (1 + len(cuts)))) == want


@pytest.mark.full
@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_makes_the_same_picks(name, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    for i, part in enumerate(np.split(POOL, [17, 40])):
        np.save(tmp_path / f"{i}.npy", part)
    pool, saved = str(tmp_path / "*.npy"), tmp_path / "saved"
    want = columns(METHODS[name](pool))
    assert want == columns(METHODS[name](POOL))
    owner = Sequential if "representative" in name or name == "adaptive" else fastal.Selector
    n_chunks = {"representative": 12, "adaptive": 18}.get(name, 6)
    for left in {1, 5, n_chunks // 2, n_chunks // 2 + 1, n_chunks - 1}:
        with pytest.MonkeyPatch.context() as patch:
            stopping(patch, owner, left)
            with pytest.raises(Stop):
                METHODS[name](pool, checkpoint=saved, chunk_bytes=32 * 12)
        assert columns(METHODS[name](pool, checkpoint=saved, resume=True)) == want
        assert not list(saved.iterdir())


@pytest.mark.parametrize("name", METHODS)
def test_small_pools_and_rows_that_are_not_finite(name):
    for n in (0, 1, 4):
        assert sorted(METHODS[name](POOL[:n]).rows.tolist()) == list(range(n))
    assert len(METHODS[name](iter(())).rows) == 0
    x = POOL.copy()
    x[7, 3] = np.nan
    with pytest.raises(InvalidRows, match="row 7 has NaN"):
        METHODS[name](x)
    want = METHODS[name](np.delete(x, 7, 0))
    found = METHODS[name](x, on_invalid="skip")
    assert found.invalid == 1
    assert found.rows.tolist() == [row + (row >= 7) for row in want.rows]
    assert found.scores.tolist() == want.scores.tolist()


def test_quotas_and_noise_of_outliers():
    groups = np.arange(60) % 3
    for name, want in (("cluster", distances(POOL)), ("model", outlyingness(POOL))):
        picks = METHODS[name](POOL, groups=groups, per_group=1)
        best = [np.flatnonzero(groups == g)[want[groups == g].argmax()] for g in range(3)]
        assert sorted(picks.rows.tolist()) == sorted(best)
        for noise in ("power", "softmax", "softrank"):
            drawn = METHODS[name](POOL, noise=noise, seed=4)
            np.testing.assert_allclose(drawn.scores, want[drawn.rows], rtol=0, atol=2e-6)
            again = METHODS[name](np.split(POOL, [7]), noise=noise, seed=4)
            assert columns(again) == columns(drawn)


# --- refusals


def test_selectors_of_other_measures_do_not_merge():
    measures = [
        CentroidDistance(CENTROIDS), CentroidDistance(-CENTROIDS),
        CentroidDistance(CENTROIDS, fast=True),
        ValidationRank(VALIDATION), ValidationRank(VALIDATION[1:]), "entropy",
    ]  # fmt: skip
    for one, other in pairwise([*measures, measures[0]]):
        first, second = (fastal.Selector(3, by) for by in (one, other))
        with pytest.raises(ValueError, match=r"^merge: the other has (by|kind)="):
            first.merge(second)
        with pytest.raises(ValueError, match=r"^load_state_dict: the state has (by|kind)="):
            first.load_state_dict(second.state_dict())
    same = [fastal.Selector(3, CentroidDistance(CENTROIDS)) for _ in range(2)]
    same[0].update(POOL[:30])
    same[1].update(POOL[30:], 30)
    same[0].merge(same[1])
    assert_picks(same[0].result(), distances(POOL), 3)


@pytest.mark.parametrize(
    ("run", "error", "words"),
    [
        (lambda: cluster_outliers(POOL, CENTROIDS[:, :3], 2), ValueError, "centroids: .* 6 .* 3"),
        (lambda: model_outliers(POOL, VALIDATION[:, :3], 2), ValueError, "validation: .* 6 .* 3"),
        (lambda: representative(POOL, TRAINING[:, :3], 2), ValueError, "training: .* 6 .* got 3"),
        (lambda: representative(POOL, 3, 2), TypeError, "training: wanted an array, a path"),
        (lambda: representative(POOL, [], 2), ValueError, "training: an empty list"),
        (lambda: representative(POOL, POOL * np.nan, 2), InvalidRows, r"row 0 \(training\) has"),
        (lambda: representative(iter([POOL]), TRAINING, 2), ValueError, "pool: .* read once only"),
        (lambda: representative(POOL, TRAINING, 0), ValueError, "k: wanted at least 1"),
        (lambda: model_outliers(POOL, POOL[:0], 2), ValueError, "validation: wanted at least one"),
        (lambda: model_outliers(POOL, POOL[0], 2), ValueError, "validation: wanted .rows, neurons"),
        (lambda: model_outliers(POOL, None, 2), TypeError, "validation: wanted an array, a path"),
        (lambda: model_outliers(POOL, POOL * 1j, 2), TypeError, "validation: .* torch.complex64"),
        (lambda: cluster_outliers(POOL, CENTROIDS, 2, backend="gpu"), ValueError, "backend: "),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(run, error, words):
    with pytest.raises(error, match=f"^{words}") as caught:
        run()
    assert "\n" not in str(caught.value)


def test_validation_and_training_data_in_files(tmp_path):
    for i, part in enumerate(np.split(VALIDATION, 3)):
        np.save(tmp_path / f"{i}.npy", part)
    files = str(tmp_path / "*.npy")
    assert columns(model_outliers(POOL, files, 5)) == columns(METHODS["model"](POOL))
    for value, words in ((np.nan, "1.npy row 2 has NaN"), (np.inf, "1.npy row 2 has NaN, or ")):
        broken = VALIDATION[7:14].astype("f8")
        broken[2, 1] = value
        np.save(tmp_path / "1.npy", broken)
        with pytest.raises(ValueError, match=f"^validation: .*{words}"):
            model_outliers(POOL, files, 5)
        with pytest.raises(InvalidRows, match=r"^row 9 \(training: .*1.npy row 2\) has NaN or an"):
            representative(POOL, files, 5)
    with pytest.raises(ValueError, match=r"^validation: row 0 has NaN, or \+inf in float32"):
        model_outliers(POOL, np.full((2, 6), 1e300), 5)
