"""Temperature scaling, against mpmath and the definitions of the paper row by row."""

import logging
import math

import mpmath
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import InvalidRows
from fastal.base.row_filter import row_filter_of
from fastal.labelled.loss_sums import calibration_error_of, loss_sums
from fastal.labelled.temperature_search import TemperatureSearch
from tests.support.oracle import as_numpy

# Of the temperature, as documented. The bracket ends at a relative 2^-21, which is 4.8e-7.
RELATIVE = 1e-6
# Of the loss: a few dozen roundings of 2^-53 in each row, and none in the mean.
OF_LOSS = 1e-14


def sample(n=60, c=4, temperature=1.0, seed=0):
    """Logits [n, c] float64, and labels that softmax(logits / temperature) draws."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, c))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    y = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, c - 1)
    return z * temperature, y


def slope(logits, labels, beta):
    """The derivative of the mean loss by beta, to any digit."""
    total = mpmath.mpf(0)
    for row, label in zip(as_numpy(logits).astype(float), labels, strict=True):
        values = [mpmath.mpf(v) for v in row.tolist() if v > -math.inf]
        e = [mpmath.exp(beta * (v - max(values))) for v in values]
        mean = mpmath.fdot(e, values) / mpmath.fsum(e)
        total += mean - mpmath.mpf(float(row[label]))
    return total / len(labels)


def best_temperature(logits, labels, slope=slope):
    """By bisection of the logarithm of beta until 2^-40, in 40 digits."""
    with mpmath.workdps(40):
        low, high = mpmath.mpf(1), mpmath.mpf(1)
        while slope(logits, labels, low) >= 0:
            low /= 16
        while slope(logits, labels, high) < 0:
            high *= 16
        while high / low > 1 + mpmath.mpf(2) ** -40:
            middle = mpmath.sqrt(low * high)
            low, high = (low, middle) if slope(logits, labels, middle) >= 0 else (middle, high)
        return float(1 / low)


def mean_loss(logits, labels, temperature):
    with mpmath.workdps(40):
        total = mpmath.mpf(0)
        for row, label in zip(as_numpy(logits).astype(float), labels, strict=True):
            t = [mpmath.mpf(v) / temperature for v in row.tolist() if v > -math.inf]
            total += mpmath.log(mpmath.fsum(map(mpmath.exp, t)))
            total -= mpmath.mpf(float(row[label])) / temperature
        return float(total / len(labels))


def calibration_error(logits, labels, temperature, n_bins=15):
    """The sum of the paper, bin by bin."""
    t = as_numpy(logits).astype(float) / temperature
    p = np.exp(t - t.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    confidence, is_right = p.max(1), p.argmax(1) == labels
    error = 0.0
    for m in range(1, n_bins + 1):
        within = (confidence > (m - 1) / n_bins) & (confidence <= m / n_bins)
        if within.any():
            gap = abs(is_right[within].mean() - confidence[within].mean())
            error += within.sum() / len(t) * gap
    return error


def assert_best(fit, logits, labels):
    want = best_temperature(logits, labels)
    assert fit.temperature == pytest.approx(want, rel=RELATIVE)
    assert fit.loss_before == pytest.approx(mean_loss(logits, labels, 1), rel=OF_LOSS)
    after = mean_loss(logits, labels, fit.temperature)
    assert fit.loss_after == pytest.approx(after, rel=OF_LOSS)
    assert fit.n_rows == len(labels)
    assert float(fit) == fit.temperature


# --- the minimum


@pytest.mark.parametrize("temperature", [1.0, 0.02, 0.7, 3.5, 40.0, 1000.0])
def test_the_temperature_is_that_of_the_least_loss(temperature):
    logits, labels = sample(temperature=temperature)
    fit = fastal.fit_temperature(logits, labels)
    assert_best(fit, logits, labels)
    for when, t in (("before", 1), ("after", fit.temperature)):
        want = calibration_error(logits, labels, t)
        # Rounding of 60 confidences, none of which is at an edge.
        found = getattr(fit, f"calibration_error_{when}")
        assert found == pytest.approx(want, abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("c", [2, 33])
def test_every_dtype_is_fitted_as_it_is_stored(dtype, c):
    logits, labels = sample(n=16, c=c, temperature=2.5, seed=1)
    x = torch.from_numpy(logits).to(dtype)
    assert_best(fastal.fit_temperature(x, labels), x, labels)


def test_log_probabilities_have_the_temperature_of_the_logits():
    logits, labels = sample(temperature=2)
    log_probs = torch.from_numpy(logits).log_softmax(1)
    fit = fastal.fit_temperature(log_probs, labels, kind="log_probs")
    assert_best(fit, log_probs, labels)
    other = fastal.fit_temperature(logits, labels)
    assert fit.temperature == pytest.approx(other.temperature, rel=RELATIVE)


def slope_of_mean_probability(logits, labels, beta):
    """The derivative by beta of minus the mean probability of the labels, by differences."""
    step = mpmath.mpf(2) ** -30

    def cost(beta):
        e = np.array([mpmath.exp(beta * mpmath.mpf(v)) for v in logits.ravel().tolist()], object)
        e = e.reshape(logits.shape)
        return -sum(e[range(len(labels)), labels] / e.sum(1))

    return cost(beta + step) - cost(beta - step)


def test_other_objectives_would_be_caught():
    logits, labels = sample(n=30, temperature=2)
    fit = fastal.fit_temperature(logits, labels)
    of_probability = best_temperature(logits, labels, slope_of_mean_probability)
    of_rounded_logits = best_temperature(logits.astype(np.float16), labels)
    for wrong in (of_probability, of_rounded_logits, 1 / fit.temperature):
        assert fit.temperature != pytest.approx(wrong, rel=10 * RELATIVE)


@pytest.fixture
def passes(monkeypatch):
    """A list that gets the number of trial temperatures of each pass."""
    found, next_pass = [], TemperatureSearch.next_pass

    def counted(self):
        found.append(len(self._betas))
        return next_pass(self)

    monkeypatch.setattr(TemperatureSearch, "next_pass", counted)
    return found


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_logits_of_any_magnitude_are_fitted_in_the_passes_promised(passes, scale):
    logits, labels = sample()
    fit = fastal.fit_temperature(logits * scale, labels)
    assert 3 < len(passes) <= TemperatureSearch.max_passes
    want = fastal.fit_temperature(logits, labels)
    assert fit.temperature == pytest.approx(want.temperature * scale, rel=2 * RELATIVE)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.5, 7.0])
def test_usual_pools_are_read_three_times(passes, temperature):
    logits, labels = sample(n=1000, c=10, temperature=temperature)
    fastal.fit_temperature(logits, labels)
    assert len(passes) == 3


def test_a_class_that_is_ruled_out_counts_for_nothing():
    logits, labels = sample()
    plain = fastal.fit_temperature(logits, labels)
    for out in (-math.inf, -1e300):
        ruled_out = np.column_stack([logits, np.full(len(logits), out)])
        fit = fastal.fit_temperature(ruled_out, labels)
        assert fit == plain


def test_finite_masks_of_float32_count_for_nothing():
    logits, labels = sample()
    x = logits.astype(np.float32)
    masked = np.column_stack([x, np.full(len(x), np.finfo(np.float32).min)])
    assert fastal.fit_temperature(masked, labels) == fastal.fit_temperature(x, labels)


def test_nearly_separable_rows_are_fitted():
    logits = np.array([[3.0, 0.0]] * 2000 + [[1e-3, 0.0]])
    labels = np.array([0] * 2000 + [1])
    fit = fastal.fit_temperature(logits, labels)
    # By hand: 2000 · 3 / (1 + e^(3 beta)) = 1e-3 · e^(1e-3 beta) / (1 + e^(1e-3 beta)).
    beta = mpmath.findroot(
        lambda b: 6000 / (1 + mpmath.exp(3 * b)) - 1e-3 / (1 + mpmath.exp(-1e-3 * b)), 5.4
    )
    assert fit.temperature == pytest.approx(float(1 / beta), rel=RELATIVE)


@pytest.mark.parametrize("as_labels", [list, np.uint8, torch.from_numpy, tuple])
def test_labels_may_be_arrays_of_integers_and_lists(as_labels):
    logits, labels = sample()
    want = fastal.fit_temperature(logits, labels)
    assert fastal.fit_temperature(logits, as_labels(labels)) == want


def test_the_callers_array_is_not_changed():
    logits, labels = sample()
    copies = logits.copy(), labels.copy()
    fastal.fit_temperature(logits, labels)
    assert (logits == copies[0]).all()
    assert (labels == copies[1]).all()


# --- the calibration error


def measured(logits, labels):
    x = torch.from_numpy(np.array(logits, np.float64))
    labels = np.array(labels)
    totals = loss_sums(x, np.arange(len(x)), labels, [1.0])
    return calibration_error_of(totals, len(x))


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin():
    on_edge = [0.0, 0.0, 0.0]  # 1/3 is 5/15
    above, below = np.log([0.35, 0.325, 0.325]), np.log([0.33, 0.33, 0.33, 0.01])
    # Wrong with 1/3, right with 0.35: in one bin, the two gaps would cancel in part.
    assert measured([on_edge, above], [1, 0]) == pytest.approx((1 / 3 + 0.65) / 2, abs=1e-15)
    # Right with 0.33, which is in the bin of 1/3: there they do.
    three = np.array([*on_edge, -math.inf])
    assert measured([three, below], [1, 0]) == pytest.approx((0.67 - 1 / 3) / 2, abs=1e-15)


def test_ties_predict_the_first_class():
    assert measured([[0.0, 0.0]], [0]) == 0.5
    assert measured([[0.0, 0.0, -math.inf]], [1]) == 0.5
    assert measured([[0.0, 0.0], [0.0, 0.0]], [0, 1]) == 0


def test_another_number_of_bins_would_be_caught():
    logits, labels = sample()
    found = fastal.fit_temperature(logits, labels).calibration_error_before
    assert found != pytest.approx(calibration_error(logits, labels, 1, n_bins=10), abs=1e-6)


# --- chunks, merging, states


def chunks_of(x, cuts):
    places = np.cumsum(cuts)
    return np.split(x, places[places < len(x)])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 90), max_size=8), st.sampled_from([2, 3, 31, 40]),
    st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_no_chunks_change_a_bit(cuts, c, dtype):
    logits, labels = sample(n=300, c=c, temperature=1.7)
    x = logits.astype(dtype)
    whole = fastal.fit_temperature(x, labels)
    assert fastal.fit_temperature(chunks_of(x, cuts), labels) == whole
    assert fastal.fit_temperature(x, labels, chunk_bytes=400 + 50 * sum(cuts)) == whole


@settings(deadline=None)
@given(st.permutations(range(6)), st.integers(1, 5))
def test_no_order_and_no_merging_changes_a_bit(order, n_first):
    logits, labels = sample(n=300, c=5, temperature=1.7)
    whole = fastal.fit_temperature(logits, labels)
    searches = TemperatureSearch(), TemperatureSearch()
    for _ in range(TemperatureSearch.max_passes):
        for place, part in enumerate(order):
            rows = slice(50 * part, 50 * part + 50)
            search = searches[place >= n_first]
            search.update(logits[rows], rows.start, groups=labels[rows])
        merged, copy = TemperatureSearch(), TemperatureSearch()
        for search in (merged, copy):
            search.load_state_dict(searches[1].state_dict())
        merged.merge(searches[0])
        if not merged.next_pass():
            break
        for search in searches:
            search.load_state_dict({**merged.state_dict()})
    assert merged.result() == whole


@pytest.mark.parametrize("stop", [0, 1, 2, 5, 6, 7])
def test_a_saved_state_goes_on_to_the_same_result(stop):
    logits, labels = sample(n=300, c=5)
    whole = fastal.fit_temperature(logits, labels)
    search, step = TemperatureSearch(), 0
    while True:
        for rows in (slice(0, 100), slice(100, 300)):
            search.update(logits[rows], groups=labels[rows])
            if step == stop:
                restored = TemperatureSearch()
                restored.load_state_dict(search.state_dict())
                search = restored
            step += 1
        if not search.next_pass():
            break
    assert search.result() == whole
    restored = TemperatureSearch()
    restored.load_state_dict(search.state_dict())
    assert restored.result() == whole
    assert not restored.next_pass()


def test_a_search_that_is_not_done_has_no_result():
    search = TemperatureSearch()
    search.update(*sample()[:1], groups=sample()[1])
    with pytest.raises(ValueError, match=r"^result: the search is not done"):
        search.result()
    other = TemperatureSearch()
    other.update(*sample()[:1], groups=sample()[1])
    assert other.next_pass()
    with pytest.raises(ValueError, match=r"^merge: the other is in another pass"):
        search.merge(other)


def test_a_row_filter_leaves_rows_out():
    logits, labels = sample()
    logits[3] = np.nan
    search = TemperatureSearch()
    search.row_filter = row_filter_of([3, 4], None)
    while True:
        search.update(logits, 0, groups=labels)
        if not search.next_pass():
            break
    kept = np.delete(np.arange(60), [3, 4])
    assert search.result() == fastal.fit_temperature(logits[kept], labels[kept])


# --- which rows count


def test_rows_without_a_label_are_left_out_and_counted():
    logits, labels = sample()
    some = [None if i % 3 == 0 else int(label) for i, label in enumerate(labels)]
    labelled = np.arange(60) % 3 != 0
    logits[0] = np.nan  # it has no label, so it is not read
    want = fastal.fit_temperature(logits[labelled], labels[labelled])
    for given_labels in (some, np.array(some, object)):
        fit = fastal.fit_temperature(logits, given_labels)
        assert (fit.n_rows, fit.unlabelled, fit.invalid) == (40, 20, 0)
        assert fit.temperature == want.temperature
        assert fit.loss_before == want.loss_before


def test_invalid_rows_raise_or_are_counted():
    logits, labels = sample()
    logits[7, 1], logits[9, 0] = np.nan, np.inf
    with pytest.raises(InvalidRows, match=r"^row 7 has NaN") as raised:
        fastal.fit_temperature(logits, labels)
    assert raised.value.rows == [7, 9]
    fit = fastal.fit_temperature(logits, labels, on_invalid="skip")
    valid = np.delete(np.arange(60), [7, 9])
    want = fastal.fit_temperature(logits[valid], labels[valid])
    assert (fit.n_rows, fit.invalid) == (58, 2)
    assert (fit.temperature, fit.loss_after) == (want.temperature, want.loss_after)


def test_rows_that_are_always_right_have_no_temperature():
    logits, _ = sample()
    with pytest.raises(ValueError, match=r"^labels: .* falls as T falls to 0, .* the 60 labels"):
        fastal.fit_temperature(logits, logits.argmax(1))
    tied = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    with pytest.raises(ValueError, match="falls as T falls to 0"):
        fastal.fit_temperature(tied, [1, 1])


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], [0, 1]),
        ([[1.0, 0.0, 0.3], [1.0, 0.0, 0.3], [1.0, 0.0, 0.3]], [0, 1, 2]),
        ([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [1, 0, 1]),
        ([[5.0, 5.0], [0.0, 0.0]], [0, 1]),
    ],
    ids=["balanced", "balanced within rounding", "wrong", "equal values"],
)
def test_predictions_no_better_than_chance_have_no_temperature(logits, labels):
    with pytest.raises(ValueError, match=r"^labels: .*grows without end.* no better than chance"):
        fastal.fit_temperature(np.array(logits), labels)


def test_one_class_of_labels_is_fitted_with_a_warning(caplog):
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    fit = fastal.fit_temperature(logits, [0, 0, 0])
    assert_best(fit, logits, [0, 0, 0])
    assert caplog.messages == ["labels: all 3 labels are 0: the temperature suits this class alone"]
    caplog.clear()
    fastal.fit_temperature(np.tile(logits, (2, 1)), [0, 0, 0, 0, 0, 1])
    assert not caplog.messages


def test_no_labelled_rows_is_an_error():
    logits, _ = sample(n=3)
    with pytest.raises(ValueError, match=r"^labels: wanted at least one row with a label, got "):
        fastal.fit_temperature(logits, [None] * 3)
    logits[0] = np.nan
    with pytest.raises(ValueError, match=r"none: 2 rows without a label and 1 invalid rows$"):
        fastal.fit_temperature(logits, [1, None, None], on_invalid="skip")
    with pytest.raises(ValueError, match="at least one row with a label"):
        fastal.fit_temperature(logits[:0], [])


def with_label(value, row=5):
    labels = sample()[1].tolist()
    labels[row] = value
    return labels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (with_label(4), r"row 5 has label 4; wanted an integer from 0 to 3, .* 4 classes"),
        (with_label(-1), "row 5 has label -1"),
        (with_label("1"), "row 5 has label '1'"),
        (with_label(True), "row 5 has label True"),
        (with_label(1.0), r"row 5 has label 1\.0; wanted an integer"),
        (
            np.array(with_label(1), float),
            "got float64, .* None may be among integers",
        ),
        (with_label(1)[1:], "wanted 60 labels, one for each row, got 59"),
        (np.eye(4)[with_label(1)].astype(int), "one for each row; got int64, shape"),
        (None, "wanted a label or None for each row, got None"),
        (3, "wanted an array, a list or a file, got int"),
        ("labels.txt", "wanted a .parquet, .csv or .npy file of labels, got 'labels.txt'"),
        ("predicted", "wanted a .parquet, .csv or .npy file of labels, got 'predicted'"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, words):
    with pytest.raises((ValueError, TypeError), match=f"^labels: .*{words}"):
        fastal.fit_temperature(sample()[0], labels)


def test_a_label_that_is_ruled_out_is_named():
    logits, labels = sample()
    logits[[11, 12], labels[[11, 12]]] = -math.inf
    for chunk_bytes in (None, 200):
        with pytest.raises(ValueError, match=rf"^labels: row 11 has label {labels[11]}, .* -inf"):
            fastal.fit_temperature(logits, labels, chunk_bytes=chunk_bytes)


def test_arguments_are_checked():
    logits, labels = sample()
    for bad, words in (
        ({"kind": "probs"}, "^kind: .* got 'probs'; .* kind='log_probs'"),
        ({"kind": "scores"}, "^kind: wanted one of logits, log_probs, got 'scores'"),
        ({"on_invalid": "drop"}, "^on_invalid: wanted one of"),
        ({"chunk_bytes": 0}, "^chunk_bytes: wanted at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            fastal.fit_temperature(logits, labels, **bad)
    with pytest.raises(ValueError, match=r"^logits: wanted at least 2 classes"):
        fastal.fit_temperature(logits[:, :1], labels)
    with pytest.raises(TypeError, match=r"^logits: wanted float16"):
        fastal.fit_temperature(logits.astype(int), labels)


def test_probabilities_given_as_logits_are_found(caplog):
    logits, labels = sample()
    probs = torch.from_numpy(logits).softmax(1).numpy()
    fastal.fit_temperature(probs, labels)
    assert sum("as probabilities have" in message for message in caplog.messages) == 1


# --- pools


def test_pools_that_cannot_be_read_again_are_refused():
    logits, labels = sample()
    with pytest.raises(ValueError, match="a generator can be read once only"):
        fastal.fit_temperature((part for part in (logits[:30], logits[30:])), labels)


def test_files_have_the_temperature_of_the_array(tmp_path):
    logits, labels = sample(n=300)
    want = fastal.fit_temperature(logits, labels)
    np.save(tmp_path / "a.npy", logits[:100])
    np.save(tmp_path / "b.npy", logits[100:])
    np.save(tmp_path / "labels.npy", labels)
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    assert fastal.fit_temperature(files, labels) == want
    assert fastal.fit_temperature(files, tmp_path / "labels.npy", chunk_bytes=999) == want


def test_files_of_labels_are_matched_by_id_and_may_lack_labels(tmp_path):
    logits, labels = sample(n=300)
    order = np.random.default_rng(1).permutation(300)
    given_labels = [None if i < 50 else int(label) for i, label in enumerate(labels)]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), 4)
    own = pa.array(given_labels, pa.int64())
    pq.write_table(
        pa.table({"logits": vectors, "id": range(300), "label": own}), tmp_path / "x.parquet"
    )
    shuffled = pa.array([given_labels[i] for i in order], pa.int64())
    pq.write_table(pa.table({"id": order, "group": shuffled}), tmp_path / "y.parquet")
    want = fastal.fit_temperature(logits, given_labels)
    assert want.unlabelled == 50
    pool = fastal.open_pool(tmp_path / "x.parquet", column="logits", id_column="id")
    assert fastal.fit_temperature(pool, tmp_path / "y.parquet") == want
    pool = fastal.open_pool(tmp_path / "x.parquet", column="logits", group_column="label")
    assert fastal.fit_temperature(pool, None) == want


def test_progress_is_shown(capsys):
    logits, labels = sample()
    fastal.fit_temperature(logits, labels, progress=True)
    assert "passes of 60 rows" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same_bits():
    logits, labels = sample(n=300)
    on_gpu = torch.from_numpy(logits).cuda()
    assert fastal.fit_temperature(on_gpu, labels) == fastal.fit_temperature(logits, labels)


def test_nothing_is_logged_without_a_reason(caplog):
    caplog.set_level(logging.INFO)
    fastal.fit_temperature(*sample())
    assert not caplog.messages
