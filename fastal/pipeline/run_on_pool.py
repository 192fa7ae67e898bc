"""Runs a reducer over any pool: opens it, resumes, completes the result."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np

from fastal.base.checks import plain
from fastal.base.reducer import Reducer, Result
from fastal.pipeline.checkpoint import Checkpoint
from fastal.pipeline.drive import run
from fastal.pipeline.progress import Meter, Reporter
from fastal.pipeline.reported_run import reported_run
from fastal.pipeline.run_options import RunOptions
from fastal.selection.pick_warnings import warn_of
from fastal.selection.picks import Picks
from fastal.sources import Source, open_pool
from fastal.sources.files import Files
from fastal.sources.grouped import Grouped

_log = logging.getLogger("fastal")
_Completed = TypeVar("_Completed")


def run_on_pool(
    reducer: Reducer[Result],
    pool: Any,
    options: RunOptions,
    complete: Callable[[Result, Source], _Completed],
    *,
    groups: Any = None,
) -> _Completed:
    """The result of a reducer over a pool.

    Args:
        reducer: reads the pool.
        pool: any pool that `fastal.select` takes.
        options: chunk size and checkpoint.
        complete: makes the final result from the reducer's result and the opened pool, before the
            checkpoint is removed.
        groups: a label for each row of the pool; None: the pool's own.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.
    """
    if options.checkpoint is not None and reducer.unresumable:
        raise ValueError(f"checkpoint: {reducer.unresumable}")
    opened = open_pool(pool)
    source = opened if groups is None else Grouped(opened, groups)
    if reducer.takes_groups and isinstance(source, Files) and source.columns.groups is None:
        raise ValueError("groups: wanted a label for each row, or a pool with group_column")
    with ExitStack() as context:
        saved = None
        if options.checkpoint is not None:
            arguments = {"reducer": type(reducer).__qualname__, **plain(reducer.arguments())}
            saved = Checkpoint(options.checkpoint, arguments, source, resume=options.resume)
            context.enter_context(saved)
        if options.progress:
            meter, reporter = Meter(source.n_rows, reducer), Reporter()
            found = reported_run(
                reducer, source, options.chunk_bytes, saved, meter=meter, reporter=reporter
            )
            reporter.say(str(meter), "done")
        else:
            found = run(reducer, source, options.chunk_bytes, saved)
        completed = complete(found, opened)
        if saved is not None:
            saved.remove()
    for file, from_row, reason in source.skipped:
        _log.warning("skipped %s from row %d on: %s", file, from_row, reason)
    return completed


def pick_from_pool(
    reducer: Reducer[Picks], pool: Any, options: RunOptions, *, groups: Any = None
) -> Picks:
    """The picks of a reducer over a pool, with their ids; a warning if they hold nothing."""
    picks, source = run_on_pool(
        reducer, pool, options, lambda found, source: (with_ids(found, source), source),
        groups=groups,
    )  # fmt: skip
    warn_of(picks, reducer, source)
    return picks


def with_ids(picks: Picks, pool: Source) -> Picks:
    """The picks with their ids; as NumPy arrays where the pool has files."""
    rows, scores = in_numpy(pool, picks.rows, picks.scores)
    return picks._replace(rows=rows, scores=scores, ids=pool.ids(rows))


def in_numpy(pool: Source, *columns: Any) -> tuple[Any, ...]:
    """Result columns as NumPy arrays where the pool has files, else as they are.

    Chunks of bfloat16 files are tensors, since NumPy has no bfloat16, and so are their results.
    """
    return tuple(map(np.asarray, columns)) if isinstance(pool, Files) else columns
