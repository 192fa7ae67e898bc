"""Label quality, against values that cleanlab computed and an oracle in NumPy."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import InvalidRows
from fastal.base.reducer import Mergeable
from fastal.labelled.confident_learning import ConfidentLearning
from fastal.ops.reference import given_classes
from fastal.pipeline import checkpoint
from tests.support.stopping import Stop, stopping

# Rounding to float32, and thresholds of scores that were rounded so.
RELATIVE = 1e-6

# Sixteen rows, and what cleanlab 2.7.0 computes of them with get_confident_thresholds,
# get_label_quality_scores and find_label_issues(filter_by="confident_learning",
# return_indices_ranked_by="normalized_margin").
PROBS = np.array(
    [
        [0.80, 0.10, 0.10], [0.60, 0.30, 0.10], [0.10, 0.85, 0.05], [0.15, 0.20, 0.65],
        [0.40, 0.35, 0.25], [0.05, 0.15, 0.80], [0.70, 0.20, 0.10], [0.35, 0.25, 0.40],
        [0.10, 0.45, 0.45], [0.48, 0.40, 0.12], [0.34, 0.33, 0.33], [0.30, 0.32, 0.38],
        [0.90, 0.05, 0.05], [0.20, 0.50, 0.30], [0.33, 0.37, 0.30], [0.50, 0.02, 0.48],
    ]
)  # fmt: skip
LABELS = np.array([0, 0, 1, 2, 1, 2, 2, 2, 1, 2, 1, 0, 1, 1, 0, 1])
THRESHOLDS = [0.5075, 0.36428571428571427, 0.414]
CONFIDENCE = [
    0.8, 0.6, 0.85, 0.65, 0.35, 0.8, 0.1, 0.4, 0.45, 0.12, 0.33, 0.3, 0.05, 0.5, 0.33, 0.02
]  # fmt: skip
MARGIN = [
    0.85, 0.65, 0.875, 0.725, 0.475, 0.825, 0.2, 0.525, 0.5, 0.32, 0.495, 0.46, 0.075, 0.6, 0.48,
    0.26,
]  # fmt: skip
ISSUES, SUGGESTED = [12, 6, 15, 9, 14], [0, 0, 2, 1, 1]


def test_the_values_are_those_of_cleanlab():
    quality = fastal.label_quality(PROBS, LABELS, kind="probs")
    assert quality.thresholds == pytest.approx(THRESHOLDS, rel=RELATIVE)
    assert quality.self_confidence == pytest.approx(CONFIDENCE, rel=RELATIVE)
    assert quality.normalized_margin == pytest.approx(MARGIN, rel=RELATIVE)
    assert quality.issues.tolist() == ISSUES
    assert quality.given.tolist() == LABELS[ISSUES].tolist()
    assert quality.suggested.tolist() == SUGGESTED


def sample(n=200, c=5, seed=0):
    """Logits [n, c] float32; labels, of which some are wrong; and which rows have a label."""
    rng = np.random.default_rng(seed)
    x = (2 * rng.standard_normal((n, c))).astype(np.float32)
    y = (x + rng.gumbel(size=x.shape)).argmax(1)
    flipped = rng.random(n) < 0.2
    y[flipped] = rng.integers(0, c, flipped.sum())
    return x, y, rng.random(n) < 0.9


def oracle(p, y):
    """Thresholds, and suggested classes of the issues by row: loops over rows in float64."""
    c = p.shape[1]
    thresholds = [p[y == k, k].mean() if (y == k).any() else np.nan for k in range(c)]
    suggested = {}
    for row, (of_row, label) in enumerate(zip(p, y, strict=True)):
        if label < 0:
            continue
        reached = [k for k in range(c) if of_row[k] >= thresholds[k] - 1e-6]
        best = int(of_row.argmax())
        found = best if len(reached) > 1 else reached[0] if reached else label
        if found != label and of_row[best] - of_row[label] > 1e-6:
            suggested[row] = found
    return thresholds, suggested


def softmax(x, temperature=1.0):
    x = x.astype(np.float64) / temperature
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("c", [2, 3, 5, 40])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_thresholds_and_issues_are_those_of_the_definition(c, temperature):
    x, y, is_labelled = sample(300, c, seed=c)
    labels = [int(label) if known else None for label, known in zip(y, is_labelled, strict=True)]
    quality = fastal.label_quality(x, labels, temperature=temperature)
    known = np.where(is_labelled, y, -1)
    thresholds, suggested = oracle(softmax(x, temperature), known)
    assert quality.thresholds == pytest.approx(thresholds, rel=RELATIVE, nan_ok=True)
    assert dict(zip(quality.issues, quality.suggested, strict=True)) == suggested
    assert quality.given.tolist() == y[quality.issues].tolist()
    worst = sorted(suggested, key=lambda row: (quality.normalized_margin[row], row))
    assert quality.issues.tolist() == worst
    assert quality.unlabelled == (~is_labelled).sum()
    assert (np.isnan(quality.self_confidence) == ~is_labelled).all()
    of_another, _ = oracle(softmax(x, temperature * 1.5), known)
    assert of_another != pytest.approx(thresholds, rel=RELATIVE, nan_ok=True)


def test_kinds_of_the_same_probabilities_agree():
    x, y, _ = sample()
    want = fastal.label_quality(x, y)
    for kind, rows in (("probs", softmax(x)), ("log_probs", np.log(softmax(x)))):
        found = fastal.label_quality(rows, y, kind=kind)
        assert found.issues.tolist() == want.issues.tolist()
        assert found.self_confidence == pytest.approx(want.self_confidence, rel=RELATIVE)


def same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


@given(cuts=st.lists(st.integers(1, 199), max_size=4), c=st.sampled_from([2, 5, 33]))
@settings(max_examples=15, deadline=None)
def test_no_cut_between_chunks_changes_a_bit(cuts, c):
    x, y, _ = sample(c=c)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(given_classes, "_BLOCK_BYTES", 8 * c * 16)
        whole = fastal.label_quality(x, y)
        assert same(fastal.label_quality(np.split(x, sorted(cuts)), y), whole)
        assert same(fastal.label_quality(x, y, chunk_bytes=800 + sum(cuts)), whole)


def test_a_saved_state_goes_on_in_either_pass():
    x, y, _ = sample()
    reducer = ConfidentLearning()
    assert not isinstance(reducer, Mergeable)
    while True:
        for start in range(0, 200, 70):
            other = ConfidentLearning()
            other.load_state_dict(reducer.state_dict())
            reducer = other
            reducer.update(x[start : start + 70], start, groups=y[start : start + 70])
        if not reducer.next_pass():
            break
    assert same(reducer.result(), fastal.label_quality(x, y))
    with pytest.raises(ValueError, match="load_state_dict"):
        ConfidentLearning(temperature=2).load_state_dict(reducer.state_dict())


def test_an_interrupted_run_resumes_to_the_same_result(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    x, y, _ = sample()
    np.save(tmp_path / "x.npy", x)
    options = {"chunk_bytes": 1000, "checkpoint": tmp_path / "state"}
    want = fastal.label_quality(tmp_path / "x.npy", y)
    with monkeypatch.context() as patch:
        stopping(patch, ConfidentLearning, 6)
        with pytest.raises(Stop):
            fastal.label_quality(tmp_path / "x.npy", y, **options)
    assert same(fastal.label_quality(tmp_path / "x.npy", y, resume=True, **options), want)


@pytest.mark.parametrize("as_pool", [np.asfortranarray, torch.from_numpy, lambda x: [x[:9], x[9:]]])
@pytest.mark.parametrize("as_labels", [list, np.uint8, torch.from_numpy, tuple])
def test_pools_and_labels_of_any_kind(as_pool, as_labels):
    x, y, _ = sample()
    assert same(fastal.label_quality(as_pool(x), as_labels(y)), fastal.label_quality(x, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float64(dtype):
    x, y, _ = sample()
    x = torch.from_numpy(x).to(dtype)
    assert same(fastal.label_quality(x, y), fastal.label_quality(x.double(), y))


def test_the_arrays_are_of_the_kind_of_the_pool():
    x, y, _ = sample()
    quality = fastal.label_quality(torch.from_numpy(x), y)
    for name in ("self_confidence", "normalized_margin", "issues", "given", "suggested"):
        assert isinstance(getattr(quality, name), torch.Tensor)
    assert isinstance(quality.thresholds, np.ndarray)


@pytest.mark.parametrize("suffix", ["npy", "csv", "parquet"])
def test_labels_of_files(tmp_path, suffix):
    x, y, is_labelled = sample()
    labels = [int(label) if known else None for label, known in zip(y, is_labelled, strict=True)]
    vectors = pa.array(x.tolist(), pa.list_(pa.float32(), 5))
    pq.write_table(pa.table({"logits": vectors, "id": range(200)}), tmp_path / "x.parquet")
    path, order = tmp_path / f"y.{suffix}", np.random.default_rng(1).permutation(200)
    if suffix == "npy":
        labels = y
        np.save(path, y)
    elif suffix == "csv":
        lines = [f"{row},{'' if labels[row] is None else labels[row]}" for row in order]
        path.write_text("\n".join(["row,label", *lines]) + "\n")
    else:
        shuffled = pa.array([labels[row] for row in order], pa.int64())
        pq.write_table(pa.table({"id": order, "label": shuffled}), path)
    pool = fastal.open_pool(tmp_path / "x.parquet", column="logits", id_column="id")
    assert same(fastal.label_quality(pool, path), fastal.label_quality(x, labels))


def test_a_pool_may_have_its_own_labels(tmp_path):
    x, y, _ = sample()
    vectors = pa.array(x.tolist(), pa.list_(pa.float32(), 5))
    pq.write_table(pa.table({"logits": vectors, "y": y}), tmp_path / "x.parquet")
    pool = fastal.open_pool(tmp_path / "x.parquet", column="logits", group_column="y")
    assert same(fastal.label_quality(pool, None), fastal.label_quality(x, y))
    with pytest.raises(ValueError, match=r"^labels: wanted a label for each row"):
        fastal.label_quality(fastal.open_pool(tmp_path / "x.parquet", column="logits"), None)


def test_invalid_rows_are_an_error_or_left_out(caplog):
    x, y, _ = sample()
    labels = [None, *y[1:].tolist()]
    x[0], x[7] = np.nan, np.inf
    with pytest.raises(InvalidRows, match=r"^row 7 has NaN"):
        fastal.label_quality(x, labels)
    quality = fastal.label_quality(x, labels, on_invalid="skip")
    assert (quality.invalid, quality.unlabelled) == (1, 1)
    assert caplog.messages == ["1 rows are invalid: left out", "1 rows have no label: left out"]
    kept = np.delete(np.arange(200), [0, 7])
    want = fastal.label_quality(x[kept], y[kept])
    assert kept[want.issues].tolist() == quality.issues.tolist()
    assert np.array_equal(want.thresholds, quality.thresholds)
    assert np.isnan(quality.self_confidence).nonzero()[0].tolist() == [0, 7]
    assert repr(quality).endswith("1 invalid, 1 without a label")


def test_a_class_without_rows_has_no_threshold():
    x, y, _ = sample()
    y[y == 4] = 0
    quality = fastal.label_quality(x, y)
    assert np.isnan(quality.thresholds).tolist() == [False] * 4 + [True]


def test_magnitudes_up_to_the_largest_and_ruled_out_classes():
    biggest = np.finfo(np.float32).max
    x = np.array([[biggest, -biggest], [-np.inf, 0.0], [1e30, 1e30]], np.float32)
    quality = fastal.label_quality(x, [0, 0, 1])
    assert quality.self_confidence.tolist() == [1.0, 0.0, 0.5]
    assert quality.normalized_margin.tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS + 1, "row 3 has label 3; wanted an integer from 0 to 2"),
        (LABELS - 1, "row 0 has label -1"),
        (LABELS.astype(str), "row 0 has label '0'; wanted an integer"),
        ([True, *LABELS[1:].tolist()], "row 0 has label True"),
        (LABELS == 1, "got bool, shape"),
        (LABELS.astype(np.float32), "got float32, .* None may be among integers"),
        (np.ma.masked_equal(LABELS, 1), "masked arrays are ambiguous"),
        (LABELS[1:], "wanted 16 labels, one for each row, got 15"),
        (LABELS[:, None], r"one for each row; got int64, shape \(16, 1\)"),
        ([None] * 16, "wanted a label for at least one valid row, got none"),
        (None, "wanted a label or None for each row, got None"),
        (iter(LABELS), "wanted an array, a list or a file, got"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, words):
    with pytest.raises((ValueError, TypeError), match=f"^labels: .*{words}"):
        fastal.label_quality(PROBS, labels, kind="probs")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "multilabel_logits"}, "^kind: wanted one of logits, probs, log_probs"),
        ({"temperature": 0}, "^temperature: wanted"),
        ({"kind": "probs", "temperature": 2}, "^temperature: it divides logits"),
        ({"on_invalid": "drop"}, "^on_invalid: wanted one of"),
        ({"backend": "triton"}, "^backend: 'triton' cannot be used"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        fastal.label_quality(np.log(PROBS), LABELS, **options)


def test_a_generator_is_refused_and_no_rows_are_no_labels():
    with pytest.raises(ValueError, match="a generator can be read once only"):
        fastal.label_quality((part for part in (PROBS[:9], PROBS[9:])), LABELS, kind="probs")
    with pytest.raises(ValueError, match="wanted a label for at least one valid row"):
        fastal.label_quality(PROBS[:0], [], kind="probs")
