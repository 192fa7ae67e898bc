"""Selector and select: the contract of selection over real scores, and what is refused."""

import copy
import pickle

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.testing import check_select, check_selector
from fastal_kernels import native


@pytest.fixture(scope="module", autouse=True, params=["as it is", "without the native kernels"])
def _installation(request):
    """Selection behind the scores, where they are compiled; and after them."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "as it is":
            patch.setattr(native, "_native", None)
            patch.setattr(native, "_MISSING", "not compiled", raising=False)
        yield


def logits(n_rows=500, n_classes=10, seed=0):
    # Rounded, so that some rows tie.
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_rows, n_classes)) * 2).round(1).astype(np.float32)


def picks_by_sorting(x, k, by, **options):
    scores = getattr(fastal.score(x, **options), by)
    order = np.lexsort((np.arange(len(x)), -np.asarray(scores)))[:k]
    return order, np.asarray(scores)[order]


@pytest.mark.parametrize("by", UNCERTAINTY_SCORES)
@pytest.mark.parametrize("k", [1, 20, 499, 500, 501, 10**15])
def test_select_is_sorting_and_taking(by, k):
    x = logits()
    picks = fastal.select(x, k, by)
    rows, scores = picks_by_sorting(x, k, by)
    np.testing.assert_array_equal(picks.rows, rows)
    np.testing.assert_array_equal(picks.scores, scores)
    assert picks.ids is None
    assert picks.invalid == 0


@pytest.mark.parametrize("by", UNCERTAINTY_SCORES)
@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
@pytest.mark.parametrize("ties", ["first", "random"])
def test_select_and_selector_pass_the_public_checks(by, on_invalid, ties):
    how = {"on_invalid": on_invalid, "ties": ties}
    wanted = {"by": by, "on_invalid": on_invalid, "ties": "first" if ties == "first" else "any"}

    def select(pool, k, exclude=None):
        return fastal.select(pool, k, by, exclude=exclude, **how)

    check_select(select, **wanted)
    check_selector(lambda k: fastal.Selector(k, by, **how), **wanted, n_rows=200)


@settings(deadline=None)
@given(
    data=st.data(), by=st.sampled_from(UNCERTAINTY_SCORES), n_classes=st.sampled_from([2, 10, 40])
)
def test_any_chunks_order_and_merging(data, by, n_classes):
    x = logits(200, n_classes)
    want = fastal.select(x, 17, by)
    cuts = sorted(data.draw(st.lists(st.integers(0, 200), max_size=6)))
    pieces = data.draw(st.permutations(list(zip([0, *cuts], [*cuts, 200], strict=True))))
    selectors = [fastal.Selector(17, by), fastal.Selector(17, by)]
    for start, stop in pieces:
        index = data.draw(st.integers(0, 1))
        selectors[index].update(x[start:stop], start)
        state = selectors[index].state_dict()
        selectors[index] = fastal.Selector(17, by)
        selectors[index].load_state_dict(state)
    selectors[0].merge(selectors[1])
    got = selectors[0].result()
    assert got.rows.tobytes() == want.rows.tobytes()
    assert got.scores.tobytes() == want.scores.tobytes()


def test_rows_follow_on_where_none_are_named():
    x = logits()
    selector = fastal.Selector(5, "margin")
    for start, stop in ((0, 100), (100, 100), (100, 350), (350, 500)):
        selector.update(x[start:stop])
    np.testing.assert_array_equal(selector.result().rows, fastal.select(x, 5, "margin").rows)


def test_result_may_be_asked_for_midway():
    x = logits()
    selector = fastal.Selector(5, "ratio")
    selector.update(x[:100])
    np.testing.assert_array_equal(selector.result().rows, fastal.select(x[:100], 5, "ratio").rows)
    selector.update(x[100:])
    np.testing.assert_array_equal(selector.result().rows, fastal.select(x, 5, "ratio").rows)


@pytest.mark.parametrize("empty", [np.empty((0, 5), np.float32), torch.empty(0, 5)])
def test_an_empty_pool(empty):
    picks = fastal.select(empty, 3)
    assert picks.rows.shape == (0,)
    assert type(picks.rows) is type(empty)
    assert fastal.Selector(3).result().rows.shape == (0,)


def test_state_is_plain():
    selector = fastal.Selector(3, "margin")
    selector.update(logits())
    plain = (str, int, list, dict, np.ndarray, type(None))
    values = [selector.state_dict()]
    for value in values:
        assert isinstance(value, plain)
        values.extend(value.values() if isinstance(value, dict) else [])


# --- callables


def test_a_callable_sees_tensors_and_gives_scores():
    x = logits()

    def spread(chunk):
        assert isinstance(chunk, torch.Tensor)
        return -chunk.std(1)

    picks = fastal.select(x, 4, spread)
    np.testing.assert_array_equal(picks.rows, np.argsort(x.std(1, ddof=1), kind="stable")[:4])


def test_a_callable_may_work_in_place(tmp_path):
    def by(chunk):
        chunk -= chunk.amax(1, keepdim=True)
        return chunk[:, 0]

    x = logits()
    np.save(tmp_path / "pool.npy", x)
    frozen = x.copy()
    frozen.flags.writeable = False
    want = np.argsort(-(x[:, 0] - x.max(1)), kind="stable")[:5].tolist()
    for pool in (x.copy(), frozen, torch.from_numpy(x.copy()), tmp_path / "pool.npy"):
        assert fastal.select(pool, 5, by).rows.tolist() == want
        if not isinstance(pool, type(tmp_path)):
            np.testing.assert_array_equal(np.asarray(pool), x)


def test_scores_made_elsewhere():
    scores = np.array([0.3, 0.9, 0.1, 0.9])
    assert fastal.select(scores, 3, lambda s: s).rows.tolist() == [1, 3, 0]
    assert fastal.select(scores, 2, lambda s: s.numpy()).rows.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        (lambda x: x, ValueError, r"by: the callable gave shape \(500, 10\)"),
        (lambda x: x[:1, 0], ValueError, "one score a row"),
        (lambda x: "high", TypeError, "by: the callable's result: wanted an array"),
        (lambda x: x[:, 0] * float("nan"), fastal.InvalidRows, "row 0 has score NaN"),
        (lambda x: x[:, 0] * 1j, TypeError, "gave torch.complex64, wanted real numbers"),
        (
            lambda x: fastal.score(x / 0).margin,
            ValueError,
            "by: the callable, of rows 0 to 499: row 0 has NaN",
        ),
    ],
)
def test_a_callable_that_gives_nonsense(result, error, words):
    with pytest.raises(error, match=words):
        fastal.select(logits(), 3, result)


# --- invalid rows


@pytest.fixture
def broken():
    x = logits()
    x[[3, 77, 401], 2] = np.nan, np.inf, np.nan
    x[9] = -np.inf
    return x


def test_skip_leaves_out_and_counts(broken):
    picks = fastal.select(broken, 500, "margin", on_invalid="skip")
    assert picks.invalid == 4
    assert len(picks.rows) == 496
    assert not {3, 9, 77, 401} & set(picks.rows.tolist())
    good = np.delete(np.arange(500), [3, 9, 77, 401])
    want = good[fastal.select(broken[good], 500, "margin").rows]
    np.testing.assert_array_equal(picks.rows, want)


def test_raise_names_rows_and_loses_nothing(broken):
    selector = fastal.Selector(5, "margin")
    selector.update(broken[10:70], 10)
    before = selector.state_dict()
    with pytest.raises(
        fastal.InvalidRows, match=r"row 77 has NaN, \+inf .* 2 such among rows 70"
    ) as e:
        selector.update(broken[70:])
    assert e.value.rows == [77, 401]
    after = selector.state_dict()
    assert after["scorer"] == before["scorer"]
    assert after["scorer"]["next_row"] == 70
    selector.update(np.nan_to_num(broken[70:], posinf=0))
    assert selector.state_dict()["scorer"]["next_row"] == 500


def test_merging_goes_on_after_the_last_row():
    x = logits()
    a, b = fastal.Selector(600), fastal.Selector(600)
    a.update(x[:20])
    b.update(x[20:40], 20)
    a.merge(b)
    a.update(x[40:])
    np.testing.assert_array_equal(a.result().rows, fastal.select(x, 600).rows)


def test_merge_adds_the_counts(broken):
    a, b = (fastal.Selector(5, on_invalid="skip") for _ in range(2))
    a.update(broken[:50], 0)
    b.update(broken[50:], 50)
    a.merge(b)
    assert a.result().invalid == 4


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"k": 0}, ValueError, "k: wanted at least 1, got 0"),
        ({"k": -3}, ValueError, "k: wanted at least 1, got -3"),
        ({"k": 2.0}, TypeError, "k: wanted an integer, got 2.0"),
        ({"k": True}, TypeError, "k: wanted an integer, got True"),
        ({"k": "5"}, TypeError, "k: wanted an integer, got '5'"),
        ({"by": "margins"}, ValueError, "by: wanted one of least_confidence.*got 'margins'"),
        ({"by": None}, ValueError, "by: wanted one of"),
        ({"by": ["margin"]}, ValueError, "by: wanted one of"),
        (
            {"kind": "logit"},
            ValueError,
            "kind: wanted one of logits, .*, multilabel_logits, multilabel_probs, got 'logit'",
        ),
        ({"on_invalid": "ignore"}, ValueError, "on_invalid: wanted one of raise, skip"),
        ({"backend": "cuda"}, ValueError, "backend: wanted one of auto, triton, native, torch"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        fastal.select(logits(), **{"k": 5, **arguments})


@pytest.mark.parametrize(
    ("pool", "error", "words"),
    [
        (np.zeros(5), ValueError, r"logits: wanted \[rows, classes\], got shape \(5,\)"),
        (np.zeros((5, 2, 2)), ValueError, r"wanted \[rows, classes\], got shape \(5, 2, 2\)"),
        (np.zeros((5, 1)), ValueError, r"wanted at least 2 classes, got shape \(5, 1\)"),
        (np.zeros((5, 0)), ValueError, r"hold no values|wanted at least 2 classes"),
        (
            np.zeros((5, 2), int),
            TypeError,
            "wanted float16, bfloat16, float32 or float64, got torch.int64",
        ),
        (np.zeros((5, 2), bool), TypeError, "got torch.bool"),
        (np.zeros((5, 2), complex), TypeError, "got torch.complex128"),
        (np.zeros((5, 2), np.longdouble), TypeError, "got dtype float128|got dtype longdouble"),
        (np.zeros((5, 2), object), TypeError, "got dtype object"),
        (np.full((5, 2), "a"), TypeError, "got dtype <U1"),
        (np.zeros(5, [("a", "f4")]), TypeError, "got dtype"),
        (np.ma.zeros((5, 2)), TypeError, "masked"),
        (np.float32(3), ValueError, "single number"),
        (torch.zeros(5, 2).to_sparse(), TypeError, "dense"),
        (torch.zeros(5, 2, device="meta"), TypeError, "dense tensor.*meta"),
        (None, TypeError, "pool: wanted an array, a path or an iterable, got NoneType"),
        (7, TypeError, "got int"),
        ([], ValueError, "pool: an empty list"),
        ([1.0, 2.0], TypeError, "pool: chunk 0 is a float"),
        (
            [np.zeros((2, 3)), np.zeros((2, 4))],
            ValueError,
            "rows from 2 on have 4 classes, the rows before them 3 classes",
        ),
    ],
)
def test_bad_pools(pool, error, words):
    with pytest.raises(error, match=words):
        fastal.select(pool, 1)


def test_score_refuses_the_same():
    with pytest.raises(ValueError, match="at least 2 classes"):
        fastal.score(np.zeros((3, 1)))
    with pytest.raises(TypeError, match=r"logits: wanted an array .* got str"):
        fastal.score("pool.npy")
    with pytest.raises(TypeError, match="probs: wanted an array"):
        fastal.score([[0.5, 0.5]], kind="probs")


def test_starts_are_plain_integers():
    selector = fastal.Selector(3)
    selector.update(logits(50), np.uint8(230))
    selector.update(logits(50))
    assert selector.state_dict()["scorer"]["next_row"] == 330
    assert type(selector.state_dict()["scorer"]["next_row"]) is int
    for start in (1.0, "3", [1]):
        with pytest.raises(TypeError, match="start: wanted a row number, got"):
            selector.update(logits(50), start)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, array_api_strict.asarray])
def test_row_numbers_are_arrays_of_any_library(kind):
    """A `DataLoader` gives tensors."""
    selector = fastal.Selector(2)
    selector.update(np.array([[9.0, 0.0], [0.1, 0.0]]), kind([3, 8]))
    assert selector.result().rows.tolist() == [8, 3]
    with pytest.raises(ValueError, match="start: wanted ascending row numbers from 0 on, got 2"):
        selector.update(np.zeros((2, 2)), kind([4, 2]))


@pytest.mark.parametrize("start", [-1, 2**63 - 1, 2**63])
def test_rows_beyond_int64(start):
    selector = fastal.Selector(1)
    with pytest.raises(ValueError, match="start: wanted a row number from 0 to"):
        selector.update(np.zeros((2, 3)), start)
    assert selector.result().rows.shape == (0,)


def test_only_other_selectors_merge():
    selector = fastal.Selector(3)
    selector.update(logits())
    for other in (selector, None, "x", selector.state_dict()):
        with pytest.raises(TypeError, match="merge: wanted another Selector"):
            selector.merge(other)


def test_a_broken_state_is_refused_and_changes_nothing():
    selector = fastal.Selector(3)
    selector.update(logits())
    want = selector.result()
    good = selector.state_dict()
    top = good["top"]
    for state, words in (
        ({}, "the state lacks 'class'"),
        ({**good, "top": {"k": 3}}, "lacks 'scores'"),
        ({**good, "scorer": {}}, "lacks 'row_shape'"),
        (
            {**good, "top": {**top, "scores": top["scores"][:1]}},
            "not one score, a number, for each",
        ),
        ({**good, "top": {**top, "scores": top["scores"] * np.nan}}, "not one score, a number"),
    ):
        with pytest.raises(ValueError, match=f"load_state_dict: .*{words}"):
            selector.load_state_dict(state)
        np.testing.assert_array_equal(selector.result().rows, want.rows)


def test_pickling_and_copying():
    for x in (logits(), torch.from_numpy(logits())):
        selector = fastal.Selector(3)
        selector.update(x)
        for twin in (pickle.loads(pickle.dumps(selector)), copy.deepcopy(selector)):
            assert type(twin.result().rows) is type(selector.result().rows)
            assert twin.result().rows.tolist() == selector.result().rows.tolist()


def test_lambdas_are_told_apart():
    one, other = fastal.Selector(3, lambda c: c[:, 0]), fastal.Selector(3, lambda c: -c[:, 0])
    with pytest.raises(ValueError, match="by is a different callable there"):
        one.merge(other)
    twin = fastal.Selector(3, one._scorer.measure)
    twin.update(logits())
    one.merge(twin)
    assert len(one.result().rows) == 3


def test_merging_brings_the_kind():
    one, other = fastal.Selector(3), fastal.Selector(3)
    other.update(torch.from_numpy(logits()))
    one.merge(other)
    assert isinstance(one.result().rows, torch.Tensor)


def test_an_error_travels_between_processes():
    broken = np.zeros((9, 3))
    broken[4:] = np.nan
    with pytest.raises(fastal.InvalidRows) as e:
        fastal.select(broken, 3)
    again = pickle.loads(pickle.dumps(e.value))
    assert str(again) == str(e.value)
    assert (again.rows, again.count, again.span) == ([4, 5, 6, 7, 8], 5, (0, 9))


def test_skipped_rows_are_counted_in_the_log(caplog):
    broken = np.zeros((9, 3))
    broken[4:6] = np.nan
    assert np.isnan(fastal.score(broken, on_invalid="skip").margin).sum() == 2
    assert "2 of 9 rows are invalid" in caplog.text


def test_only_equals_merge_and_restore():
    one = fastal.Selector(3, "margin")
    one.update(np.zeros((2, 5)))
    for other in (fastal.Selector(4, "margin"), fastal.Selector(3, "ratio"),
                  fastal.Selector(3, "margin", kind="log_probs")):  # fmt: skip
        with pytest.raises(ValueError, match=r"k=4|by=.*ratio|kind='log_probs'"):
            one.merge(other)
        with pytest.raises(ValueError, match=r"k=3|by=.*margin|kind='logits'"):
            other.load_state_dict(one.state_dict())
    wider = fastal.Selector(3, "margin")
    wider.update(np.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"row_shape=\[6\], this one row_shape=\[5\]"):
        one.merge(wider)
    assert one.result().rows.tolist() == [0, 1]
