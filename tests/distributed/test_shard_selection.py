"""`read_shard` and `merge_shards`: the picks of `select`, for any shards in any order."""

import pickle
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from tests.support.divided import bits, case, items_of, labelled, logged, mixed, rounded


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    return case(tmp_path_factory.mktemp("pools"))


SKIP = {"on_invalid": "skip"}
# By name: the pool, a selector, and the arguments of `fastal.select` that mean the same.
SELECTORS = {
    "margin": (mixed, lambda **how: fastal.Selector(9, **how), {"k": 9}, {}),
    "power": (mixed, lambda **how: fastal.Selector(9, **how), {"k": 9}, {"noise": "power"}),
    "ties": (
        mixed,
        lambda **how: fastal.Selector(9, rounded, **how),
        {"k": 9, "by": rounded},
        {"ties": "random", "seed": 3},
    ),
    "quotas": (
        labelled,
        lambda **how: fastal.StratifiedSelector(3, k=7, **how),
        {"k": 7, "per_group": 3},
        {},
    ),
    "predicted": (
        mixed,
        lambda **how: fastal.StratifiedSelector(2, predicted=True, **how),
        {"per_group": 2, "groups": "predicted"},
        {},
    ),
    "excluding": (
        labelled,
        lambda **how: fastal.Selector(9, **how),
        {"k": 9},
        {"exclude": [0, 3, 100, 210]},
    ),
    "among few": (
        labelled,
        lambda **how: fastal.Selector(9, **how),
        {"k": 9},
        {"among": range(2, 211, 9)},
    ),
    "items": (
        items_of,
        lambda **how: fastal.Selector(9, **how),
        {"k": 9},
        {"aggregate": "mean", **SKIP},
    ),
    "in memory": (
        lambda c: fastal.open_pool(c.data.x, ids=[*range(1000, 1211)]),
        lambda **how: fastal.Selector(9, **how),
        {"k": 9},
        {},
    ),
}


@given(
    st.sampled_from([*SELECTORS]),
    st.lists(st.floats(0, 1), max_size=8),
    st.integers(0, 2**32),
    st.none() | st.sampled_from([1, 100, 1000]),
)
@settings(max_examples=30, deadline=None)
def test_shards_have_the_picks_of_select(pools, name, cuts, seed, chunk_bytes):
    pool, selector, arguments, how = SELECTORS[name]
    with logged() as wanted:
        want = fastal.select(pool(pools), **arguments, **how)
    n = pool(pools).n_rows
    shards = [*pairwise(sorted([0, n, *(round(cut * n) for cut in cuts)]))]  # some have no rows
    Random(seed).shuffle(shards)
    with logged() as messages:
        read = (
            pickle.loads(
                pickle.dumps(
                    fastal.read_shard(selector(**how), pool(pools), *shard, chunk_bytes=chunk_bytes)
                )
            )
            for shard in shards
        )
        found = fastal.merge_shards(read, pool(pools))
    assert bits(found) == bits(want)
    assert {*messages} == {*wanted}


def test_without_a_pool_the_picks_have_rows_and_scores(pools):
    want = fastal.select(labelled(pools), 9)
    read = [
        fastal.read_shard(fastal.Selector(9), labelled(pools), *s) for s in ((0, 90), (90, 211))
    ]
    found = fastal.merge_shards(read)
    assert found.ids is None
    assert found.columns == {}
    assert found.strategy == want.strategy == "margin"
    assert bits([found.rows, found.scores]) == bits([want.rows, want.scores])
    assert found.invalid == want.invalid


def test_selectors_are_not_changed_by_the_merge_and_may_be_merged_again(pools):
    read = [fastal.read_shard(fastal.Selector(9), mixed(pools), *s) for s in ((0, 90), (90, 211))]
    before = [pickle.dumps(selector.state_dict()) for selector in read]
    found = [bits(fastal.merge_shards(read, mixed(pools))) for _ in range(2)]
    assert found[0] == found[1]
    assert [pickle.dumps(selector.state_dict()) for selector in read] == before


def test_a_selector_may_read_several_shards(pools):
    selector = fastal.Selector(9)
    for shard in ((90, 211), (0, 30), (30, 90)):
        assert fastal.read_shard(selector, mixed(pools), *shard) is selector
    assert bits(fastal.merge_shards([selector], mixed(pools))) == bits(
        fastal.select(mixed(pools), 9)
    )


def test_the_whole_pool_is_read_unless_rows_are_given(pools):
    want = bits(fastal.select(mixed(pools), 9))
    assert (
        bits(
            fastal.merge_shards([fastal.read_shard(fastal.Selector(9), mixed(pools))], mixed(pools))
        )
        == want
    )
    halves = [
        fastal.read_shard(fastal.Selector(9), mixed(pools), stop=70),
        fastal.read_shard(fastal.Selector(9), mixed(pools), 70),
    ]
    assert bits(fastal.merge_shards(halves, mixed(pools))) == want
    chunks = [pools.data.x[:90], pools.data.x[90:]]
    generated = fastal.read_shard(fastal.Selector(9), (chunk for chunk in chunks))
    assert fastal.merge_shards([generated]).rows.tolist() == fastal.select(chunks, 9).rows.tolist()


@pytest.mark.parametrize("shard", [(5, 4), (0, 212), (212, None), (300, 310)])
def test_rows_that_the_pool_does_not_have_are_refused(pools, shard):
    with pytest.raises(ValueError, match=r"stop: wanted 0 <= start <= stop <= 211, got "):
        fastal.read_shard(fastal.Selector(9), mixed(pools), *shard)


@pytest.mark.parametrize(
    ("start", "stop", "kind", "message"),
    [
        ("0", None, TypeError, "start: wanted an integer, got '0'"),
        (None, 5, TypeError, "start: wanted an integer, got None"),
        (True, 5, TypeError, "start: wanted an integer, got True"),
        (-1, 5, ValueError, "start: wanted 0 or more, got -1"),
        (0, 5.0, TypeError, "stop: wanted an integer, got 5.0"),
        (0, True, TypeError, "stop: wanted an integer, got True"),
        (0, -5, ValueError, "stop: wanted 0 or more, got -5"),
    ],
)
def test_rows_that_are_no_row_numbers_are_refused(start, stop, kind, message):
    with pytest.raises(kind, match=f"^{message}$"):
        fastal.read_shard(fastal.Selector(9), np.zeros((9, 2)), start, stop)


def test_row_numbers_may_be_those_of_numpy():
    x = np.random.default_rng(0).random((9, 2))
    read = fastal.read_shard(fastal.Selector(9), x, np.int64(2), np.int32(5))
    assert sorted(fastal.merge_shards([read]).rows) == [2, 3, 4]


def test_what_is_no_selector_is_refused():
    of_kind = r": wanted fastal\.Selector or fastal\.StratifiedSelector, got "
    selector = fastal.Selector(9)
    pickled = pickle.dumps(selector)
    with pytest.raises(TypeError, match=f"^selector{of_kind}int$"):
        fastal.read_shard(3, np.zeros((9, 2)))
    for selectors, kind in (
        ([None], "NoneType"),
        ([selector, 3], "int"),
        ([pickled], "bytes; pickle.loads makes a selector of it"),
    ):
        with pytest.raises(TypeError, match=f"^selectors{of_kind}{kind}$"):
            fastal.merge_shards(selectors)


NAN = np.full((9, 3), np.nan)
SAME = np.tile(np.array([[0.0, 1.0, 2.0]]), (9, 1))
BLANK = np.array([[0.0, 9.0, 1.0]] * 6 + [[2.0, 2.0, 2.0]] * 3)


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (NAN, {}, "nothing was picked: all 9 rows are invalid"),
        (NAN[:0], {}, "nothing was picked: there are no rows"),
        (SAME, {}, "9 rows have the score of the last pick; 2 of them were picked"),
        (SAME, {"among": [3]}, "k: wanted 2 rows; exclude and among leave 1 valid ones"),
        (BLANK, {}, "2 of 2 picks have the score of a row of equal values"),
    ],
)
def test_picks_without_a_pool_are_warned_of_too(x, arguments, message):
    bounds = pairwise([0, len(x) // 2, len(x)])
    read = [
        fastal.read_shard(fastal.Selector(2, on_invalid="skip", **arguments), x, *shard)
        for shard in bounds
    ]
    with logged() as messages:
        fastal.merge_shards(read)
    assert any(text.startswith(message) for _, text in messages), messages


def test_shards_of_a_generator_are_refused():
    with pytest.raises(ValueError, match="wanted a pool whose number of rows is known beforehand"):
        fastal.read_shard(fastal.Selector(9), (x for x in [np.zeros((3, 2))]), 1)


def test_selectors_of_other_arguments_and_no_selectors_are_refused(pools):
    with pytest.raises(ValueError, match="selectors: wanted at least one, got none"):
        fastal.merge_shards([])
    for others in (
        [fastal.Selector(9), fastal.Selector(8)],
        [fastal.Selector(9), fastal.Selector(9, "ratio")],
        [fastal.Selector(9), fastal.Selector(9, exclude=[3])],
    ):
        with pytest.raises(ValueError, match="merge: the other has"):
            fastal.merge_shards(others)
    with pytest.raises(TypeError, match="merge: wanted another Selector"):
        fastal.merge_shards([fastal.Selector(9), fastal.StratifiedSelector(9)])
    same = fastal.read_shard(fastal.Selector(9), mixed(pools))
    twice = fastal.merge_shards([same, same])
    assert len(twice) == 9


def test_invalid_rows_and_groups_that_are_missing_are_told_as_by_select(pools, tmp_path):
    x = pools.data.x.copy()
    x[150] = np.nan
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(fastal.InvalidRows, match=r"row 150 \(.*a\.npy row 150\)"):
        fastal.read_shard(fastal.Selector(9), tmp_path, 100, 200)
    fastal.read_shard(fastal.Selector(9), tmp_path, 0, 150)
    with pytest.raises(ValueError, match="groups: wanted a label for each row"):
        fastal.read_shard(fastal.StratifiedSelector(3), tmp_path)


def test_skipped_files_are_logged_by_the_shards_that_need_them(pools, tmp_path):
    np.save(tmp_path / "a.npy", pools.data.x)
    (tmp_path / "b.npy").write_bytes(b"no array")
    source = fastal.open_pool(tmp_path, on_bad_file="skip")
    with logged() as messages:
        fastal.read_shard(fastal.Selector(9), source, 0, 10)
    assert len(messages) == 1
    assert messages[0][1].startswith(f"skipped {tmp_path}/b.npy from row 0 on: ")


def test_pickled_selectors_hold_the_picks_alone():
    x = np.random.default_rng(0).standard_normal((60_000, 4)).astype(np.float32)
    for selector in (fastal.Selector(9), fastal.StratifiedSelector(3, predicted=True)):
        fastal.read_shard(selector, x)
        assert len(pickle.dumps(selector)) < 5000
