"""Sources are read up to a row: no row before it is missing, and later files are not opened."""

import os
import pickle
from itertools import pairwise

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.groups import as_groups
from fastal.base.items import Items
from fastal.diversity.gradient_pool import GradientPool
from fastal.diversity.gradients import Gradients
from fastal.sources import IterableSource
from fastal.sources.chosen_rows import ChosenRows
from fastal.sources.files import Files
from fastal.sources.grouped import Grouped
from fastal.sources.source import SourceOver, chunks_of
from tests.support.divided import bits, case, items_of, labelled, mixed
from tests.support.formats import WRITERS, data, write


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    return case(tmp_path_factory.mktemp("pools"))


def gradients(c):
    return GradientPool(mixed(c), fastal.open_pool(c.other), Gradients("logits"), 1 << 20)


CHOSEN = np.arange(3, 200, 7)
OVER_FILES = {
    "mixed": mixed,
    "labelled": labelled,
    "one file": lambda c: fastal.open_pool(c.large),
    "draws in a file": lambda c: fastal.open_pool(c.cube),
    "draws": lambda c: fastal.draws([mixed(c), c.large, c.other]),
    "items": items_of,
    "ragged": lambda c: fastal.open_pool(c.ragged, ragged=True),
    "grouped": lambda c: Grouped(mixed(c), np.arange(len(c.data.x)) % 3),
    "chosen": lambda c: ChosenRows(mixed(c), CHOSEN),
    "chosen of groups": lambda c: ChosenRows(labelled(c), CHOSEN),
    "chosen in place": lambda c: ChosenRows(fastal.open_pool(c.large), CHOSEN),
    "chosen items": lambda c: ChosenRows(items_of(c), np.arange(1, 60, 5)),
    "gradients": gradients,
}
SOURCES = OVER_FILES | {
    "array": lambda c: fastal.open_pool(c.data.x),
    "array of draws": lambda c: fastal.draws(np.load(c.cube)),
    "items in memory": lambda c: fastal.open_pool(
        fastal.items(c.data.x, lengths=[7, 0, 4, 0, *[1] * (len(c.data.x) - 11)])
    ),
    "chunks": lambda c: IterableSource([c.data.x[:90], c.data.x[90:]]),
}


def rows_of(chunks):
    """The content and the group of each row, by its number; each is there once."""
    found = {}
    for chunk in chunks:
        n = len(chunk.x) if isinstance(chunk.x, Items) else chunk.x.shape[0]
        numbers = range(chunk.start, chunk.start + n) if chunk.numbers is None else chunk.numbers
        groups = None if chunk.groups is None else as_groups(chunk.groups, n, "groups")
        for place, number in enumerate(numbers):
            assert int(number) not in found
            group = None if groups is None else groups.values[groups.codes[place]]
            found[int(number)] = content(chunk.x, place), group
    assert list(found) == sorted(found)
    return found


def content(x, place):
    if not isinstance(x, Items):
        return np.asarray(x[place]).tobytes()
    if x.offsets is None:
        return np.asarray(x.values[place]).tobytes()
    rows = slice(int(x.offsets[place]), int(x.offsets[place + 1]))
    mask = None if x.mask is None else x.mask[rows].tolist()
    return np.asarray(x.values[rows]).tobytes(), mask


@pytest.fixture(scope="module")
def whole(pools):
    """By name: a source, and all of its rows."""
    found = {}

    def of(name):
        if name not in found:
            source = SOURCES[name](pools)
            found[name] = source, rows_of(source.chunks(1000))
        return found[name]

    return of


@pytest.mark.parametrize("name", SOURCES)
def test_the_rows_up_to_a_row_are_read(whole, name):
    source, rows = whole(name)
    numbers = list(rows)
    for start, stop in ((0, 1), (0, numbers[-1] + 1), (numbers[5], numbers[9]), (40, 43)):
        check(source, rows, 4, start, stop)


def check(source, rows, size, start, stop):
    found = rows_of(source.chunks(size, start, stop))
    if isinstance(source, IterableSource):
        start = 0
    assert {*found} >= {row for row in rows if start <= row < stop}
    assert all(found[row] == rows[row] for row in found)
    assert not found or min(found) >= start


@given(
    st.sampled_from([*SOURCES]),
    st.sampled_from([1, 3, 10, 64, 1000]),
    st.integers(0, 210),
    st.integers(1, 211),
)
@settings(max_examples=80, deadline=None)
def test_the_rows_from_any_row_to_any_other_are_read(whole, name, size, start, n):
    source, rows = whole(name)
    last = max(rows) + 1
    start = min(start, last - 1)
    check(source, rows, size, start, min(start + n, last))


@pytest.mark.parametrize("stop", [1, 19, 20, 21, 51, 58, 59, 211])
def test_files_after_the_last_row_are_not_read(pools, stop):
    source = pickle.loads(pickle.dumps(mixed(pools)))
    list(source.chunks(10, 0, stop))
    assert opened(source) == {
        i for i, (first, end) in enumerate(pairwise(source.starts)) if first < stop and first < end
    }


def opened(source):
    return {i for i, reader in enumerate(source.files) if reader._reader is not None}


def test_sources_of_others_need_no_stop(pools):
    class Old(SourceOver):
        def chunks(self, rows, start=0):
            return super().chunks(rows, start)

    source = Old(mixed(pools))
    assert rows_of(chunks_of(source, 10, 30, 50)).keys() >= {*range(30, 50)}
    picks = fastal.read_shard(fastal.Selector(30), source, 30, 50).result()
    assert sorted(picks.rows) == [*range(30, 50)]


# Pickled pools.


@pytest.mark.parametrize("name", OVER_FILES)
@pytest.mark.parametrize("pickled", [pickle.dumps, cloudpickle.dumps])
def test_a_pickled_pool_is_the_pool(whole, pools, name, pickled, monkeypatch, tmp_path):
    source, rows = whole(name)
    content = pickled(source)
    monkeypatch.chdir(tmp_path)
    twin = pickle.loads(pickle.loads(pickle.dumps(content)))
    assert rows_of(twin.chunks(10)) == rows
    assert rows_of(twin.chunks(10, 30, 60)).keys() >= {row for row in rows if 30 <= row < 60}
    assert (twin.n_rows, twin.row_bytes) == (source.n_rows, source.row_bytes)
    assert twin.fingerprint() == source.fingerprint()
    assert twin.locate(40) == source.locate(40)
    some = np.array([37, 4, 40])
    assert bits(twin.ids(some)) == bits(source.ids(some))
    assert bits(twin.carried(some)) == bits(source.carried(some))
    assert pickled(pickle.loads(pickled(twin)))  # once more


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_every_format_is_opened_by_another_process(tmp_path, monkeypatch, name):
    d = data()
    pool = write(name, tmp_path / "pool", d)
    source = fastal.open_pool(pool.path, **pool.options)
    content = pickle.dumps(source)
    monkeypatch.chdir(tmp_path.parent)
    twin = pickle.loads(content)
    assert rows_of(twin.chunks(50)) == rows_of(source.chunks(50))
    assert len(rows_of(twin.chunks(50, 100, 120))) >= 20
    if pool.has_labels:
        some = np.array([200, 3])
        assert bits(twin.ids(some)) == bits(source.ids(some)) == bits(d.ids[some])


@pytest.mark.parametrize("name", [*WRITERS][:4])
def test_relative_paths_are_those_of_the_first_working_directory(tmp_path, monkeypatch, name):
    pool = write(name, tmp_path / "pool", data())
    monkeypatch.chdir(tmp_path)
    source = fastal.open_pool(os.path.relpath(pool.path), **pool.options)
    twin = pickle.loads(pickle.dumps(source))
    assert rows_of(twin.chunks(50)) == rows_of(source.chunks(50))


def test_a_pickled_pool_opens_only_the_files_that_it_reads(pools):
    source = pickle.loads(pickle.dumps(labelled(pools)))
    assert opened(source) == set()
    source.ids(np.array([25, 60]))
    assert opened(source) == {2, 5}
    assert source.fingerprint()
    assert source.locate(3)
    assert opened(source) == {2, 5}


def test_a_pickled_pool_is_small_and_holds_no_rows(tmp_path):
    np.save(tmp_path / "a.npy", data(n=100_000).x)
    assert len(pickle.dumps(fastal.open_pool(tmp_path))) < 3000


def test_what_is_skipped_travels(pools, tmp_path):
    np.save(tmp_path / "a.npy", pools.data.x)
    (tmp_path / "b.npy").write_bytes(b"no array")
    source = fastal.open_pool(tmp_path, on_bad_file="skip")
    twin = pickle.loads(pickle.dumps(source))
    assert twin.skipped == source.skipped
    assert isinstance(twin, Files)
    twin.skipped = [twin.skipped[0]._replace(file=str(tmp_path / "a.npy"), from_row=30)]
    assert len(rows_of(twin.chunks(10))) == 30
