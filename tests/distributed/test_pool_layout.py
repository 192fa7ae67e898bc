"""Selectors are merged if their tasks have seen the same files."""

import os
import pickle
import shutil

import numpy as np
import pytest

import fastal
from fastal.sources.grouped import Grouped

OTHER = "merge: the other has read shards of a pool with .* but the rows so far are of a pool with "
OTHER_POOL = "pool: it has .* but the rows so far are of a pool with "


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)


@pytest.fixture
def pool(x, tmp_path):
    np.save(tmp_path / "b.npy", x[:25])
    np.save(tmp_path / "c.npy", x[25:])
    return tmp_path


def read(pool, *shard):
    return fastal.read_shard(fastal.Selector(9), pool, *shard)


def test_a_file_that_was_added_between_two_tasks_is_noticed(pool, x):
    before = read(pool, 0, 20)
    np.save(pool / "a.npy", x[:3])
    after = read(pool, 20, 43)
    for selectors in ([before, after], [after, before]):
        with pytest.raises(ValueError, match=OTHER):
            fastal.merge_shards(selectors)


def test_a_file_that_one_machine_skips_is_noticed(pool):
    source = fastal.open_pool(pool, on_bad_file="skip")
    first = read(source, 0, 20)
    with (pool / "c.npy").open("r+b") as file:
        file.truncate(200)
    last = read(fastal.open_pool(pool, on_bad_file="skip"), 20, 25)
    with pytest.raises(ValueError, match=OTHER + r"40 rows in 2 files \(digest \w+\): wanted"):
        fastal.merge_shards([first, last])


def test_files_of_other_names_or_of_other_sizes_are_noticed(pool, x):
    first = read(pool, 0, 20)
    (pool / "c.npy").rename(pool / "d.npy")
    with pytest.raises(ValueError, match=OTHER):
        fastal.merge_shards([first, read(pool, 20, 40)])
    (pool / "d.npy").rename(pool / "c.npy")
    np.save(pool / "b.npy", x[:20])
    np.save(pool / "c.npy", x[20:])
    with pytest.raises(ValueError, match=OTHER):
        fastal.merge_shards([first, read(pool, 20, 40)])


def test_copies_that_were_written_later_are_the_same_files(pool, x):
    first = read(pool, 0, 20)
    for name in ("b.npy", "c.npy"):
        shutil.copy(pool / name, pool / "copy")
        os.utime(pool / "copy", (1, 1))
        (pool / "copy").replace(pool / name)
    found = fastal.merge_shards([first, read(pool, 20, 40)], pool)
    assert found.rows.tolist() == fastal.select(x, 9).rows.tolist()


def test_the_pool_of_the_merge_is_compared(pool, x):
    selectors = [read(pool, 0, 20), read(pool, 20, 40)]
    np.save(pool / "a.npy", x[:3])
    with pytest.raises(ValueError, match=OTHER_POOL):
        fastal.merge_shards(selectors, pool)


def test_pools_in_memory_differ_by_their_numbers_of_rows(x):
    with pytest.raises(ValueError, match=OTHER + "40 rows: wanted"):
        fastal.merge_shards([read(x, 0, 20), read(x[:30], 20, 30)])
    assert len(fastal.merge_shards([read(x, 0, 20), read(x + 1, 20, 40)], x)) == 9


def test_a_selector_reads_shards_of_one_pool(pool, x):
    selector = read(pool, 0, 20)
    with pytest.raises(ValueError, match=OTHER_POOL):
        fastal.read_shard(selector, x[:30], 20, 30)


def test_items_of_files_have_the_layout_of_their_files_too(pool, x):
    def read_items(lengths, *shard):
        items = fastal.items(fastal.open_pool(pool), lengths=lengths)
        return fastal.read_shard(fastal.Selector(3, aggregate="mean"), items, *shard)

    first = read_items([4] * 10, 0, 5)
    assert len(fastal.merge_shards([first, read_items([4] * 10, 5, 10)])) == 3
    with pytest.raises(ValueError, match=OTHER):
        fastal.merge_shards([first, read_items([5] * 8, 5, 8)])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_selectors_that_were_fed_by_hand_are_merged_with_any(pool, x, order):
    by_hand = fastal.Selector(9)
    by_hand.update(x[:10], 0)
    np.save(pool / "other.npy", x)
    selectors = [by_hand, read(pool, 10, 20), read(x, 20, 40)]
    assert by_hand.layout is None
    fastal.merge_shards([by_hand, selectors[1]])
    fastal.merge_shards([by_hand, selectors[2]])
    with pytest.raises(ValueError, match=OTHER):
        fastal.merge_shards([selectors[i] for i in order])


def test_a_generator_has_no_layout(x):
    assert read(chunk for chunk in [x[:20], x[20:]]).layout is None


@pytest.mark.parametrize("selector", [fastal.Selector(9), fastal.StratifiedSelector(9)])
def test_parts_and_pickles_keep_the_layout(selector, x):
    source = Grouped(fastal.open_pool(x), [0] * 40)
    fastal.read_shard(selector, source)
    assert selector.layout == "40 rows"
    assert selector.part().layout == "40 rows"
    assert pickle.loads(pickle.dumps(selector)).layout == "40 rows"
    merged = type(selector)(9)
    merged.merge(selector)
    assert merged.layout == "40 rows"
