"""Drives a reducer over a source; knows no strategy and no format."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from inspect import signature
from typing import Any

from torch import Tensor

from fastal import ops
from fastal.base.arrays import memory_of
from fastal.base.errors import Interrupted, InvalidRows
from fastal.base.reducer import Reducer, Result
from fastal.ops.transfer import ROW_MULTIPLE
from fastal.pipeline.checkpoint import Checkpoint
from fastal.sources import Chunk, PathLike, Source

_log = logging.getLogger("fastal")
# Chunks that are read into memory: large enough to hide the cost of a call, small enough for steady
# progress. Those that are there anyway may be larger: waking threads takes its time.
_CHUNK_BYTES, _IN_PLACE_BYTES = 32 << 20, 1 << 28
_LEAST_ROW_BYTES = 32  # what a row counts for at least: rows may be short, and each has scores
_MOST_ROWS = 1 << 20  # for the same reason
_KEPT_ROWS = 1 << 14  # of a pool whose rows are copied

OnChunk = Callable[[int, int], None]


def run(
    reducer: Reducer[Result],
    source: Source,
    on_chunk: OnChunk | None = None,
    chunk_bytes: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_pass: Callable[[], None] | None = None,
) -> Result:
    """Feeds every chunk of the source to the reducer and returns its result.

    Args:
        reducer: takes the chunks, each with the number of its first row; where it has a `next_pass`
            that says so after the last of them, once more.
        source: the pool.
        on_chunk: called after each chunk with its rows and bytes; where it raises `Interrupted`,
            the state is saved first.
        chunk_bytes: how much of the pool to look at in one go; None: as much as suits a CPU.
        checkpoint: restores the reducer, and saves it now and then.
        on_pass: called before each pass but the first.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: what the reducer or the source found wrong,
            with the file and row where the source has files.
    """
    start = 0 if checkpoint is None else checkpoint.restore(reducer, source)
    update = _confirming(reducer)
    next_pass = getattr(reducer, "next_pass", lambda: False)
    n_rows = None
    while True:
        row = start
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
        if n_rows not in (None, row) and not source.skipped:
            raise ValueError(
                f"pool: {n_rows} rows at first, {row} when it was read again, as this takes; "
                "a generator can be read once only, a list of arrays or files again"
            )
        n_rows, start = row, 0
        if not next_pass():
            return reducer.result()
        if checkpoint is not None:
            checkpoint.passes += 1
        if on_pass is not None:
            on_pass()


def run_resumable(
    reducer: Reducer[Any],
    source: Source,
    arguments: Mapping[str, Any],
    *,
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    finish: Callable[[Any], Any] = lambda result: result,
) -> Any:
    """`run` for callers in Python: with a checkpoint in a folder, and skipped files logged.

    Args:
        reducer: as for `run`.
        source: the pool.
        arguments: what the run does, as plain values, for the checkpoint.
        chunk_bytes: as for `run`.
        checkpoint: the folder to save the state in; None: it is not saved.
        resume: go on from the folder's checkpoint, if there is one.
        finish: completes the result, before the checkpoint goes.

    Returns:
        What `finish` made of the reducer's result.

    Raises:
        ValueError, OSError: as `run` and `Checkpoint`.
    """
    if resume and checkpoint is None:
        raise ValueError("resume: wanted checkpoint, the folder to resume from")
    with ExitStack() as context:
        saved = None
        if checkpoint is not None:
            saved = Checkpoint(checkpoint, arguments, source, resume=resume)
            context.enter_context(saved)
        result = finish(run(reducer, source, chunk_bytes=chunk_bytes, checkpoint=saved))
        if saved is not None:
            saved.remove()
    for file, from_row, reason in source.skipped:
        _log.warning("skipped %s from row %d on: %s", file, from_row, reason)
    return result


def gathered(source: Source, taken: Callable[[Any], Tensor]) -> list[tuple[int, Tensor]]:
    """What a function takes of each chunk of a pool that fits into memory, by its first row.

    Read under the same guard, and checked in the same way, as the pool that `run` reads.

    Args:
        source: the pool.
        taken: gives what is to be kept of the rows of a chunk, a copy.

    Raises:
        ValueError, TypeError, OSError: as `run`.
    """
    found: list[tuple[int, Tensor]] = []

    def update(x: Any, start: int, *, confirm: Callable[[], None]) -> None:
        part = taken(x)
        confirm()
        found.append((start, part))

    for chunk in source.chunks(min(_KEPT_ROWS, _chunk_rows(source, _CHUNK_BYTES))):
        _feed(partial(update, chunk.x, chunk.start), source, chunk)
    return found


def _chunk_rows(source: Source, chunk_bytes: int | None) -> int:
    if chunk_bytes is not None and chunk_bytes < 1:
        raise ValueError(f"chunk_bytes: wanted at least 1, got {chunk_bytes}")
    n_bytes = chunk_bytes or (_IN_PLACE_BYTES if source.in_place else _CHUNK_BYTES)
    rows = min(_MOST_ROWS, max(1, n_bytes // max(source.row_bytes or 0, _LEAST_ROW_BYTES)))
    return rows if rows < ROW_MULTIPLE else rows - rows % ROW_MULTIPLE


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
        ops.guarded(memory_of(chunk.x, "pool")) as guard,
        ops.guarded(memory_of(chunk.groups, "groups")) as groups_guard,
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
