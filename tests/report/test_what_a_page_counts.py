"""What the pictures of a page show, compared with naive computations."""

import numpy as np
import pytest

import fastal
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.report.page import projection
from fastal.report.page.distribution import BINS, distributions_of
from fastal.report.page.pool_summary import STEPS, PoolSummarizer

RNG = np.random.default_rng(0)
NAMES = ("least_confidence", "margin", "ratio", "entropy")


def summary_of(logits, rows=(), chunk_bytes=None, **output):
    kind, temperature = output.get("kind", "logits"), output.get("temperature", 1.0)
    reducer = PoolSummarizer(kind, temperature, np.array(rows, np.int64))
    return run_on_pool(reducer, logits, RunOptions(chunk_bytes), lambda found, _: found)


def projected(x, rows):
    return projection.projected(fastal.open_pool(x), rows, np.arange(len(rows)))


def softmax(logits):
    e = np.exp(np.float64(logits) - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("chunk_bytes", [None, 400])
def test_the_bins_hold_the_scores_that_fastal_computes(n_classes, chunk_bytes):
    logits = (2 * RNG.standard_normal((500, n_classes))).astype(np.float32)
    logits[7] = np.nan
    found = summary_of(logits, chunk_bytes=chunk_bytes)
    scores = fastal.score(np.delete(logits, 7, 0))
    for of, name in zip(found.distributions, NAMES, strict=True):
        want = [0] * BINS
        for value in getattr(scores, name):
            want[min(BINS - 1, int(np.float32(value) * np.float32(BINS)))] += 1
        assert (of.name, of.n_rows, of.not_finite) == (name, 500, 1)
        assert of.counts.tolist() == want


def test_the_cells_of_two_probabilities_hold_their_rows():
    logits = (3 * RNG.standard_normal((800, 6))).astype(np.float32)
    rows = np.array([5, 790, 3, 5])
    found = summary_of(logits, rows, chunk_bytes=3000)
    p = -np.sort(-softmax(logits), 1)[:, :2]
    want = np.histogram2d(p[:, 0], p[:, 1], [STEPS, STEPS], [[0, 1], [0, 0.5]])[0]
    assert found.cells.sum() == 800
    assert np.abs(found.cells - want).sum() <= 4  # a row at the edge of two cells
    np.testing.assert_allclose(found.of_picks, p[rows], rtol=1e-5)
    np.testing.assert_allclose(found.distributions[2].of_picks, (p[:, 1] / p[:, 0])[rows], 1e-5)


@pytest.mark.parametrize(("kind", "temperature"), [("logits", 1.0), ("logits", 2.5), ("probs", 1)])
def test_the_triangles_of_three_probabilities_hold_their_rows(kind, temperature):
    logits = 2 * RNG.standard_normal((600, 3))
    p = softmax(logits / temperature)
    given = (p if kind == "probs" else logits).astype(np.float32)
    found = summary_of(given, [599, 0], kind=kind, temperature=temperature)
    np.testing.assert_allclose(found.of_picks, p[[599, 0]], rtol=1e-5)
    want = np.zeros((STEPS, STEPS, 2), int)
    for a, b, _ in p * STEPS:
        want[int(a), int(b), int(a % 1 + b % 1 >= 1)] += 1
    assert np.abs(found.cells - want).sum() <= 4


def test_certain_predictions_are_in_the_corners():
    found = summary_of(np.eye(3, dtype=np.float32), kind="probs")
    assert np.argwhere(found.cells).tolist() == [[0, 0, 0], [0, STEPS - 1, 0], [STEPS - 1, 0, 0]]


def test_a_summary_continues_from_its_state():
    logits = RNG.standard_normal((60, 3)).astype(np.float32)
    rows = np.array([50, 2])
    whole, first, second = (PoolSummarizer("logits", 1.0, rows) for _ in range(3))
    whole.update(logits)
    first.update(logits[:30])
    second.load_state_dict(first.state_dict())
    second.update(logits[30:])
    found, want = second.result(), whole.result()
    assert (found.cells == want.cells).all()
    assert (found.of_picks == want.of_picks).all()
    assert (found.distributions[0].counts == want.distributions[0].counts).all()


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_scores_in_files_are_counted(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("fastal.report.page.distribution._ROWS", 64)
    path = tmp_path / f"scores{suffix}"
    near, far = RNG.random(300).astype(np.float32), 5 * RNG.standard_normal(300).astype(np.float32)
    near[3], far[9] = np.nan, np.inf
    if suffix == ".npy":
        np.save(path, np.array([*zip(near, far, strict=True)], [("near", "f4"), ("far", "f4")]))
    else:
        order = RNG.permutation(300)
        lines = [f"{row},name,{near[row]},{far[row]}" for row in order]
        path.write_text("\n".join(["row,id,near,far", *lines]) + "\n")
    rows = np.array([299, 3, 0, 299])
    of_near, of_far = distributions_of(path, rows)
    assert (of_near.low, of_near.high, of_near.not_finite, of_near.n_rows) == (0, 1, 1, 300)
    assert of_near.counts.tolist() == np.histogram(np.delete(near, 3), BINS, (0, 1))[0].tolist()
    finite = np.delete(far, 9)
    assert (of_far.low, of_far.high) == (finite.min(), finite.max())
    assert of_far.counts.tolist() == np.histogram(finite, BINS)[0].tolist()
    assert of_far.of_picks.tolist() == far[rows].tolist()
    np.testing.assert_array_equal(of_near.of_picks, near[rows])
    with pytest.raises(ValueError, match=r"scores.*: row 300 is picked, and is not in the file"):
        distributions_of(path, np.array([300]))


@pytest.mark.parametrize("values", [[3e7], [-3e7], [1e30], [3e7, 3e7 + 2], [3e38, -3e38], [7]])
@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_bins_of_equal_and_of_near_scores_hold_them_all(tmp_path, values, suffix):
    path = tmp_path / f"scores{suffix}"
    scores = np.resize(np.float32(values), 20)
    if suffix == ".npy":
        np.save(path, scores.view([("far", "f4")]))
    else:
        lines = "".join(f"{row},{score}\n" for row, score in enumerate(scores))
        path.write_text(f"row,far\n{lines}")
    (of,) = distributions_of(path, np.arange(3))
    assert of.low < of.high
    assert of.low <= scores.min() <= scores.max() <= of.high
    assert sorted(of.counts[of.counts > 0].tolist()) == [20 // len(values)] * len(values)


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_scores_beyond_float32_are_not_finite(tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    if suffix == ".npy":
        np.save(path, np.array([(0.5,), (1e300,)], [("a", "f8")]))
    else:
        path.write_text("row,a\n0,0.5\n1,1e300\n")
    (of,) = distributions_of(path, np.arange(2))
    assert (of.counts.sum(), of.not_finite) == (1, 1)


@pytest.mark.parametrize("dims", [1, 5, 400])  # fewer and more than rows
def test_the_projection_is_onto_principal_components(dims):
    x = RNG.standard_normal((200, dims)) * np.linspace(3, 1, dims) + 7
    rows = np.array([199, 0, 55])
    found = projected(x, rows)
    left, lengths, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    want = (left * lengths)[:, :2]
    if dims == 1:
        want = np.column_stack([want, np.zeros(200)])
    for axis in (0, 1):
        sign = np.sign((found.sample[:, axis] * want[:, axis]).sum()) or 1
        np.testing.assert_allclose(found.sample[:, axis], sign * want[:, axis], atol=1e-8)
        np.testing.assert_allclose(found.of_picks[:, axis], sign * want[rows, axis], atol=1e-8)
    shares = (lengths**2 / (lengths**2).sum()).tolist()
    np.testing.assert_allclose(found.shares, (*shares, 0)[:2], atol=1e-12)


def test_embeddings_that_are_not_finite_are_left_out():
    x = RNG.standard_normal((50, 3))
    x[4] = np.nan
    found = projected(x, np.array([4, 5]))
    assert len(found.sample) == 49
    assert np.isnan(found.of_picks[0]).all() and np.isfinite(found.of_picks[1]).all()
    with pytest.raises(ValueError, match="wanted two or more finite rows, got 0"):
        projected(np.full((5, 2), np.nan), np.array([], np.int64))


def test_a_large_pool_is_sampled():
    found = projected(RNG.random((5000, 2)), np.array([4999]))
    assert (found.sample.shape, found.n_rows) == ((2000, 2), 5000)


def test_of_the_picks_only_those_that_are_marked_are_read_and_projected(monkeypatch):
    x = RNG.standard_normal((500, 4))
    rows = RNG.permutation(500)[:300]
    rows[7] = rows[200]
    marked = np.array([0, 7, 200, 299])
    asked = []
    read = projection._read
    monkeypatch.setattr(projection, "_CHUNK_BYTES", 64)  # two rows
    monkeypatch.setattr(
        projection, "_read", lambda source, of: asked.append(of.tolist()) or read(source, of)
    )
    found = projection.projected(fastal.open_pool(x), rows, marked)
    assert asked == [list(range(500)), sorted({*rows[marked].tolist()})]
    assert np.isfinite(found.of_picks).all(1).nonzero()[0].tolist() == marked.tolist()
    np.testing.assert_allclose(found.of_picks[marked], found.sample[rows[marked]], atol=1e-12)
