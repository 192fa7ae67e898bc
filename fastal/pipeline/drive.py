"""Drives a reducer over a source; knows no strategy and no format."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from fastal.base.arrays import memory_of
from fastal.base.errors import Interrupted, InvalidRows
from fastal.base.memory_guard import guarded
from fastal.base.reducer import Pending, Reducer, Result, RowStart
from fastal.base.row_numbers import row_numbers
from fastal.ops.transfer import ROW_MULTIPLE
from fastal.pipeline.checkpoint import Checkpoint
from fastal.sources import Chunk, Source

# Chunks that are read into memory: large enough to hide the cost of a call, small enough for steady
# progress. Chunks of mapped files cost no memory and may be larger: waking threads takes time. On a
# GPU, starting kernels takes time.
_CHUNK_BYTES, _IN_PLACE_BYTES, _GPU_BYTES = 32 << 20, 1 << 28, 4 << 30
# These bound the rows of a chunk: each row also takes memory for its scores.
_LEAST_ROW_BYTES, _MOST_ROWS, _MOST_GPU_ROWS = 32, 1 << 20, 1 << 26
_KEPT_ROWS = 1 << 14  # per chunk, if parts of the rows are kept

OnChunk = Callable[[int, int], None]
Look = Callable[[Any, RowStart], Pending]


def run(
    reducer: Reducer[Result],
    source: Source,
    chunk_bytes: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_chunk: OnChunk | None = None,
    on_pass: Callable[[], None] | None = None,
) -> Result:
    """Feeds every chunk of the source to the reducer, in as many passes as it asks for.

    Args:
        reducer: reads the chunks.
        source: the pool.
        chunk_bytes: how many bytes of the pool to read at once; None: what suits the reducer and
            the source.
        checkpoint: restores the reducer, and saves its state now and then.
        on_chunk: called after each chunk with its rows and bytes. If it raises `Interrupted`, the
            state is saved first.
        on_pass: called before each pass except the first.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: what the reducer or the source found wrong,
            with the file and row where the source has files.
    """
    start = 0 if checkpoint is None else checkpoint.restore(reducer, source)
    n_rows = None
    while True:
        row = start
        chunk_rows = _chunk_rows(source, chunk_bytes or reducer.chunk_bytes)
        for chunk in source.chunks(chunk_rows, start):
            columns = {"groups": chunk.groups} if reducer.takes_groups else {}
            _take(partial(reducer.look, **columns), source, chunk)
            rows = chunk.x.shape[0]
            row = chunk.start + rows if chunk.numbers is None else int(chunk.numbers[-1]) + 1
            try:
                if on_chunk is not None:
                    on_chunk(rows, getattr(chunk.x, "nbytes", 0))
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

    for chunk in source.chunks(min(_KEPT_ROWS, _chunk_rows(source, _CHUNK_BYTES))):
        _take(look, source, chunk)
    return found


def _chunk_rows(source: Source, chunk_bytes: int | None) -> int:
    """How many rows to read at once."""
    if chunk_bytes is None:
        chunk_bytes = _IN_PLACE_BYTES if source.in_place else _CHUNK_BYTES
        chunk_bytes = _GPU_BYTES if source.on_gpu else chunk_bytes
    most = _MOST_GPU_ROWS if source.on_gpu else _MOST_ROWS
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
