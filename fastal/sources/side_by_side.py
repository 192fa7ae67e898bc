"""Reads pools of the same rows together, such as logits and embeddings."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.base.groups import Groups, as_groups
from fastal.base.row_numbers import RowNumbers
from fastal.sources.beside import check_beside, check_in_order
from fastal.sources.matching import ids_of, places
from fastal.sources.source import Chunk, Source, chunks_of


class Together(NamedTuple):
    """The same rows of several pools.

    Attributes:
        numbers: the row numbers.
        given: the numbers [n] as an array; None: they are consecutive.
        parts: the rows of each pool, an array [n, ...] each.
        groups: the groups of the rows in the first pool; None if it has none.
    """

    numbers: RowNumbers
    given: NDArray[np.int64] | None
    parts: list[Any]
    groups: Groups | None


def check_same_rows(pool: Source, beside: Source, name: str) -> None:
    """Checks that two pools have the same rows in the same order.

    Args:
        pool: the first pool.
        beside: the second pool.
        name: the argument that named the second pool, for errors.

    Raises:
        ValueError: the pools have different numbers of rows, or their ids differ.
    """
    try:
        check_beside(pool, beside)
    except ValueError as error:
        raise ValueError(f"{name}{str(error).removeprefix('beside')}") from None
    ids, others = ids_of(pool), ids_of(beside)
    if ids is None or others is None:
        check_in_order(pool, name)
        check_in_order(beside, name)
        return
    moved = np.flatnonzero(places(ids, others, name) != np.arange(len(ids)))
    if len(moved):
        raise ValueError(
            f"{name}: wanted the rows in the order of the other pool: row {moved[0]} has another id"
        )


def side_by_side(
    pools: Sequence[Source], rows: int, start: int, name: str, stop: int | None = None
) -> Iterator[Together]:
    """The rows of several pools together; rows that one of them skipped are left out.

    Args:
        pools: the pools, whose chunks may end at different rows.
        rows: the most rows of a chunk, as for `Source.chunks`.
        start: the first row.
        name: the argument that named the pools after the first, for errors.
        stop: as for `Source.chunks`.

    Raises:
        ValueError: a pool has more rows than another, and no file was skipped.
    """
    streams = [iter(chunks_of(pool, rows, start, stop)) for pool in pools]
    heads = [next(stream, None) for stream in streams]
    while True:
        chunks = [head for head in heads if head is not None]
        if len(chunks) < len(heads):
            break
        n_rows = [chunk.x.shape[0] for chunk in chunks]
        together, taken = None, [0] * len(chunks)
        if all(n_rows) or not any(n_rows):  # else an empty chunk is beside one with rows
            together, taken = _shared(chunks)
        if together is not None:
            yield together
        for place, (chunk, stream) in enumerate(zip(chunks, streams, strict=True)):
            is_over = taken[place] == n_rows[place]
            heads[place] = next(stream, None) if is_over else _after(chunk, taken[place])
    is_whole = stop is None and not any(pool.skipped for pool in pools)
    if is_whole and any(chunk.x.shape[0] for chunk in chunks):
        found = "more" if heads[0] is None else "fewer"
        raise ValueError(f"{name}: wanted as many rows as the other pool has, got {found}")


def _shared(chunks: list[Chunk]) -> tuple[Together | None, list[int]]:
    """The rows that all chunks begin with, and how many rows of each were used up."""
    numbers = [RowNumbers(chunk.x.shape[0], chunk.start, chunk.numbers) for chunk in chunks]
    start = max(of_pool.start for of_pool in numbers)
    before = [of_pool.before(start) for of_pool in numbers]
    if any(before):
        return None, before
    first, n = numbers[0], min(map(len, numbers))
    if not all(of_pool.are_consecutive for of_pool in numbers):
        for other in numbers[1:]:
            differs = first.at(np.arange(n)) != other.at(np.arange(n))
            n = int(differs.argmax()) if differs.any() else n
    given = None if first.are_consecutive else first.at(np.arange(n))
    parts = [chunk.x[:n, ...] for chunk in chunks]
    groups = _groups(chunks[0], 0, n)
    return Together(first.part(0, n), given, parts, groups), [n] * len(chunks)


def _groups(chunk: Chunk, first: int, stop: int | None = None) -> Groups | None:
    """The groups of the rows of a chunk from place `first` to `stop` - 1."""
    if chunk.groups is None:
        return None
    groups = as_groups(chunk.groups, chunk.x.shape[0], "groups")
    return groups._replace(codes=groups.codes[first:stop])


def _after(chunk: Chunk, n: int) -> Chunk:
    """The rows of a chunk after its first n."""
    numbers = None if chunk.numbers is None else chunk.numbers[n:]
    start = chunk.start + n if numbers is None else int(numbers[0])
    return Chunk(start, chunk.x[n:, ...], _groups(chunk, n), numbers)
