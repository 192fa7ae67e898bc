"""Shards cover the rows once and in order, and end where chunks and files do."""

from itertools import accumulate, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.distributed.divided_pass import _files_of
from fastal.distributed.shards import Shard, shards_of
from fastal.sources.chosen_rows import ChosenRows
from fastal.sources.grouped import Grouped

SIZES = st.lists(st.integers(0, 50) | st.integers(0, 3), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pool")


def pool(sizes, row_bytes=4):
    starts = [0, *accumulate(sizes)]
    return SimpleNamespace(chunk_bounds=starts, n_rows=starts[-1], row_bytes=row_bytes)


def most_rows(n_rows, row_bytes, chunk_rows, n_workers):
    """The most rows of a shard.

    A worker reads 16 shards, or larger ones of 256 MiB, but at least 4. A shard has at most 4 GiB
    and 2^24 rows, unless a chunk is larger or there would be more than 100,000 shards.
    """
    sixteenth, fourth = (-(-n_rows // (n * n_workers)) for n in (16, 4))
    rows = min(max(sixteenth, 2**28 // row_bytes), fourth)
    rows = min(rows, 2**32 // row_bytes, 2**24)
    return max(rows, chunk_rows, -(-n_rows // 100_000))


def naive(source, chunk_rows, n_workers, first):
    """Adds chunk after chunk to a shard while it has not too many rows."""
    most = most_rows(source.n_rows, source.row_bytes, chunk_rows, n_workers)
    ends = [
        end
        for start, stop in pairwise(source.chunk_bounds)
        for end in [*range(start + chunk_rows, stop, chunk_rows), stop]
    ]
    found, begun, last = [], 0, 0
    for end in ends:
        if end - begun > most:
            found.append(Shard(begun, last))
            begun = last
        last = end
    found.append(Shard(begun, last))
    left = [Shard(max(start, first), stop) for start, stop in found if stop > first]
    return left or ([Shard(0, 1)] if not source.n_rows else [])


def check(of, sizes, chunk_rows, n_workers, first, row_bytes=4):
    source = pool(sizes, row_bytes)
    found = [*of(source, chunk_rows, n_workers, first)]
    assert found == naive(source, chunk_rows, n_workers, first)
    ends = {source.n_rows, *source.chunk_bounds}
    ends |= {
        end
        for start, stop in pairwise(source.chunk_bounds)
        for end in range(start, stop, chunk_rows)
    }
    if first < source.n_rows:
        assert [shard.start for shard in found] == [first, *(shard.stop for shard in found[:-1])]
        assert found[-1].stop == source.n_rows
        assert {shard.stop for shard in found} <= ends
    return found


@given(SIZES, st.integers(1, 60), st.integers(1, 9), st.integers(0, 200), st.integers(1, 2**27))
@settings(deadline=None)
def test_shards_are_those_of_a_plain_count_of_chunks(
    sizes, chunk_rows, n_workers, first, row_bytes
):
    check(shards_of, sizes, chunk_rows, n_workers, min(first, sum(sizes)), row_bytes)


CASES = [
    ([50, 50], 10, 1, 0),
    ([7, 40, 9], 4, 2, 0),
    ([7, 40, 9], 4, 2, 13),
    ([0, 30, 0, 30], 7, 1, 0),
]


def check_all(of):
    for case in CASES:
        check(of, *case)


def without_files(source, *arguments):
    return shards_of(SimpleNamespace(n_rows=source.n_rows, row_bytes=4), *arguments)


def without_the_last(source, *arguments):
    return [*shards_of(source, *arguments)][:-1]


def from_the_beginning(source, chunk_rows, n_workers, first):
    return shards_of(source, chunk_rows, n_workers)


def of_any_size(source, chunk_rows, n_workers, first):
    return shards_of(source, 1, n_workers, first)


@pytest.mark.parametrize(
    "wrong", [without_files, without_the_last, from_the_beginning, of_any_size]
)
def test_wrong_shards_are_found_out(wrong):
    check_all(shards_of)
    with pytest.raises(AssertionError):
        check_all(wrong)


@given(
    st.integers(1, 90),
    st.integers(1, 30),
    st.integers(1, 5),
    st.integers(0, 299),
    st.integers(0, 9),
)
@settings(deadline=None)
def test_shards_of_chosen_rows_have_equally_many_of_them(n, chunk_rows, n_workers, first, seed):
    numbers = np.sort(np.random.default_rng(seed).choice(300, n, replace=False))
    source = ChosenRows(fastal.open_pool(np.zeros((300, 2), np.float32)), numbers)
    found = [*shards_of(source, chunk_rows, n_workers, first)]
    size = most_rows(n, 8, chunk_rows, n_workers) // chunk_rows * chunk_rows  # whole chunks
    left = numbers[numbers >= first]
    assert [
        row for start, stop in found for row in left[(start <= left) & (left < stop)]
    ] == left.tolist()
    assert all(a.stop == b.start for a, b in pairwise(found))
    counts = [int(((start <= numbers) & (numbers < stop)).sum()) for start, stop in found]
    assert all(count == size for count in counts[1:-1])
    assert all(count <= size for count in counts)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 5))
@settings(deadline=None)
def test_shards_of_items_cover_the_items(folder, lengths, chunk_rows, n_workers):
    for name, n in (("a", sum(lengths) // 3), ("b", sum(lengths) - sum(lengths) // 3)):
        np.save(folder / f"{name}.npy", np.zeros((n, 2), np.float32))
    items = fastal.items(fastal.open_pool(folder), lengths=lengths)
    for source in (items, Grouped(items, [0] * len(lengths))):
        found = [*shards_of(source, chunk_rows, n_workers)]
        assert [row for shard in found for row in range(*shard)] == [*range(len(lengths))]


def test_a_shard_of_items_may_have_rows_of_all_files(folder):
    for name in "ab":
        np.save(folder / f"{name}.npy", np.zeros((6, 2), np.float32))
    rows = fastal.open_pool(folder)
    files = {f"{folder}/a.npy", f"{folder}/b.npy"}
    assert _files_of(rows, Shard(1, 3)) == {f"{folder}/a.npy"}
    items = fastal.items(rows, lengths=[4] * 3)
    assert _files_of(items, Shard(1, 2)) == files
    assert _files_of(Grouped(items, [0] * 3), Shard(1, 2)) == files
    assert _files_of(fastal.open_pool(np.zeros((3, 2))), Shard(1, 2)) == set()


def test_of_a_pool_without_rows_an_empty_chunk_is_read():
    for sizes in ([0], [0, 0]):
        assert [*shards_of(pool(sizes), 10, 3)] == [Shard(0, 1)]
    empty = ChosenRows(fastal.open_pool(np.zeros((5, 2), np.float32)), np.empty(0, np.int64))
    assert [*shards_of(empty, 10, 3)] == [Shard(0, 1)]


def test_a_pass_that_is_over_has_no_shards():
    assert [*shards_of(pool([20, 30]), 10, 3, 50)] == []


@pytest.mark.parametrize(
    ("n_rows", "row_bytes", "n_workers", "rows"),
    [
        (2**16, 2**10, 4, 2**12),  # a small pool: 4 for each worker
        (2**24, 2**10, 4, 2**18),  # 256 MiB
        (2**28, 2**10, 16, 2**20),  # 16 for each worker
        (2**28, 2**10, 1, 2**22),  # 4 GiB
        (2**32, 2**2, 1, 2**24),
        (10**9, 2**20, 10**6, 10**4),  # 100,000 shards
    ],
)
def test_sizes_of_shards(n_rows, row_bytes, n_workers, rows):
    found = [*shards_of(pool([n_rows], row_bytes), 1, n_workers)]
    assert {stop - start for start, stop in found} == {rows}


def test_shards_of_whole_files_end_with_files():
    source = pool([5, 5, 40, 1, 1, 1, 30], 8)
    found = [*shards_of(source, 4, 2, has_whole_files=True)]
    assert found == [(0, 50), (50, 83)]
    assert [*shards_of(source, 4, 2, 7, has_whole_files=True)] == [(7, 50), (50, 83)]
    assert [*shards_of(pool([3], 8), 1, 9, has_whole_files=True)] == [(0, 3)]
