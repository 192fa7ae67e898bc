"""Drives a reducer over a source; knows no strategy and no format."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from fastal import backend as backends
from fastal.arrays import memory_of
from fastal.checkpoint import Checkpoint
from fastal.errors import Interrupted, InvalidRows
from fastal.reducer import Reducer, Result
from fastal.sources import Chunk, Source
from fastal.staging import ALIKE

# Chunks that are read into memory: large enough to hide the cost of a call, small enough for steady
# progress. Those that are there anyway may be larger: waking threads takes its time.
_CHUNK_BYTES, _IN_PLACE_BYTES = 32 << 20, 1 << 28
_LEAST_ROW_BYTES = 32  # what a row counts for at least: rows may be short, and each has scores
_MOST_ROWS = 1 << 20  # for the same reason

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
    update = _confirming(reducer)
    for chunk in source.chunks(_chunk_rows(source, chunk_bytes), start):
        groups = {"groups": chunk.groups} if getattr(reducer, "takes_groups", False) else {}
        _feed(partial(update, chunk.x, chunk.start, **groups), source, chunk)
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


class _LeftOut(Exception):  # noqa: N818  (what is wrong is known elsewhere)
    """The source no longer stands by a chunk: skipped, or for the reason that is the cause."""


def _confirming(reducer: Reducer[Any]) -> Callable[..., None]:
    """The reducer's `update`; where it knows no `confirm`, that is called after it."""
    if "confirm" in signature(reducer.update).parameters:
        return reducer.update

    def update(x: Any, start: int, *, confirm: Callable[[], None], **groups: Any) -> None:
        reducer.update(x, start, **groups)
        confirm()

    return update


def _feed(update: Callable[..., None], source: Source, chunk: Chunk) -> None:
    """Has a reducer take a chunk; what is wrong with it is said with its file and row."""
    # What vanishes of a mapped file reads as NaN, or as zeros where it ends amid a page: the
    # reducer asks again before it takes what it has made of them.
    with (
        backends.guarded(memory_of(chunk.x, "pool")) as guard,
        backends.guarded(memory_of(chunk.groups, "groups")) as groups_guard,
    ):

        def confirm() -> None:
            try:
                stands = source.check(chunk.start, lost=guard.broken or groups_guard.broken)
            except (OSError, ValueError) as error:
                raise _LeftOut from error
            if not stands:
                raise _LeftOut

        try:
            try:
                update(confirm=confirm)
            except (TypeError, ValueError):
                confirm()
                raise
        except _LeftOut as left_out:
            if left_out.__cause__ is not None:
                raise left_out.__cause__ from None
        except InvalidRows as error:
            raise error.located(source.locate(error.rows[0])) from None
        except (TypeError, ValueError) as error:
            where = source.locate(chunk.start)
            if not where or type(error) not in (TypeError, ValueError):
                raise
            raise type(error)(f"{where}: {error}") from error
