"""Selection reads a row a second time only if a bound of its score reaches the threshold.

Whatever is skipped, the rows found, their scores and the counts are those of scoring every row.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal_kernels import native
from tests.support.checkout import ROOT
from tests.support.matrices import DTYPES

pytestmark = pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")

# Two classes; the ends of the paths; parts of vectors; several vectors in each set of lanes.
CLASSES = [2, 3, 10, 16, 17, 40, 63, 64, 65, 100, 255, 256, 257, 300, 513, 1000, 1025, 3000]
KINDS = ["noise", "confident", "flat", "masked", "rounded", "huge", "bad"]


def predictions(kind, n_rows, n_classes, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, n_classes, generator=generator, dtype=torch.float64)
    rows = torch.arange(n_rows)
    right = torch.randint(n_classes, (n_rows,), generator=generator)
    spread = torch.randn(n_rows, generator=generator, dtype=torch.float64)
    if kind in ("confident", "bad", "masked"):
        x[rows, right] = 6 + 3 * spread
    if kind == "flat":  # the bound is exact: all losers are equal
        x = torch.zeros_like(x)
        x[rows, right] = spread.abs() * 3
    if kind == "masked":
        x[x < 0] = -torch.inf
        x[rows, right] = 1.0
    if kind == "rounded":
        x = x.round()
    if kind == "huge":
        x *= 1e4
    if kind == "bad":
        cells = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=torch.float64)
        some = rows[torch.rand(n_rows, generator=generator) < 0.1]
        x[some, right[some]] = cells[some % 3]
        x[some[some % 6 == 5]] = -torch.inf
    return x.to(dtype)


def check(x, by, kind, threshold, temperature=1.0, first_row=0):
    """What the selection returns is what comparing all scores returns."""
    (scores,), want_invalid = native.scores_and_invalid(x, [by], kind, temperature)
    score, row = threshold
    numbers = first_row + torch.arange(len(x))
    keep = (scores > score) | ((scores == score) & (numbers < row))
    want_tied = int(((scores == score) & (numbers >= row)).sum())
    found, rows, n_invalid, lost = native.scores_above_threshold(
        x, by, kind, first_row, threshold, temperature
    )
    order = rows.argsort()
    assert torch.equal(rows[order], numbers[keep])
    assert torch.equal(found[order].view(torch.int32), scores[keep].view(torch.int32))
    assert n_invalid == want_invalid
    assert lost == ((score, want_tied) if want_tied else (-np.inf, 0))


def threshold_of(x, by, kind, temperature, place, ulps):
    """The score of the row at a share of the order, a few units in the last place away."""
    (scores,), _ = native.scores_and_invalid(x, [by], kind, temperature)
    ranked = np.sort(scores[~scores.isnan()].numpy())
    if not len(ranked):
        return 0.5
    found = ranked[min(int(place * len(ranked)), len(ranked) - 1)]
    for _ in range(abs(ulps)):
        found = np.nextafter(found, np.float32(ulps * np.inf))
    return float(found)


def check_best(x, by, kind, k, threshold=None, temperature=1.0, first_row=0):
    """A selection of k rows finds the k best by all scores, and counts the rows that tie with the
    last of them."""
    (scores,), want_invalid = native.scores_and_invalid(x, [by], kind, temperature)
    scores, numbers = scores.numpy(), first_row + np.arange(len(x))
    score, row = (-np.inf, 0) if threshold is None else threshold
    kept = np.flatnonzero((scores > score) | ((scores == score) & (numbers < row)))
    want = kept[np.lexsort((kept, -scores[kept]))][:k]
    found, rows, n_invalid, lost = native.scores_above_threshold(
        x, by, kind, first_row, threshold, temperature, k
    )
    places, found = rows.numpy() - first_row, found.numpy()
    assert n_invalid == want_invalid
    assert len(np.unique(places)) == len(places)
    assert np.isin(places, kept).all()
    assert found.tobytes() == scores[places].tobytes()
    assert places[np.lexsort((places, -found))][:k].tolist() == want.tolist()
    last = scores[want[-1]] if len(want) == k else np.float32(score)
    assert lost[0] <= last
    n_lost = lost[1] if lost[0] == last else 0
    assert (found == last).sum() + n_lost == (scores == last).sum()


def drawn_predictions(data, dtypes):
    """Rows of any type and layout, what they hold, and a temperature."""
    kind = data.draw(st.sampled_from(["logits", "logits", "log_probs", "probs"]))
    n_classes = data.draw(st.sampled_from(CLASSES))
    n_rows = data.draw(st.integers(1, 600 if n_classes < 300 else 90))
    dtype = data.draw(st.sampled_from(dtypes))
    x = predictions(
        data.draw(st.sampled_from(KINDS)), n_rows, n_classes, dtype, data.draw(st.integers(0, 99))
    )
    if kind != "logits":
        x = torch.softmax(x.double(), 1)
        x = (x if kind == "probs" else x.log()).to(dtype)
    layout = data.draw(st.sampled_from(["rows", "rows", "rows apart", "columns"]))
    if layout == "rows apart":
        x = torch.cat([x, x[:, :1]], 1)[:, :n_classes]
    if layout == "columns":
        x = x.t().contiguous().t()
    temperature = data.draw(st.sampled_from([1.0, 1.0, 0.3, 7.5, 1e-6, 1e6]))
    return x, kind, 1.0 if kind == "probs" else temperature


@settings(deadline=None, max_examples=300, report_multiple_bugs=False)
@given(data=st.data())
def check_any_selection(data, variants, dtypes):
    x, kind, temperature = drawn_predictions(data, dtypes)
    by = data.draw(st.sampled_from(UNCERTAINTY_SCORES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, data.draw(st.sampled_from(variants)))
        place = data.draw(st.sampled_from([0.0, 0.5, 0.9, 0.97, 0.99, 1.0]))
        score = threshold_of(x, by, kind, temperature, place, data.draw(st.integers(-1, 1)))
        row = data.draw(st.integers(-1, len(x)))
        check(x, by, kind, (score, 50 + row), temperature, first_row=50)


@settings(deadline=None, max_examples=300, report_multiple_bugs=False)
@given(data=st.data())
def check_any_best(data, variants):
    """Thresholds that rise often, in any number of threads."""
    x, kind, temperature = drawn_predictions(data, DTYPES)
    by = data.draw(st.sampled_from(UNCERTAINTY_SCORES))
    x = x[torch.arange(len(x)) % data.draw(st.sampled_from([1, 3, len(x)]))]  # rows that tie
    k = data.draw(st.integers(1, len(x) + 2))
    threshold = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, data.draw(st.sampled_from(variants)))
        patch.setattr(native, "_LEAST_PASSED", data.draw(st.sampled_from([1, 20, 256])))
        if data.draw(st.booleans()):
            score = threshold_of(x, by, kind, temperature, data.draw(st.floats(0, 1)), 0)
            threshold = score, 50 + data.draw(st.integers(-1, len(x)))
        check_best(x, by, kind, k, threshold, temperature, first_row=50)


def test_any_best_are_those_of_all_scores():
    check_any_best(variants=native.variants())


def test_any_selection_is_that_of_all_scores():
    check_any_selection(variants=native.variants(), dtypes=DTYPES)


@pytest.mark.parametrize("variant", native.variants())
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_number_of_classes(variant, dtype, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, variant)
    for n_classes in [*range(2, 300, 7), *CLASSES, 12_345, 70_000, 140_000]:
        x = predictions("confident", 40 if n_classes > 300 else 300, n_classes, dtype, n_classes)
        for by in UNCERTAINTY_SCORES:
            for place in (0.8, 0.98):
                check(x, by, "logits", (threshold_of(x, by, "logits", 1.0, place, 0), 7))


@pytest.mark.parametrize("variant", native.variants())
@pytest.mark.parametrize("n_classes", [2, 10, 33, 64, 65, 100, 256, 257, 1000, 5000])
def test_rows_that_are_skipped_are_counted_if_they_are_invalid(variant, n_classes, monkeypatch):
    """One value that is not finite, in every column, beside a class far above the others."""
    monkeypatch.setenv(native.VARIABLE, variant)
    columns = torch.arange(1, n_classes, 1 if n_classes < 300 else 31)
    for dtype in DTYPES:
        for value, is_invalid in ((torch.nan, 1), (torch.inf, 1), (-torch.inf, 0)):
            x = torch.zeros(len(columns), n_classes, dtype=dtype)
            x[:, 0] = 60
            x[torch.arange(len(columns)), columns] = value
            found = native.scores_above_threshold(x, "margin", "logits", 0, (0.5, 0))
            assert found[2:] == (is_invalid * len(x), (-np.inf, 0))
    x = torch.full((5, n_classes), -torch.inf)
    assert native.scores_above_threshold(x, "entropy", "logits", 0, (0.5, 0))[2] == 5


@pytest.mark.parametrize("n_classes", [2, 10, 65, 300])
def test_picks_do_not_depend_on_surveys_that_pause(n_classes):
    """Rows that all pass, then rows that none pass, and the other way round, in any threads."""
    n = 20_000
    close = torch.zeros(n, n_classes)
    close[:, 0] = torch.linspace(0, 1e-3, n)
    far = close.clone()
    far[:, 0] += 9
    for x in (torch.cat([close, far, close]), torch.cat([far, close, far])):
        for by in UNCERTAINTY_SCORES:
            score = threshold_of(x, by, "logits", 1.0, 0.6, 0)
            check(x, by, "logits", (score, n))


@pytest.mark.parametrize("variant", native.variants())
@pytest.mark.parametrize("order", ["as it comes", "ascending", "descending", "equal"])
@pytest.mark.parametrize("k", [1, 30, 1000, 20_000, 39_999, 40_000, 40_001])
def test_threads_share_the_best_rows(variant, order, k, monkeypatch):
    """Many claims, by more threads than there are cores."""
    monkeypatch.setenv(native.VARIABLE, variant)
    monkeypatch.setattr(native, "LEAST_SHARE", 1)
    x = predictions("bad", 40_000, 10, torch.float32, 3)
    if order == "equal":
        x[:] = 1.0
    elif order != "as it comes":
        (scores,) = native.uncertainty(x, ["margin"])
        x = x[scores.argsort(descending=order == "descending")]
    x[7::50] = x[7]
    for n_threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        check_best(x, "margin", "logits", k)
    check_best(x, "entropy", "logits", k)


@pytest.mark.parametrize("by", UNCERTAINTY_SCORES)
@pytest.mark.parametrize("variant", native.variants())
def test_no_score_is_negative(by, variant, monkeypatch):
    """The keys of the best rows rely on it. The sign of -0 counts, too."""
    monkeypatch.setenv(native.VARIABLE, variant)
    for n_classes in (2, 3, 10, 65, 300):
        x = predictions("masked", 2000, n_classes, torch.float32, 1)
        gaps = torch.linspace(0, 200, 2000)[:, None] * torch.arange(n_classes)
        for logits in (x, -gaps, 1e-4 * gaps, torch.where(gaps > 0, -torch.inf, 0.0)):
            for kind in ("logits", "probs"):
                rows = logits if kind == "logits" else torch.softmax(logits, 1)
                (scores,) = native.uncertainty(rows, [by], kind)
                assert not scores[~scores.isnan()].signbit().any()


def with_changed(change):
    """The C code with other arguments of a selection: (threshold_row, k) -> the same."""
    work = native._native.work

    def changed(*given):
        *before, threshold_row, rows, found, k, n_keys, keys, n_threads, progress = given
        threshold_row, k = change(threshold_row, k)
        return work(*before, threshold_row, rows, found, k, n_keys, keys, n_threads, progress)

    return type("", (), {"work": staticmethod(changed), "variants": native._native.variants})


def test_a_threshold_that_is_a_row_too_high_is_caught(monkeypatch):
    wrong = with_changed(lambda row, k: (row, k - 1 if k > 1 else k))
    monkeypatch.setattr(native, "_native", wrong)
    with pytest.raises(AssertionError):
        check_any_best(variants=native.variants())


def test_a_later_row_that_ties_is_caught_if_it_passes(monkeypatch):
    monkeypatch.setattr(native, "_native", with_changed(lambda row, k: (row + 1, k)))
    with pytest.raises(AssertionError):
        check_any_best(variants=native.variants())


@pytest.fixture(scope="module")
def with_low_bounds(tmp_path_factory):
    """The C code with bounds that allow for no rounding, and are too low by a bit."""
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("no compiler")
    folder = tmp_path_factory.mktemp("low_bounds")
    flags = "-O1 -DSCORE_SLACK=0.0 -DBOUND_SLACK=-0x1p-23"
    build = [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", folder / "objects"]
    subprocess.run(
        [*build, "--build-lib", folder], cwd=ROOT, env={**os.environ, "CFLAGS": flags}, check=True
    )
    (built,) = Path(folder).glob("fastal_kernels/native/_native*.so")
    spec = importlib.util.spec_from_file_location("_native", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("variant", native.variants())
def test_bounds_that_are_too_low_are_caught(variant, with_low_bounds, monkeypatch):
    monkeypatch.setattr(native, "_native", with_low_bounds)
    with pytest.raises(AssertionError):
        check_any_selection(variants=[variant], dtypes=(torch.float32,))
