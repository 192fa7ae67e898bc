"""Drives a reducer over a source; knows no strategy and no format."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastal import backend as backends
from fastal.arrays import as_tensor
from fastal.checkpoint import Checkpoint
from fastal.errors import Interrupted, InvalidRows
from fastal.reducer import Reducer, Result
from fastal.sources import Chunk, Source
from fastal.staging import ALIKE

# Chunks that are read into memory: large enough to hide the cost of a call, small enough for steady
# progress. Those that are there anyway may be larger: waking threads takes its time.
_CHUNK_BYTES, _IN_PLACE_BYTES = 32 << 20, 1 << 28
_LEAST_ROW_BYTES = 32  # what a row counts for at least: rows may be short, and each has scores
_MOST_ROWS = 1 << 21  # for the same reason

OnChunk = Callable[[int, int], None]


def run(
    reducer: Reducer[Result],
    source: Source,
    on_chunk: OnChunk | None = None,
    chunk_bytes: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Feeds every chunk of the source to the reducer and returns its result.

    Args:
        reducer: takes the chunks, each with the number of its first row.
        source: the pool.
        on_chunk: called after each chunk with its rows and bytes; where it raises `Interrupted`,
            the state is saved first.
        chunk_bytes: how much of the pool to look at in one go; None: as much as suits a CPU.
        checkpoint: restores the reducer, and saves it now and then.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: what the reducer or the source found wrong,
            with the file and row where the source has files.
    """
    start = 0 if checkpoint is None else checkpoint.restore(reducer, source)
    for chunk in source.chunks(_chunk_rows(source, chunk_bytes), start):
        _feed(reducer, source, chunk)
        rows = chunk.x.shape[0]
        row = chunk.start + rows
        try:
            if on_chunk is not None:
                on_chunk(rows, getattr(chunk.x, "nbytes", 0))
        except Interrupted:
            if checkpoint is not None:
                checkpoint.save(reducer, source, row)
            raise
        if checkpoint is not None and checkpoint.is_due:
            checkpoint.save(reducer, source, row)
    return reducer.result()


def _chunk_rows(source: Source, chunk_bytes: int | None) -> int:
    n_bytes = chunk_bytes or (_IN_PLACE_BYTES if source.in_place else _CHUNK_BYTES)
    rows = min(_MOST_ROWS, max(1, n_bytes // max(source.row_bytes or 0, _LEAST_ROW_BYTES)))
    return rows if rows < ALIKE else rows - rows % ALIKE


def _feed(reducer: Reducer[Any], source: Source, chunk: Chunk) -> None:
    """Has the reducer take a chunk; what is wrong with it is said with its file and row."""
    groups = {"groups": chunk.groups} if getattr(reducer, "takes_groups", False) else {}
    # What vanishes of a mapped file becomes NaN: rows that no reducer takes for valid.
    with backends.guarded(as_tensor(_memory(chunk.x), "pool")) as guard:
        try:
            reducer.update(chunk.x, chunk.start, **groups)
        except InvalidRows as error:
            if not guard.broken:
                raise error.located(source.locate(error.rows[0])) from None
        except (TypeError, ValueError) as error:
            where = source.locate(chunk.start)
            if not where or type(error) not in (TypeError, ValueError):
                raise
            raise type(error)(f"{where}: {error}") from error
    source.check(chunk.start, lost=guard.broken)


def _memory(x: Any) -> Any:
    """The bytes of a chunk, which no byte order or alignment makes a copy of."""
    return x.view(np.uint8) if isinstance(x, np.ndarray) and x.flags.c_contiguous and x.size else x
