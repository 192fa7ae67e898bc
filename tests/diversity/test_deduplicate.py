"""`deduplicate` against its definition in float64, with chunks, little memory and interruptions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.reducer import Mergeable
from fastal.diversity import Deduplicator, deduplicate, near_duplicates, nearest_centroid
from tests.support.matrices import DTYPES

ONE = np.ones((1, 3))
NEMO = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [1, 2, 3], [1, 2, 3]], np.float32)


def embeddings(n_rows=150, width=6, n_copies=40, seed=0):
    """Random rows, some of which are equal or nearly equal to others."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_rows, width))
    to, of = rng.integers(0, n_rows, (2, n_copies))
    x[to] = x[of] + rng.choice([0, 0.05], (n_copies, 1)) * rng.standard_normal((n_copies, width))
    return x.astype(np.float32)


def centroids(n_centroids=5, width=6):
    return np.random.default_rng(9).standard_normal((n_centroids, width))


def by_definition(x, centroids, threshold):
    """Duplicates, their most similar earlier rows, and similarities, by loops in float64."""
    cluster = np.asarray(nearest_centroid(x, centroids, on_invalid="skip").cluster)
    x = torch.as_tensor(x).double().numpy()
    x = np.where(np.isfinite(x), x, 0)
    length = np.linalg.norm(x, axis=1)
    units = x / np.where(length == 0, 1, length)[:, None]
    found = []
    for row in range(len(x)):
        before = [i for i in range(row) if cluster[i] == cluster[row] >= 0]
        similarity = [units[i] @ units[row] for i in before]
        # The products of equal rows may differ in the last digit.
        best = max(similarity, default=-math.inf)
        if best >= threshold - 1e-12:
            first = next(i for i, s in zip(before, similarity, strict=True) if s > best - 1e-12)
            found.append((row, first, best))
    return found


def assert_duplicates(found, x, centroids, threshold):
    want = by_definition(x, centroids, threshold)
    rows, of, similarity = map(np.asarray, found)
    assert rows.tolist() == [row for row, _, _ in want]
    assert of.tolist() == [first for _, first, _ in want]
    np.testing.assert_allclose(similarity, [best for *_, best in want], rtol=0, atol=2.0**-22)
    assert (rows.dtype, of.dtype, similarity.dtype) == (np.int64, np.int64, np.float32)


def assert_same(a, b):
    for ours, theirs in zip(a, b, strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


@pytest.mark.parametrize("n_rows", [1, 2, 3, 6])
def test_the_similarities_of_nemo_curator(n_rows):
    chunks = [NEMO[start : start + n_rows] for start in range(0, 6, n_rows)]
    found = deduplicate(chunks, ONE, -1)
    assert found.rows.tolist() == [1, 2, 3, 4, 5]
    assert found.of.tolist() == [0, 1, 2, 0, 0]
    np.testing.assert_allclose(found.similarity, [0.974631, 0.998190, 0.999618, 1, 1], atol=1e-6)


@pytest.mark.parametrize("n_centroids", [1, 5])
@pytest.mark.parametrize("threshold", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("block_rows", [64, 1024])
def test_duplicates_follow_the_definition(n_centroids, threshold, block_rows, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_BLOCK_ROWS", block_rows)
    x = embeddings()
    found = deduplicate(x, centroids(n_centroids), threshold)
    assert len(found.rows) > 10
    assert_duplicates(found, x, centroids(n_centroids), threshold)


def test_a_wrong_definition_is_found():
    x = embeddings()
    found = deduplicate(x, centroids(), 0.9)
    for wrong in (
        (x, centroids(), 0.8),
        (x, centroids(1), 0.9),  # compared across clusters
        (x[::-1].copy(), centroids(), 0.9),  # compared with later rows
        (x + 0.001, centroids(), 0.9),
    ):
        with pytest.raises(AssertionError):
            assert_duplicates(found, *wrong)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype):
    x = torch.from_numpy(embeddings()).to(dtype)
    found = deduplicate(x, centroids(), 0.9)
    assert all(isinstance(column, torch.Tensor) for column in found)
    assert_duplicates(found, x, centroids(), 0.9)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), width=st.sampled_from([1, 3, 6, 33]))
def test_results_are_the_same_for_any_chunks_and_any_memory(data, width):
    x, of = embeddings(width=width), centroids(width=width)
    want = deduplicate(x, of, 0.9)
    cuts = sorted(data.draw(st.lists(st.integers(0, 150), max_size=6)))
    chunks = [chunk.copy() for chunk in np.split(x, cuts)]
    largest = np.bincount(nearest_centroid(x, of).cluster).max()
    memory_bytes = int(4 * width * data.draw(st.integers(largest, 150)))
    assert_same(deduplicate(chunks, of, 0.9, memory_bytes=memory_bytes), want)


def test_many_equal_rows_have_similarity_1_to_the_first():
    for width in (3, 384, 769):
        x = np.random.default_rng(0).standard_normal((1, width)).repeat(1500, 0)
        found = deduplicate(x * np.arange(1, 1501)[:, None], x[:1], 1)
        assert found.rows.tolist() == list(range(1, 1500))
        assert (found.of == 0).all()
        assert (found.similarity == 1).all()


def test_rows_of_zeros_and_of_any_length():
    x = np.array([[0, 0], [1, 1], [0, 0], [1e-30, 1e-30], [3e38, 3e38]], np.float32)
    found = deduplicate(x, np.eye(2), 0.5)
    assert (found.rows.tolist(), found.of.tolist()) == ([3, 4], [1, 1])
    assert deduplicate(x, [[1.0, 1]] @ np.eye(2), 0).rows.tolist() == [1, 2, 3, 4]


def test_invalid_rows_are_named_or_left_out(caplog):
    x = embeddings(50)
    x[[3, 20], [1, 2]] = math.nan, math.inf
    with pytest.raises(fastal.InvalidRows, match="row 3 has NaN or an infinite value; 2 such"):
        deduplicate(x, centroids())
    found = deduplicate(x, centroids(), 0.5, on_invalid="skip")
    assert "2 rows are invalid" in caplog.text
    assert_duplicates(found, x, centroids(), 0.5)
    assert not {3, 20} & {*found.rows, *found.of}


def test_pools_of_few_rows_and_clusters_of_one_row():
    for n_rows in (0, 1):
        found = deduplicate(NEMO[:n_rows], ONE, -1)
        assert [column.shape for column in found] == [(0,)] * 3
    assert deduplicate(np.eye(3, dtype=np.float32), np.eye(3), -1).rows.tolist() == []


def test_a_cluster_that_does_not_fit_into_memory_is_named():
    words = "cluster 0 has 6 rows, which take 72 bytes; memory_bytes is 71: wanted more"
    with pytest.raises(ValueError, match=words):
        deduplicate(NEMO, ONE, memory_bytes=71)
    assert len(deduplicate(NEMO, ONE, memory_bytes=72).rows) == 5


def test_an_iterator_is_refused():
    with pytest.raises(ValueError, match="pool: the first pass read 6 rows, this one 0"):
        deduplicate(iter([NEMO]), ONE)


def test_files_and_resuming_after_interruptions(tmp_path, interrupting):
    x, of = embeddings(), centroids()
    for number, part in enumerate(np.split(x, 3)):
        np.save(tmp_path / f"{number}.npy", part)
    pool = [tmp_path / f"{number}.npy" for number in range(3)]
    largest = np.bincount(nearest_centroid(x, of).cluster).max()
    options = {"memory_bytes": int(4 * 6 * largest), "chunk_bytes": 40 * 24}
    want = deduplicate(x, of, 0.9)
    assert_same(deduplicate(pool, of, 0.9, **options), want)

    interrupt_at = interrupting(Deduplicator)
    options |= {"checkpoint": tmp_path / "saved", "resume": True}
    for n_chunks in (3, 5, 4, 1, 4):
        interrupt_at(n_chunks)
        with pytest.raises(KeyboardInterrupt):
            deduplicate(pool, of, 0.9, **options)
    with pytest.raises(ValueError, match=r"threshold is 0.9 there, 0.8 in this run"):
        deduplicate(pool, of, 0.8, **options)
    assert_same(deduplicate(pool, of, 0.9, **options), want)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"threshold": 1.5}, ValueError, "threshold: wanted a similarity from -1 to 1, got 1.5"),
        ({"threshold": math.nan}, ValueError, "threshold: wanted a similarity"),
        ({"threshold": "high"}, TypeError, "threshold: wanted a number"),
        ({"memory_bytes": 0}, ValueError, "memory_bytes: wanted at least 1"),
        ({"centroids": 3}, TypeError, "centroids: wanted an array"),
        ({"centroids": np.ones((2, 4))}, ValueError, "^centroids: wanted .* columns, .* got 4"),
        ({"on_invalid": "drop"}, ValueError, "on_invalid: wanted one of raise, skip"),
        ({"resume": True}, ValueError, "resume: wanted checkpoint"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        deduplicate(**{"pool": NEMO, "centroids": ONE, **arguments})


def test_merging_and_states_of_other_arguments_are_refused():
    reducer = Deduplicator(ONE)
    assert not isinstance(reducer, Mergeable)  # rows of two reducers are never compared
    with pytest.raises(ValueError, match=r"the state has threshold=0.5, this one threshold=0.95"):
        reducer.load_state_dict(Deduplicator(ONE, 0.5).state_dict())
