"""Divides the rows of a pool into shards."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from fastal.sources import Source
from fastal.sources.chosen_rows import ChosenRows

# Large shards are cheap to merge; small ones are cheap to read again, and all workers end at about
# the same time. Of a large pool, a worker reads 16, within these bounds of their bytes. Of a small
# pool, it reads 4, if they have at least a chunk each.
SHARDS_PER_WORKER, LEAST_PER_WORKER = 16, 4
LEAST_BYTES, MOST_BYTES = 1 << 28, 1 << 32
MOST_ROWS = 1 << 24  # of a shard: some states have values for each row
MOST_SHARDS = 100_000  # the driver merges them one by one


class Shard(NamedTuple):
    """Rows start, start + 1, ... up to the row before `stop`."""

    start: int
    stop: int


def shards_of(
    source: Source,
    chunk_rows: int,
    n_workers: int,
    first: int = 0,
    *,
    has_whole_files: bool = False,
) -> Iterator[Shard]:
    """The shards of a pool, in row order.

    They end where a chunk does if the files are mapped, or if they have whole files. So the same
    chunks are read as in one process.

    Args:
        source: the pool, whose number of rows is known.
        chunk_rows: the most rows per chunk.
        n_workers: how many workers read the pool.
        first: the first row to read.
        has_whole_files: whether a shard ends only where a file does.
    """
    size = rows_per_shard(source, chunk_rows, n_workers)
    if isinstance(source, ChosenRows):
        size -= size % chunk_rows
        ends = source.numbers[size - 1 :: size].tolist() + source.numbers[-1:].tolist()
        bounds = [number + 1 for number in ends]
    else:
        bounds = _bounds(source, None if has_whole_files else chunk_rows, size)
    last = bounds[-1] if bounds else 0
    left = [bound for bound in bounds if bound > first]
    # Without rows, an empty chunk is read, whose shape is checked.
    for start, stop in pairwise([first, *(left or [max(first, last, 1)])]):
        if start < stop:
            yield Shard(start, stop)


def rows_per_shard(source: Source, chunk_rows: int, n_workers: int) -> int:
    """About how many rows a shard has."""
    n_rows, row_bytes = source.n_rows or 0, max(1, source.row_bytes or 0)
    wanted = max(LEAST_BYTES // row_bytes, -(-n_rows // (SHARDS_PER_WORKER * n_workers)))
    wanted = min(wanted, MOST_BYTES // row_bytes, -(-n_rows // (LEAST_PER_WORKER * n_workers)))
    return max(min(wanted, MOST_ROWS), chunk_rows, -(-n_rows // MOST_SHARDS))


def _bounds(source: Source, chunk_rows: int | None, shard_rows: int) -> list[int]:
    """The rows after the last ones of the shards, which have whole files without `chunk_rows`."""
    n_rows = source.n_rows or 0
    bounds, begun = [], 0
    for offset, end in pairwise(getattr(source, "chunk_bounds", [0, n_rows])):
        if chunk_rows is None and end - begun >= shard_rows:
            begun = end
            bounds.append(begun)
        while chunk_rows is not None and end - begun > shard_rows:
            begun = offset + (begun + shard_rows - offset) // chunk_rows * chunk_rows
            bounds.append(begun)
    return [*bounds, n_rows]
