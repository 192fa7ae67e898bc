"""Drives a reducer over a source; knows no strategy and no format."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from fastal.base.arrays import memory_of
from fastal.base.errors import Interrupted, InvalidRows
from fastal.base.groups import as_groups
from fastal.base.memory_guard import guarded
from fastal.base.reducer import Pending, Reducer, Result, RowStart
from fastal.base.row_numbers import row_numbers
from fastal.ops.transfer import ROW_MULTIPLE
from fastal.pipeline.checkpoint import Checkpoint
from fastal.sources import Chunk, Source
from fastal.sources.source import chunks_of

# Chunks that are read into memory: large enough to hide the cost of a call, small enough for steady
# progress. Chunks of mapped files cost no memory and may be larger: waking threads takes time. On a
# GPU, starting kernels takes time.
_CHUNK_BYTES, _IN_PLACE_BYTES, _GPU_BYTES = 32 << 20, 1 << 28, 4 << 30
# These bound the rows of a chunk: each row also takes memory for its scores.
_LEAST_ROW_BYTES, _MOST_ROWS, _MOST_GPU_ROWS = 32, 1 << 20, 1 << 26
# A selection by the native kernel keeps the scores of the best rows only. So its chunks of a pool
# in memory may be larger still. Chunks of files are the same in any number of processes, because a
# bad file is skipped from the chunk on that fails.
_FREE_ROWS_BYTES = 1 << 30
_KEPT_ROWS = 1 << 14  # per chunk, if parts of the rows are kept

OnChunk = Callable[[int, int], None]
Look = Callable[[Any, RowStart], Pending]


class Step(NamedTuple):
    """Rows that a reducer has read.

    Attributes:
        row: the row after the last one that was read.
        rows: how many rows were read since the last step.
        n_bytes: their bytes.
    """

    row: int
    rows: int
    n_bytes: int


# Feeds the rows of a source to a reducer, from a row on, and yields steps. The other number is that
# of the rows of a chunk.
ReadPass = Callable[[Reducer[Any], Source, int, int], Iterator[Step]]


def run(
    reducer: Reducer[Result],
    source: Source,
    chunk_bytes: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_chunk: OnChunk | None = None,
    on_pass: Callable[[], None] | None = None,
    read: ReadPass | None = None,
) -> Result:
    """Feeds every row of the source to the reducer, in as many passes as it asks for.

    Args:
        reducer: reads the rows.
        source: the pool.
        chunk_bytes: how many bytes of the pool to read at once; None: what suits the reducer and
            the source.
        checkpoint: restores the reducer, and saves its state now and then.
        on_chunk: called after each step with its rows and bytes. If it raises `Interrupted`, the
            state is saved first.
        on_pass: called before each pass except the first.
        read: reads a pass; None: `read_here`.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: what the reducer or the source found wrong,
            with the file and row where the source has files.
    """
    start = 0 if checkpoint is None else checkpoint.restore(reducer, source)
    n_rows = None
    while True:
        row = start
        is_here = source.in_place and read in (None, read_here)
        rows_are_free = (
            is_here and getattr(source, "files", None) is None and reducer.keeps_only_the_best
        )
        chunk_rows = chunk_rows_of(source, chunk_bytes or reducer.chunk_bytes, rows_are_free)
        for row, rows, n_bytes in (read or read_here)(reducer, source, chunk_rows, start):
            try:
                if on_chunk is not None:
                    on_chunk(rows, n_bytes)
            except Interrupted:
                if checkpoint is not None:
                    checkpoint.save(reducer, source, row)
                raise
            if checkpoint is not None and checkpoint.is_due:
                checkpoint.save(reducer, source, row)
        if n_rows not in (None, row) and not source.skipped:
            raise ValueError(
                f"pool: the first pass read {n_rows} rows, this one {row}; the strategy reads the "
                "pool again, so a generator can be read once only, a list of arrays or files again"
            )
        if n_rows is None and source.n_rows is None and reducer.row_filter is not None:
            reducer.row_filter.check(row)
        n_rows, start = row, 0
        if not reducer.next_pass():
            return reducer.result()
        if checkpoint is not None:
            checkpoint.passes += 1
        if on_pass is not None:
            on_pass()


def read_here(
    reducer: Reducer[Any], source: Source, chunk_rows: int, start: int, stop: int | None = None
) -> Iterator[Step]:
    """Feeds rows start, start + 1, ... of a source to a reducer. Yields a step for each chunk.

    Args:
        reducer: reads the rows.
        source: the pool.
        chunk_rows: the most rows per chunk.
        start: the first row.
        stop: the row after the last one; None: the rest of the pool is read.
    """
    for chunk in chunks_of(source, chunk_rows, start, stop):
        if stop is not None:
            if chunk.start >= stop:
                return
            chunk = _before(chunk, stop)
        columns = {"groups": chunk.groups} if reducer.takes_groups else {}
        _take(partial(reducer.look, **columns), source, chunk)
        rows = chunk.x.shape[0]
        row = chunk.start + rows if chunk.numbers is None else int(chunk.numbers[-1]) + 1
        yield Step(row, rows, getattr(chunk.x, "nbytes", 0))


def _before(chunk: Chunk, stop: int) -> Chunk:
    """The rows of a chunk before the row `stop`."""
    rows = chunk.x.shape[0]
    numbers = row_numbers(chunk.start if chunk.numbers is None else chunk.numbers, rows)
    n = numbers.before(stop)
    if n == rows:
        return chunk
    groups = chunk.groups
    if groups is not None:
        groups = as_groups(groups, rows, "groups")
        groups = groups._replace(codes=groups.codes[:n])
    return Chunk(
        chunk.start, chunk.x[:n, ...], groups, None if chunk.numbers is None else chunk.numbers[:n]
    )


def gathered(source: Source, extract: Callable[[Any], Tensor]) -> list[tuple[int, Tensor]]:
    """Pairs of a chunk's first row and what a function returns for the chunk; all fit into memory.

    The pool is read under the same guard, and checked in the same way, as by `run`.

    Args:
        source: the pool.
        extract: returns what to keep of the rows of a chunk, a copy.

    Raises:
        ValueError, TypeError, OSError: as `run`.
    """
    found: list[tuple[int, Tensor]] = []

    def look(x: Any, start: RowStart) -> Pending:
        part = extract(x)
        return Pending(lambda: found.append((row_numbers(start, len(part)).start, part)))

    for chunk in source.chunks(min(_KEPT_ROWS, chunk_rows_of(source, _CHUNK_BYTES))):
        _take(look, source, chunk)
    return found


def chunk_rows_of(source: Source, chunk_bytes: int | None, rows_are_free: bool = False) -> int:
    """How many rows to read at once; rows_are_free: they take no other memory than their own."""
    if chunk_bytes is None:
        chunk_bytes = _IN_PLACE_BYTES if source.in_place else _CHUNK_BYTES
        chunk_bytes = _FREE_ROWS_BYTES if rows_are_free else chunk_bytes
        chunk_bytes = _GPU_BYTES if source.on_gpu else chunk_bytes
    most = _MOST_GPU_ROWS if source.on_gpu or rows_are_free else _MOST_ROWS
    rows = min(most, max(1, chunk_bytes // max(source.row_bytes or 0, _LEAST_ROW_BYTES)))
    return rows if rows < ROW_MULTIPLE else rows - rows % ROW_MULTIPLE


def _take(look: Look, source: Source, chunk: Chunk) -> None:
    """Reads a chunk, and adds it to the state if the source still holds what was read.

    Errors name the file and the row.
    """
    pending: Pending | None = None
    error: Exception | None = None
    # Lost memory of a mapped file reads as NaN, or as zeros if the file ends within a page. So the
    # source is asked after the chunk was read, and before the state changes.
    with (
        guarded(memory_of(chunk.x, "pool")) as guard,
        guarded(memory_of(chunk.groups, "groups")) as groups_guard,
    ):
        try:
            pending = look(chunk.x, chunk.start if chunk.numbers is None else chunk.numbers)
        except (TypeError, ValueError) as caught:
            error = caught
        is_valid = False
        try:
            is_valid = source.check(chunk.start, lost=guard.broken or groups_guard.broken)
        finally:
            if pending is not None and not is_valid:
                pending.discard()
        if not is_valid:
            return
        try:
            if error is not None:
                raise error
            assert pending is not None
            pending.commit()
        except InvalidRows as invalid:
            raise invalid.located(source.locate(invalid.rows[0])) from None
        except (TypeError, ValueError) as wrong:
            where = source.locate(chunk.start)
            if not where or type(wrong) not in (TypeError, ValueError):
                raise
            raise type(wrong)(f"{where}: {wrong}") from wrong
