"""Quotas: what a greedy loop over the sorted rows picks, whatever the chunks and their order."""

import copy
import logging
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.groups import Groups, as_groups
from fastal.base.row_numbers import RowNumbers
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.selection import grouped_topk
from fastal.selection.noise import Noise
from fastal.selection.stratified import StratifiedSelector
from fastal_kernels import native

no_deadline = settings(deadline=None, max_examples=40)
# Few values, so that ties are the rule; both zeros, infinities and NaN among them.
VALUES = [0.0, -0.0, 0.25, 0.5, 1.0, 1e-45, math.inf, -math.inf, math.nan]
LABELS = ["a", "b", 1, True, 0, None, b"a", "1"]
ROWS = st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(LABELS)), max_size=60)


def as_they_are(scores):
    return scores


def greedy(keys, labels, per_group, k=None, first=0):
    """The definition: rows best first, one by one, passing over groups that are full."""
    taken, counts = [], {}
    valid = [row for row, key in enumerate(keys) if key == key]
    for row in sorted(valid, key=lambda row: (-keys[row], row)):
        group = type(labels[row]), labels[row]
        if counts.get(group, 0) < per_group and (k is None or len(taken) < k):
            counts[group] = counts.get(group, 0) + 1
            taken.append(row)
    return [first + row for row in taken]


def assert_picks(picks, rows, scores, labels, first=0):
    assert picks.rows.tolist() == rows
    assert picks.rows.dtype == np.int64
    of_rows = [row - first for row in rows]
    assert picks.scores.tobytes() == np.array([scores[row] for row in of_rows], "f4").tobytes()
    got, want = picks.groups.tolist(), [labels[row] for row in of_rows]
    assert list(zip(map(type, got), got, strict=True)) == [(type(v), v) for v in want]


def selector(per_group, by=as_they_are, **options):
    return StratifiedSelector(per_group, by, on_invalid="skip", **options)


@pytest.fixture(params=[1, 4, 1 << 16], ids="block {}".format)
def block(request, monkeypatch):
    """Blocks so small that bars rise within a chunk, as well as the real size."""
    monkeypatch.setattr(grouped_topk, "_BLOCK", request.param)


@pytest.mark.usefixtures("block")
@no_deadline
@given(
    data=st.data(),
    rows=ROWS,
    per_group=st.sampled_from([1, 2, 5, 100]),
    k=st.sampled_from([None, 1, 3, 10, 100]),
    first=st.sampled_from([0, 2**62, 2**63 - 61]),
)
def test_any_chunks_order_merging_and_resuming(data, rows, per_group, k, first):
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    pieces = data.draw(st.permutations(list(pairwise([0, *cuts, len(rows)]))))
    selectors = [selector(per_group, k=k) for _ in range(2)]
    for start, stop in pieces:
        index = data.draw(st.integers(0, 1))
        chunk = np.array(scores[start:stop], np.float32)
        selectors[index].update(chunk, first + start, labels[start:stop])
        state, selectors[index] = selectors[index].state_dict(), selector(per_group, k=k)
        selectors[index].load_state_dict(state)
    one, other = data.draw(st.permutations(selectors))
    one.merge(other)
    picks = one.result()
    assert_picks(picks, greedy(scores, labels, per_group, k, first), scores, labels, first)
    assert picks.invalid == sum(score != score for score in scores)
    assert picks.ids is None


@pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")
@pytest.mark.usefixtures("block")
@no_deadline
@given(
    data=st.data(), seed=st.integers(0, 99), n_classes=st.sampled_from([2, 70, 300]),
    per_group=st.sampled_from([1, 2, 5]), k=st.sampled_from([None, 3, 10]),
    by=st.sampled_from(UNCERTAINTY_SCORES),
)  # fmt: skip
def test_rows_below_the_thresholds_of_their_groups_are_skipped(
    data, seed, n_classes, per_group, k, by
):
    """Scores that tie, groups that come late or stay short, and invalid rows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(120, n_classes, generator=generator).round()
    x[::9, 0] = torch.nan
    labels = torch.randint(3, (120,), generator=generator).tolist()
    labels[100:] = [data.draw(st.sampled_from([0, 3]))] * 20
    (scores,) = native.uncertainty(x, [by])
    cuts = sorted(data.draw(st.lists(st.integers(0, 120), max_size=6)))
    chosen = selector(per_group, by, k=k, backend="native")
    for start, stop in pairwise([0, *cuts, 120]):
        chosen.update(x[start:stop], start, labels[start:stop])
    picks = chosen.result()
    assert picks.rows.tolist() == greedy(scores.tolist(), labels, per_group, k)
    assert torch.equal(picks.scores, scores[picks.rows])
    assert picks.invalid == len(range(0, 120, 9))
    whole = selector(per_group, by, k=k, backend="native")
    whole.update(x, 0, labels)
    assert chosen._top.tied() == whole._top.tied()


@pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")
def test_few_rows_reach_the_quotas(monkeypatch):
    x = torch.randn(3000, 10, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2] * 1000
    chosen = StratifiedSelector(5, "margin", backend="native")
    chosen.update(x[:1500], 0, labels[:1500])
    given = []
    update = chosen._top.update
    monkeypatch.setattr(chosen._top, "update", lambda *a: given.append(len(a[0])) or update(*a))
    chosen.update(x[1500:], 1500, labels[1500:])
    assert 0 < given[0] < 150
    x[1] = torch.nan
    with pytest.raises(fastal.InvalidRows, match="row 3001"):
        chosen.update(x, 3000, labels)


@pytest.mark.usefixtures("block")
@no_deadline
@given(
    data=st.data(),
    name=st.sampled_from(["power", "softmax"]),
    k=st.sampled_from([None, 12]),
    first=st.sampled_from([0, 2**62 + 3]),
)
def test_noise_changes_the_order_and_not_the_scores(data, name, k, first):
    scores = np.random.default_rng(0).random(80).round(1).astype(np.float32)
    scores[[2, 40]] = np.nan
    labels = [row % 7 for row in range(80)]
    options = {"noise": name, "seed": 5, "beta": 3.0, "k": k}
    chosen = selector(3, **options)
    cuts = sorted(data.draw(st.lists(st.integers(0, 80), max_size=4)))
    for start, stop in data.draw(st.permutations(list(pairwise([0, *cuts, 80])))):
        chosen.update(scores[start:stop], first + start, labels[start:stop])
    keys = Noise(name, 5, 3.0).keys(torch.from_numpy(scores), RowNumbers(80, first)).tolist()
    rows = greedy(keys, labels, 3, k, first)
    assert_picks(chosen.result(), rows, scores, labels, first)
    assert rows != greedy(scores, labels, 3, k, first)


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "constant", "-inf"])
@pytest.mark.parametrize("k", [None, 40])
def test_bars_rise_and_the_buffer_stays_small(monkeypatch, order, k):
    monkeypatch.setattr(grouped_topk, "_BLOCK", 64)
    rng = np.random.default_rng(0)
    scores = rng.random(6000, np.float32).round(3)
    scores = {
        "random": scores,
        "ascending": np.sort(scores),
        "descending": np.sort(scores)[::-1].copy(),
        "constant": np.full(6000, 0.5, np.float32),
        "-inf": np.full(6000, -np.inf, np.float32),
    }[order]
    labels = rng.integers(0, 20, 6000)
    chosen = selector(4, k=k)
    for start in range(0, 6000, 777):
        chosen.update(scores[start : start + 777], start, labels[start : start + 777])
        assert len(chosen._top._columns["ranks"]) <= 2 * (2 * 80 + 64)
    assert_picks(chosen.result(), greedy(scores, labels.tolist(), 4, k), scores, labels.tolist())
    if order in ("descending", "constant", "-inf"):  # all the rest loses to the bars
        before = chosen._top._held
        chosen._top.update(
            scores[-64:], RowNumbers(64, 9000), scores[-64:], as_groups(labels[-64:], 64, "")
        )
        assert chosen._top._held == before


@pytest.mark.parametrize(
    ("score", "row", "held"), [(0.4, 0, 3), (0.5, 9, 3), (0.5, 1, 4), (0.6, 9, 4)]
)
def test_with_k_every_group_has_to_beat_the_kth_best(monkeypatch, score, row, held):
    monkeypatch.setattr(grouped_topk, "_BLOCK", 4)
    chosen = selector(10, k=3)
    chosen.update(np.array([0.3, 0.9, 0.5, 0.7]), 2, ["b", "a", "a", "a"])
    assert chosen._top._held == 3
    chosen.update(np.array([score]), row, ["b"])
    assert chosen._top._held == held


def test_groups_that_come_late():
    scores, labels = np.linspace(1, 0.1, 900), [row // 300 for row in range(900)]
    chosen = selector(2)
    for start in range(0, 900, 100):
        chosen.update(scores[start : start + 100], start, labels[start : start + 100])
    assert chosen.result().rows.tolist() == [0, 1, 300, 301, 600, 601]


def test_real_scores_and_every_kind_of_array():
    x = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    labels = np.arange(300) % 4
    scores = fastal.score(x).margin
    for given_x in (x, torch.from_numpy(x)):
        chosen = StratifiedSelector(3, "margin", k=7)
        chosen.update(given_x[:120], groups=labels[:120])
        chosen.update(given_x[120:], groups=torch.from_numpy(labels[120:]))
        picks = chosen.result()
        assert type(picks.rows) is type(picks.scores) is type(given_x)
        rows = greedy(scores.tolist(), labels.tolist(), 3, 7)
        assert picks.rows.tolist() == rows
        assert np.asarray(picks.scores).tobytes() == scores[rows].tobytes()
        assert picks.groups.dtype == np.int64
        assert chosen.backend_used in fastal.backend_reasons()
        assert chosen.kth_score is None


# --- predicted classes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_predicted_class_is_the_first_largest(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-2, 3, (400, 6), generator=generator).to(dtype)  # ties in most rows
    x[7] = math.nan
    x[8, 2] = -math.inf
    classes = np.argmax(np.nan_to_num(x.double().numpy(), neginf=-9), 1)
    assert (np.sort(x.double().numpy(), 1)[:, -1:] == x.double().numpy()).sum() > 500
    chosen = StratifiedSelector(5, "entropy", predicted=True, on_invalid="skip")
    chosen.update(x[:100])
    chosen.update(x[100:])
    picks = chosen.result()
    scores = fastal.score(x, on_invalid="skip").entropy.tolist()
    assert picks.rows.tolist() == greedy(scores, classes.tolist(), 5)
    assert picks.groups.tolist() == classes[picks.rows.numpy()].tolist()
    assert picks.invalid == 1


def test_a_wrong_class_on_ties_is_caught():
    x = np.array([[1.0, 1.0, 0.0]] * 3 + [[0.0, 0.0, 1.0]] * 3, np.float32)
    chosen = StratifiedSelector(1, predicted=True, k=6)
    chosen.update(x)
    last = 2 - np.argmax(x[:, ::-1], 1)
    assert chosen.result().groups.tolist() == [0, 2]
    assert sorted(set(last.tolist())) == [1, 2]


# --- groups that are short


def test_short_groups_are_logged_and_named(caplog):
    labels = ["full"] * 3 + ["one", "nan", None, 5, False, b"x", "nan"]
    scores = np.ones(10)
    scores[[4, 9]] = np.nan
    chosen = selector(3)
    chosen.update(scores, groups=labels)
    short = [("nan", 0), (None, 1), (False, 1), (b"x", 1), (5, 1), ("one", 1)]
    assert sorted(chosen.short, key=repr) == sorted(short, key=repr)
    assert chosen.short[0] == ("nan", 0)
    with caplog.at_level(logging.WARNING, "fastal"):
        chosen.result()
    (message,) = caplog.messages
    assert message.startswith("6 of 7 groups have fewer than 3 valid rows: 'nan' (0), ")
    assert message.endswith(", ...")
    assert message.count("(1)") == 4


def test_full_groups_and_caps_are_not_logged(caplog):
    for options in ({}, {"k": 5}):
        chosen = selector(2, **options)
        chosen.update(np.ones(4), groups=[1, 1, 2, 2])
        if options:
            chosen.update(np.ones(1), groups=[3])
        assert chosen.short == []
        chosen.result()
    assert caplog.messages == []


def test_a_class_that_no_row_has_is_short():
    chosen = StratifiedSelector(1, predicted=True)
    chosen.update(np.eye(3)[:2])
    assert chosen.short == [(2, 0)]


# --- labels


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([3, -1, 3], [3, -1, 3]),
        ((True, False, True), [True, False, True]),
        (["b", "a", "b"], ["b", "a", "b"]),
        ([None, "a", 1], [None, "a", 1]),
        ([1, True, np.int64(1)], [1, True, 1]),
        ([np.str_("a"), "a", np.bool_(False)], ["a", "a", False]),
        (np.array([2, 1, 2], np.uint8), [2, 1, 2]),
        (np.array([2**64 - 1, 1, 2], np.uint64), [2**64 - 1, 1, 2]),
        (np.array([True, False, True]), [True, False, True]),
        (np.array(["b", "a", "b"]), ["b", "a", "b"]),
        (np.array([b"b", b"a", b"b"]), [b"b", b"a", b"b"]),
        (np.array(["b", None, 3], object), ["b", None, 3]),
        (torch.tensor([2, 1, 2]), [2, 1, 2]),
        (torch.tensor([True, False, True]), [True, False, True]),
        (Groups([1, 0, 1], ["a", "b", "unused"]), ["b", "a", "b"]),
        (Groups(np.array([1, 1, 0], np.uint8), ["a", "a"]), ["a", "a", "a"]),
        (Groups(torch.tensor([2, 0, 2]), np.array(["x", "y", "z"])), ["z", "x", "z"]),
        (Groups([2, 0, 2], range(3)), [2, 0, 2]),
    ],
)
def test_labels_of_every_kind(labels, values):
    groups = as_groups(labels, 3, "groups")
    got = [groups.values[code] for code in groups.codes]
    assert list(zip(map(type, got), got, strict=True)) == [(type(v), v) for v in values]
    assert "unused" not in groups.values
    chosen = selector(3)
    chosen.update(np.array([0.3, 0.2, 0.1]), groups=labels)
    picks = chosen.result()
    assert picks.groups.tolist() == values
    ints = all(type(value) is int and value < 2**63 for value in values)
    assert picks.groups.dtype == (np.int64 if ints else object)


@pytest.mark.parametrize("labels", [[], np.empty(0, int), np.empty(0, "U1"), Groups([], [])])
def test_no_rows_at_all(labels):
    chosen = selector(3)
    chosen.update(np.empty(0), groups=labels)
    picks = chosen.result()
    assert picks.rows.tolist() == picks.groups.tolist() == []
    assert selector(1).result().rows.shape == (0,)


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (None, ValueError, "groups: wanted a label for each row, got None"),
        ([1, 2], ValueError, "groups: wanted 3 labels, one for each row, got 2"),
        (np.arange(4), ValueError, "groups: wanted 3 labels, one for each row, got 4"),
        (Groups([0], ["a"]), ValueError, "groups: wanted 3 labels, one for each row, got 1"),
        (Groups([0, 1, 2], ["a", "b"]), ValueError, "groups: code 2 is no position"),
        (Groups([0, -1, 0], ["a", "b"]), ValueError, "groups: code -1 is no position"),
        (Groups([0.0, 1.0, 0.0], ["a", "b"]), TypeError, "groups: wanted integer codes"),
        (Groups([0, 0, 0], [1.5]), TypeError, "groups: wanted int, str, .* got 1.5"),
        (np.zeros(3), TypeError, r"groups: wanted integers or strings, .* got float64, shape \(3,"),
        (torch.zeros(3, dtype=torch.bfloat16), TypeError, "groups: wanted .* got torch.bfloat16"),
        (np.zeros((3, 1), int), TypeError, r"groups: wanted .* got int64, shape \(3, 1\)"),
        (np.ma.zeros(3, int), TypeError, "groups: masked"),
        (np.zeros(3, "M8[s]"), TypeError, "groups: wanted integers or strings"),
        ([1, 2.0, 3], TypeError, "groups: wanted int, str, bool, bytes or None .* got 2.0"),
        ([1, math.nan, None], TypeError, "groups: wanted int, .* got nan"),
        ([1, [2], 3], TypeError, r"groups: wanted int, .* got \[2\]"),
        ("abc", TypeError, "groups: wanted an array or a list of labels, got str"),
        ({1, 2, 3}, TypeError, "groups: wanted an array or a list of labels, got set"),
    ],
)
def test_bad_labels_are_refused_and_nothing_is_taken(labels, error, words):
    chosen = selector(3)
    with pytest.raises(error, match=words):
        chosen.update(np.ones(3), groups=labels)
    assert chosen.state_dict()["scorer"]["next_row"] == 0
    assert chosen.result().rows.tolist() == []


# --- arguments, merging, states


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"per_group": 0}, ValueError, "per_group: wanted at least 1, got 0"),
        ({"per_group": 1.0}, TypeError, "per_group: wanted an integer, got 1.0"),
        ({"k": 0}, ValueError, "k: wanted at least 1, got 0"),
        ({"k": True}, TypeError, "k: wanted an integer, got True"),
        ({"by": "margins"}, ValueError, "by: wanted one of"),
        ({"noise": "softrank"}, ValueError, "noise: 'softrank' ranks the whole pool"),
        ({"noise": "x"}, ValueError, "noise: wanted one of"),
        ({"seed": -1}, ValueError, "seed: wanted"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        StratifiedSelector(**{"per_group": 1, **arguments})


def test_predicted_and_groups_exclude_each_other():
    chosen = StratifiedSelector(1, predicted=True)
    with pytest.raises(ValueError, match="groups: with predicted=True they are the classes"):
        chosen.update(np.eye(3), groups=[0, 1, 2])
    for x in (np.ones(3), np.ones((3, 0)), np.ones((3, 2, 2))):
        with pytest.raises(ValueError, match="groups: predicted=True wanted rows of classes"):
            selector(1, predicted=True).update(x)


def test_an_invalid_chunk_and_a_negative_score_leave_no_trace():
    chosen = StratifiedSelector(2, as_they_are, noise="power")
    chosen.update(np.ones(2), groups=["a", "a"])
    with pytest.raises(fastal.InvalidRows, match="row 3 has score NaN"):
        chosen.update(np.array([1, np.nan]), groups=["b", "b"])
    with pytest.raises(ValueError, match=r"by: .* row 2 has -1"):
        chosen.update(np.array([-1.0, 1]), groups=["b", "b"])
    assert chosen.result().groups.tolist() == ["a", "a"]
    assert chosen.short == []
    assert chosen.state_dict()["scorer"]["next_row"] == 2


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"per_group": 4}, "per_group=4, this one per_group=3"),
        ({"k": 5}, "k=5, this one k=None"),
        ({"predicted": True}, "predicted=True, this one predicted=False"),
        ({"noise": "power"}, "noise='power', this one noise=None"),
        ({"by": "ratio"}, r"by='ratio', this one by='margin'"),
    ],
)
def test_only_equals_merge_and_restore(other, words):
    one = StratifiedSelector(3)
    other = StratifiedSelector(**{"per_group": 3, **other})
    with pytest.raises(ValueError, match=f"merge: the other has {words}"):
        one.merge(other)
    with pytest.raises(ValueError, match=f"load_state_dict: the state has {words}"):
        one.load_state_dict(other.state_dict())
    for wrong in (one, None, fastal.Selector(3)):
        with pytest.raises(TypeError, match="merge: wanted another StratifiedSelector"):
            one.merge(wrong)


def test_a_broken_state_is_refused_and_changes_nothing():
    chosen = selector(3)
    chosen.update(np.arange(5.0), groups=list("aabba"))
    want = chosen.result()
    good = chosen.state_dict()
    top = good["top"]
    for state, words in (
        ({}, "the state lacks 'class'"),
        ({**good, "top": {**top, "codes": top["codes"][:2]}}, "not one key, a number"),
        ({**good, "top": {**top, "keys": top["keys"] * np.nan}}, "not one key, a number"),
        ({**good, "top": {**top, "values": ["a"]}}, "not a group for each"),
        ({**good, "scorer": {}}, "lacks 'row_shape'"),
    ):
        with pytest.raises(ValueError, match=f"load_state_dict: .*{words}"):
            chosen.load_state_dict(state)
        assert chosen.result().rows.tolist() == want.rows.tolist()


def test_state_is_plain_and_a_copy():
    chosen = selector(3)
    chosen.update(np.arange(5.0), groups=["a", None, 1, True, b"x"])
    state = chosen.state_dict()
    assert state["top"]["values"] == ["a", None, 1, True, b"x"]
    values = [state]
    for value in values:
        assert isinstance(value, (str, int, list, dict, np.ndarray, type(None)))
        values.extend(value.values() if isinstance(value, dict) else [])
    state["top"]["keys"][:] = 9
    state["top"]["values"].clear()
    for twin in (chosen, pickle.loads(pickle.dumps(chosen)), copy.deepcopy(chosen)):
        assert twin.result().scores.tolist() == [4, 3, 2, 1, 0]
        assert twin.result().groups.tolist() == [b"x", True, 1, None, "a"]


def test_quotas_without_groups_name_the_argument_and_no_row(tmp_path):
    x = np.zeros((9, 2), np.float32)
    np.save(tmp_path / "x.npy", x)
    for pool in (x, [x], tmp_path / "x.npy"):
        with pytest.raises(ValueError, match=r"^groups: wanted a label for each row") as error:
            fastal.select(pool, per_group=3)
        assert "row 0" not in str(error.value)
