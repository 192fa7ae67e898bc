"""Reads two pools of the same rows together, such as logits and embeddings."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.base.row_numbers import RowNumbers
from fastal.sources.beside import check_beside, check_in_order
from fastal.sources.matching import ids_of, places
from fastal.sources.source import Chunk, Source


class Pair(NamedTuple):
    """The same rows of two pools.

    Attributes:
        numbers: the row numbers.
        given: the numbers [n] as an array; None: they are consecutive.
        x: the rows of the first pool, an array [n, ...].
        beside: the rows of the second pool, an array [n, ...].
    """

    numbers: RowNumbers
    given: NDArray[np.int64] | None
    x: Any
    beside: Any


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


def side_by_side(pool: Source, beside: Source, rows: int, start: int, name: str) -> Iterator[Pair]:
    """The rows of two pools together; rows that one of them skipped are left out.

    Args:
        pool: the first pool.
        beside: the second pool, whose chunks may end at other rows.
        rows: the most rows of a chunk, as for `Source.chunks`.
        start: the first row.
        name: the argument that named the second pool, for errors.

    Raises:
        ValueError: one pool has more rows than the other, and no file was skipped.
    """
    streams = [iter(source.chunks(rows, start)) for source in (pool, beside)]
    heads: list[Chunk | None] = [next(stream, None) for stream in streams]
    while True:
        first, second = heads
        if first is None or second is None:
            break
        n_rows = [first.x.shape[0], second.x.shape[0]]
        pair = None
        if all(n_rows) or n_rows == [0, 0]:
            pair, taken = _shared(first, second)
        else:
            taken = 0, 0  # an empty chunk beside one with rows
        if pair is not None:
            yield pair
        for place, head in enumerate((first, second)):
            is_over = taken[place] == n_rows[place]
            heads[place] = next(streams[place], None) if is_over else _after(head, taken[place])
    are_skipped = pool.skipped or beside.skipped
    if not are_skipped and any(head is not None and head.x.shape[0] for head in heads):
        found = "fewer" if heads[1] is None else "more"
        raise ValueError(f"{name}: wanted as many rows as the other pool has, got {found}")


def _shared(first: Chunk, second: Chunk) -> tuple[Pair | None, tuple[int, int]]:
    """The rows that both chunks begin with, and how many rows of each were used up."""
    ours, theirs = (_numbers(chunk) for chunk in (first, second))
    start = max(ours.start, theirs.start)
    before = ours.before(start), theirs.before(start)
    if any(before):
        return None, before
    n = min(len(ours), len(theirs))
    if not (ours.are_consecutive and theirs.are_consecutive):
        here = np.arange(n)
        differs = ours.at(here) != theirs.at(here)
        n = int(differs.argmax()) if differs.any() else n
    given = None if ours.are_consecutive else ours.at(np.arange(n))
    pair = Pair(ours.part(0, n), given, first.x[:n, ...], second.x[:n, ...])
    return pair, (n, n)


def _numbers(chunk: Chunk) -> RowNumbers:
    return RowNumbers(chunk.x.shape[0], chunk.start, chunk.numbers)


def _after(chunk: Chunk, n: int) -> Chunk:
    """The rows of a chunk after its first n."""
    numbers = None if chunk.numbers is None else chunk.numbers[n:]
    start = chunk.start + n if numbers is None else int(numbers[0])
    return Chunk(start, chunk.x[n:, ...], None, numbers)
