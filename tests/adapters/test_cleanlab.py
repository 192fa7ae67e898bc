"""The functions for cleanlab against that library's own, and against definitions."""

import doctest
import math

import numpy as np
import pytest
import torch

pytest.importorskip("cleanlab", reason="cleanlab is missing; scripts/test-adapters cleanlab has it")

import pandas as pd
from cleanlab import Datalab, multiannotator, rank
from cleanlab.internal.neighbor.knn_graph import create_knn_graph_and_index
from sklearn.neighbors import NearestNeighbors

import fastal
from fastal.adapters import cleanlab
from fastal.adapters.cleanlab import (
    get_active_learning_scores,
    get_label_quality_scores,
    knn_graph,
)
from fastal.testing import check_select
from tests.support.adapter_pages import page_code

# cleanlab warns of annotators who never agree with others.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:cleanlab")

METHODS = ["self_confidence", "normalized_margin", "confidence_weighted_entropy"]


def probabilities(n_rows, n_classes=4, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(n_classes, 0.4), n_rows).clip(1e-4).astype(dtype)


def normal(p):
    return p / p.sum(1, keepdims=True)


def annotations(p, n_annotators=5, seed=1):
    """What annotators say: each labels some rows, mostly as the predictions do."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([[rng.choice(len(row), p=row) for row in normal(p)] for _ in range(5)], 1)
    found = np.where(rng.random(drawn.shape) < 0.5, drawn.astype(float), np.nan)[:, :n_annotators]
    found[np.arange(len(p)), rng.integers(n_annotators, size=len(p))] = p.argmax(1)
    return found


def single_annotations(p):
    found = np.full((len(p), 3), np.nan)
    found[np.arange(len(p)), np.arange(len(p)) % 3] = p.argmax(1)
    return found


@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_without_labels_are_those_of_active_lab(n_classes, dtype):
    p = normal(probabilities(300, n_classes)).astype(dtype)
    labelled, found = get_active_learning_scores(pred_probs_unlabeled=p)
    want = [(max(row) + 1 / n_classes) / 2 for row in p.tolist()]
    assert labelled.shape == (0,)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, want, atol=1e-6)
    own = multiannotator.get_active_learning_scores(pred_probs_unlabeled=p.copy())
    assert own[0].shape == (0,)
    np.testing.assert_allclose(found, own[1], atol=1e-6)
    picks = fastal.select(p, 20, "least_confidence", kind="probs").rows
    assert found.argsort(kind="stable")[:20].tolist() == picks.tolist()


@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame])
@pytest.mark.parametrize("labels_of", [annotations, single_annotations])
def test_scores_with_labels_are_those_of_active_lab(labels_of, form):
    p, pool = normal(probabilities(80)), normal(probabilities(300, seed=5))
    labels = form(labels_of(p))
    for unlabelled in (pool, None):
        want = multiannotator.get_active_learning_scores(labels, p, unlabelled)
        found = get_active_learning_scores(labels, p, unlabelled)
        np.testing.assert_allclose(found[0], want[0], rtol=1e-12)
        np.testing.assert_allclose(found[1], want[1], atol=1e-6)


def test_labels_of_several_annotators_change_the_temperature_and_the_weights():
    """What would be missed by a formula that has only the largest probability."""
    p, pool = normal(probabilities(80)), normal(probabilities(300, seed=5))
    _, found = get_active_learning_scores(annotations(p), p, pool)
    _, cold = get_active_learning_scores(pred_probs_unlabeled=pool)
    assert abs(found - cold).max() > 0.01


def test_logarithms_are_in_memory_a_chunk_at_a_time(monkeypatch):
    p, pool = normal(probabilities(80)), normal(probabilities(300, seed=5))
    pool[:40] = np.eye(4)[np.arange(40) % 4]
    labels = annotations(p)
    _, whole = get_active_learning_scores(labels, p, pool)
    monkeypatch.setattr(cleanlab, "_CHUNK_VALUES", 4 * 7)
    _, found = get_active_learning_scores(labels, p, pool)
    np.testing.assert_array_equal(found, whole)
    _, want = multiannotator.get_active_learning_scores(labels, p, pool)
    np.testing.assert_allclose(found, want, atol=1e-6)  # also of probabilities that are 0


@pytest.mark.parametrize("with_labels", [False, True])
def test_rows_that_are_no_distribution_are_named_where_cleanlab_gives_an_answer(with_labels):
    p = normal(probabilities(80))
    known = (annotations(p), p) if with_labels else (None, None)
    logits = np.log(p)
    nan = p.copy()
    nan[7, 1] = np.nan
    _, of_logits = multiannotator.get_active_learning_scores(*known, logits)
    assert np.isfinite(of_logits).all()
    _, of_nan = multiannotator.get_active_learning_scores(*known, nan)
    assert np.flatnonzero(np.isnan(of_nan)).tolist() == [7]
    with pytest.raises(ValueError, match=r"pred_probs_unlabeled: .*row 0"):
        get_active_learning_scores(*known, logits)
    with pytest.raises(ValueError, match=r"pred_probs_unlabeled: row 7 has NaN"):
        get_active_learning_scores(*known, nan)


def test_bad_arguments_of_active_lab_are_named():
    p = normal(probabilities(80))
    with pytest.raises(ValueError, match="cannot both be None"):
        get_active_learning_scores()
    with pytest.raises(ValueError, match="labels_multiannotator cannot be None"):
        get_active_learning_scores(None, p, p)
    with pytest.raises(ValueError, match="2D array"):
        get_active_learning_scores(np.zeros(80), p)
    with pytest.raises(ValueError, match="must be either a NumPy array or Pandas DataFrame"):
        get_active_learning_scores([[0.0, 1.0]] * 80, p)
    with pytest.raises(ValueError, match=r"pred_probs_unlabeled: wanted .*classes = 4, .*\(80, 3"):
        get_active_learning_scores(annotations(p), p, p[:, :3])
    with pytest.raises(ValueError, match=r"pred_probs_unlabeled: wanted \[rows, classes\], got"):
        get_active_learning_scores(pred_probs_unlabeled=p[0])
    with pytest.raises(ValueError, match="at least 2 classes"):
        get_active_learning_scores(pred_probs_unlabeled=np.ones((3, 1)))


def test_cleanlabs_scores_of_ensembles_write_to_the_arrays_of_the_caller():
    p = normal(probabilities(80))
    both = np.stack([p, normal(p**2)])
    before = both.copy()
    labels = annotations(p)
    multiannotator.get_active_learning_scores_ensemble(labels, both, both.copy())
    assert not np.array_equal(both, before)
    kept, pool = p.copy(), p.copy()
    for array in (kept, pool):
        array.flags.writeable = False
    get_active_learning_scores(labels, kept, pool)


@pytest.mark.parametrize("method", METHODS)
def test_label_quality_is_that_of_cleanlab(method):
    p = normal(probabilities(500))
    labels = np.random.default_rng(1).integers(0, 4, 500)
    want = rank.get_label_quality_scores(labels, p, method=method)
    found = get_label_quality_scores(labels, p, method=method)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want, rtol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_label_quality_is_that_of_its_definition_and_takes_logits_and_files(method, tmp_path):
    logits = 3 * np.random.default_rng(2).standard_normal((60, 5))
    labels = np.random.default_rng(3).integers(0, 5, 60)
    want = []
    for row, label in zip(logits.tolist(), labels, strict=True):
        total = math.fsum(map(math.exp, row))
        p = [math.exp(x) / total for x in row]
        z = -math.fsum(x * math.log(x) for x in p) / math.log(5) / p[label]
        others = max(p[:label] + p[label + 1 :])
        want.append(
            {
                "self_confidence": p[label],
                "normalized_margin": (p[label] - others + 1) / 2,
                "confidence_weighted_entropy": math.log(1 + z) / z,
            }[method]
        )
    found = get_label_quality_scores(labels, logits, method=method, kind="logits")
    np.testing.assert_allclose(found, want, rtol=2e-5)
    np.save(tmp_path / "logits.npy", logits)
    if method == "confidence_weighted_entropy":
        with pytest.raises(TypeError, match="wanted an array"):
            get_label_quality_scores(labels, str(tmp_path / "logits.npy"), method=method)
        return
    of_file = get_label_quality_scores(
        labels, tmp_path / "logits.npy", method=method, kind="logits"
    )
    np.testing.assert_array_equal(of_file, found)


def test_cleanlab_gives_a_certain_and_right_label_the_worst_score():
    """It divides by at least 1e-6, whatever the entropy."""
    p = np.array([[1.0, 0.0], [1.0, 0.0], [1 - 1e-9, 1e-9], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    own = rank.get_label_quality_scores(labels, p, method="confidence_weighted_entropy")
    assert own[0] == own[1] == 0 < own[2] < 0.1 < 0.5 < own[3]
    found = get_label_quality_scores(labels, p, method="confidence_weighted_entropy")
    assert found[1] == 0 < 0.5 < found[3] < 0.999 < found[2] <= found[0] == 1


def test_rows_without_a_label_have_nan():
    p = normal(probabilities(4))
    for method in METHODS:
        found = get_label_quality_scores([0, None, 2, 3], p, method=method)
        assert np.isnan(found).tolist() == [False, True, False, False]


def test_bad_arguments_of_label_quality_are_named():
    p = normal(probabilities(4))
    with pytest.raises(ValueError, match=r"method: wanted one of .* got 'margin'"):
        get_label_quality_scores([0, 1, 2, 3], p, method="margin")
    for method in METHODS:
        with pytest.raises(ValueError, match="label"):
            get_label_quality_scores([0, 1, 2, 4], p, method=method)
        with pytest.raises(fastal.InvalidRows):
            get_label_quality_scores([0, 1, 2, 3], np.log(p), method=method)


def points(n=300, width=6, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(dtype)


def distances_of(x, metric, dtype=np.float64):
    """All distances [N, N], inf to itself."""
    x = np.asarray(x, dtype)
    found = np.empty((len(x), len(x)), dtype)
    lengths = np.sqrt((x * x).sum(1))
    for row, one in enumerate(x):
        if metric == "cosine":
            found[row] = 1 - x @ one / (lengths * lengths[row])
        else:
            found[row] = np.sqrt(((x - one) ** 2).sum(1))
        found[row, row] = np.inf
    return found


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 7, 99])
@pytest.mark.parametrize("tile", [2048, 32, 3])
def test_neighbours_are_the_nearest_in_any_tiles(metric, k, tile, monkeypatch):
    monkeypatch.setattr(cleanlab, "_TILE", tile)
    x = points(100)
    graph = knn_graph(x, k, metric)
    full = distances_of(x, metric)
    order = full.argsort(1, kind="stable")[:, :k]
    assert graph.shape == (len(x), len(x))
    assert graph.indptr.tolist() == [*range(0, k * len(x) + 1, k)]
    assert graph.indices.reshape(-1, k).tolist() == order.tolist()
    want = np.take_along_axis(full, order, 1)
    np.testing.assert_allclose(graph.data.reshape(-1, k), want, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_graph_is_that_of_scikit_learn(metric, dtype):
    x = points(dtype=dtype)
    want = NearestNeighbors(n_neighbors=5, metric=metric).fit(x).kneighbors_graph(mode="distance")
    graph = knn_graph(x, 5, metric)
    assert graph.indices.tolist() == want.indices.tolist()
    np.testing.assert_allclose(graph.data, want.data, rtol=1e-4 if dtype is np.float32 else 1e-9)


def two_clusters():
    """Two clusters whose distance from each other is 1e8 times that of their rows."""
    line = 0.01 * np.arange(100)
    return np.concatenate((line, 1e8 + line))[:, None]


def with_an_outlier():
    x = np.random.default_rng(3).uniform(size=(501, 2))
    x[250] = 1e9
    return x


@pytest.mark.parametrize("make", [two_clusters, with_an_outlier])
@pytest.mark.parametrize("tile", [2048, 64])
def test_neighbours_are_right_where_some_rows_are_far(make, tile, monkeypatch):
    monkeypatch.setattr(cleanlab, "_TILE", tile)
    x = make()
    graph = knn_graph(x, 5, "euclidean")
    found, neighbours = graph.data.reshape(-1, 5), graph.indices.reshape(-1, 5)
    full = distances_of(x, "euclidean")
    np.testing.assert_allclose(found, np.sort(full, 1)[:, :5], rtol=1e-12)
    # Rows at equal steps have ties, so that distances are compared.
    np.testing.assert_allclose(found, np.take_along_axis(full, neighbours, 1), rtol=1e-12)
    # With algorithm="brute", scikit-learn multiplies differences out, and is wrong here.
    near = NearestNeighbors(n_neighbors=5, metric="euclidean", algorithm="kd_tree").fit(x)
    np.testing.assert_allclose(found, near.kneighbors()[0], rtol=1e-12)


def test_cosine_neighbours_are_right_down_to_directions_1e_7_apart():
    angles = np.r_[np.arange(100) ** 2 * 1e-7, 2 + np.arange(100) ** 2 * 1e-7]
    x = np.stack((np.cos(angles), np.sin(angles)), 1) * np.linspace(1, 1e9, 200)[:, None]
    found = knn_graph(x, 5, "cosine").data.reshape(-1, 5)
    apart = abs(angles - angles[:, None])
    np.fill_diagonal(apart, np.inf)
    want = 2 * np.sin(np.sort(apart, 1)[:, :5] / 2) ** 2
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_scores_pass_the_public_check_of_selections():
    def select(pool, k, exclude=()):
        left = np.setdiff1d(np.arange(len(pool)), exclude)
        with np.errstate(invalid="ignore"):
            p = np.exp(pool - pool.max(1, keepdims=True, initial=-np.inf), dtype=np.float64)
            _, scores = get_active_learning_scores(pred_probs_unlabeled=normal(p[left]))
        return left[scores.argsort(kind="stable")[:k]], None

    check_select(select, by="least_confidence")


@pytest.mark.parametrize(("width", "metric"), [(2, "euclidean"), (3, "euclidean"), (4, "cosine")])
def test_the_default_metric_is_that_of_cleanlab(width, metric):
    x = points(width=width)
    graph = knn_graph(x)
    want, _ = create_knn_graph_and_index(x, n_neighbors=10)
    assert graph.nnz == 10 * len(x)
    assert graph.indices.tolist() == want.indices.tolist()
    assert graph.data.tolist() == knn_graph(x, 10, metric).data.tolist()
    np.testing.assert_allclose(graph.data, want.data, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_rows_have_a_stored_distance_of_zero(metric):
    x = points(50)
    x[40:] = x[:10]
    graph = knn_graph(x, 3, metric)
    rows = np.r_[0:10, 40:50]
    assert graph.nnz == 150
    assert graph.data.reshape(50, 3)[rows, 0].tolist() == [0.0] * 20
    assert graph.indices.reshape(50, 3)[rows, 0].tolist() == [*range(40, 50), *range(10)]
    many = knn_graph(np.repeat(x[:2], 20, axis=0), 5, metric)
    assert (many.data == 0).all()
    assert (many.indices.reshape(40, 5) // 20 == np.arange(40)[:, None] // 20).all()
    assert (many.indices.reshape(40, 5) != np.arange(40)[:, None]).all()


def test_rows_of_zeros_are_at_one_from_all_but_each_other():
    x = points(20)
    x[[3, 8]] = 0
    graph = knn_graph(x, 19, "cosine").toarray()
    assert graph[3, 8] == graph[8, 3] == 0
    others = np.delete(np.arange(20), [3, 8])
    np.testing.assert_allclose(graph[3, others], 1, rtol=1e-15)
    np.testing.assert_allclose(graph[others, 8], 1, rtol=1e-15)


def test_distances_are_exact_far_from_the_origin_and_near_each_other():
    """Products alone would lose them: |x|^2 is 1e12 here, and squared distances are 1e-6."""
    x = 1e6 + 1e-3 * points(100, 3)
    full = distances_of(x, "euclidean")
    graph = knn_graph(x, 5, "euclidean")
    want = full.argsort(1, kind="stable")[:, :5]
    assert graph.indices.reshape(-1, 5).tolist() == want.tolist()
    np.testing.assert_allclose(graph.data.reshape(-1, 5), np.sort(full, 1)[:, :5], rtol=1e-5)
    naive = (x * x).sum(1) - 2 * x @ x.T
    np.fill_diagonal(naive, np.inf)
    assert naive.argsort(1)[:, :5].tolist() != want.tolist()

    x = points(100)
    x[50:] = x[:50] + 1e-6 * points(50, seed=1)
    graph, naive = knn_graph(x, 1, "cosine").data, distances_of(x, "cosine").min(1)
    exact = distances_of(x, "cosine", np.longdouble).min(1)
    np.testing.assert_allclose(graph, exact.astype(float), rtol=1e-5)
    assert (abs(naive - exact) > 1e-5 * exact).any()

    tiny, huge = 1e-160 * points(30), 1e140 * points(30)
    same = knn_graph(points(30), 4, "cosine").indices.tolist()
    assert knn_graph(tiny, 4, "cosine").indices.tolist() == same
    assert knn_graph(huge, 4, "cosine").indices.tolist() == same


def test_features_are_mapped_files_tensors_lists_or_integers(tmp_path):
    x = (100 * points(80)).round()
    want = knn_graph(x, 4)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for same in (mapped, torch.from_numpy(x), x.tolist(), x.astype(np.int16), pd.DataFrame(x)):
        found = knn_graph(same, 4)
        assert found.indices.tolist() == want.indices.tolist()
        np.testing.assert_allclose(found.data, want.data, rtol=1e-12)


def issues(types, **given):
    lab = Datalab({"x": [*range(200)]}, verbosity=0)
    lab.find_issues(issue_types={name: {} for name in types}, **given)
    return lab.get_issues()


@pytest.mark.full
@pytest.mark.parametrize("width", [2, 8])
def test_datalab_finds_the_same_issues_from_the_graph_as_from_the_features(width):
    x = points(200, width)
    x[199] = 40
    types = ["outlier", "near_duplicate", "non_iid"]
    for _ in range(2):
        want = issues(types, features=x)
        found = issues(types, knn_graph=knn_graph(x))
        assert found.columns.tolist() == want.columns.tolist()
        for column in want.columns:
            np.testing.assert_allclose(found[column], want[column], rtol=1e-6, atol=1e-9)
        # Of equal rows, any are neighbours; the scores of "non_iid" depend on their numbers.
        x[150:160] = x[:10]
        types = ["outlier", "near_duplicate"]
    assert want["is_near_duplicate_issue"].sum() >= 20


def test_bad_arguments_of_the_graph_are_named():
    x = points(20)
    for features, error, message in [
        (x[0], ValueError, r"features: wanted \[rows, values\], got shape \(6,\)"),
        (x.astype(str), TypeError, "features: wanted real numbers, got <U"),
        (torch.zeros(4, 2, dtype=torch.complex64), TypeError, "wanted real numbers, got torch.c"),
        (np.where(np.eye(20, 6, -3), np.nan, x), ValueError, "features: row 3 has NaN"),
        (np.where(np.eye(20, 6, -3), np.inf, x), ValueError, "features: row 3 has NaN, or a value"),
        (np.where(np.eye(20, 6, -3), 1e200, x), ValueError, "row 3 .* a value beyond 1e.150"),
    ]:
        with pytest.raises(error, match=message):
            knn_graph(features, 2)
    for k in (0, 20):
        with pytest.raises(ValueError, match=f"k: wanted 1 to 19, the rows less one, got {k}"):
            knn_graph(x, k)
    with pytest.raises(TypeError, match=r"k: wanted an integer, got 2\.5"):
        knn_graph(x, 2.5)
    with pytest.raises(ValueError, match="metric: wanted 'cosine', 'euclidean' or None, got 'l1'"):
        knn_graph(x, 2, "l1")


@pytest.mark.full
def test_the_examples_of_the_page_run():
    names = {}
    for block in page_code("cleanlab"):
        exec(block, names)
    assert len(page_code("cleanlab")) > 2


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(cleanlab, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 10
    assert found.failed == 0
