"""Shards cover the rows once and in order, and end where chunks and files do."""

from itertools import accumulate, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.distributed.shards import Shard, shards_of
from fastal.sources.chosen_rows import ChosenRows

SIZES = st.lists(st.integers(0, 50) | st.integers(0, 3), min_size=1, max_size=12)


def pool(sizes, row_bytes=4):
    starts = [0, *accumulate(sizes)]
    return SimpleNamespace(starts=starts, n_rows=starts[-1], row_bytes=row_bytes)


def most_rows(n_rows, row_bytes, chunk_rows, n_workers):
    """The most rows of a shard: a fourth of a worker's, at most 256 MiB, a chunk at least."""
    fourth = -(-n_rows // (4 * n_workers))
    return max(min(fourth, max(1, 2**28 // row_bytes)), chunk_rows, -(-n_rows // 10_000))


def naive(source, chunk_rows, n_workers, first):
    """Adds chunk after chunk to a shard while it has not too many rows."""
    most = most_rows(source.n_rows, source.row_bytes, chunk_rows, n_workers)
    ends = [
        end
        for start, stop in pairwise(source.starts)
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
    ends = {source.n_rows, *source.starts}
    ends |= {
        end for start, stop in pairwise(source.starts) for end in range(start, stop, chunk_rows)
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
    size = most_rows(n, 8, chunk_rows, n_workers)
    left = numbers[numbers >= first]
    assert [
        row for start, stop in found for row in left[(start <= left) & (left < stop)]
    ] == left.tolist()
    assert all(a.stop == b.start for a, b in pairwise(found))
    counts = [int(((start <= numbers) & (numbers < stop)).sum()) for start, stop in found]
    assert all(count == size for count in counts[1:-1])
    assert all(count <= size for count in counts)


def test_of_a_pool_without_rows_an_empty_chunk_is_read():
    for sizes in ([0], [0, 0]):
        assert [*shards_of(pool(sizes), 10, 3)] == [Shard(0, 1)]
    empty = ChosenRows(fastal.open_pool(np.zeros((5, 2), np.float32)), np.empty(0, np.int64))
    assert [*shards_of(empty, 10, 3)] == [Shard(0, 1)]


def test_a_pass_that_is_over_has_no_shards():
    assert [*shards_of(pool([20, 30]), 10, 3, 50)] == []


def test_shards_are_not_larger_than_256_mib_and_not_more_than_10_000():
    large = [*shards_of(pool([2**20], row_bytes=2**12), 2**10, 1)]
    assert {stop - start for start, stop in large} == {2**16}
    assert len([*shards_of(pool([10**9], row_bytes=2**20), 1, 10**6)]) == 10_000
