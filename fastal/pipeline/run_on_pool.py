"""Runs a reducer over any pool: opens it, resumes, completes the result."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from fastal.base.arrays import as_tensor
from fastal.base.checks import plain
from fastal.base.reducer import Reducer, Result
from fastal.picks.picks import Picks
from fastal.pipeline.checkpoint import Checkpoint
from fastal.pipeline.drive import run
from fastal.pipeline.engine import engine_for
from fastal.pipeline.given_groups import with_groups
from fastal.pipeline.progress import Meter, Reporter
from fastal.pipeline.reported_run import reported_run
from fastal.pipeline.row_choice import gathered_rows, narrowed, row_filter_for
from fastal.pipeline.run_options import RunOptions
from fastal.pipeline.watched_runs import watched_runs
from fastal.selection.pick_warnings import warn_of
from fastal.sources import Source, open_pool

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
        options: which rows, chunk size and checkpoint.
        complete: makes the final result from the reducer's result and the opened pool, before the
            checkpoint is removed.
        groups: as for `with_groups`.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.
    """
    if options.checkpoint is not None and reducer.unresumable:
        raise ValueError(f"checkpoint: {reducer.unresumable}")
    opened = open_pool(pool)
    source = with_groups(opened, groups, are_wanted=reducer.takes_groups)
    source = narrow(reducer, source, options)
    with ExitStack() as context:
        saved = None
        if options.checkpoint is not None:
            arguments = {"reducer": type(reducer).__qualname__, **plain(reducer.bound_to())}
            saved = Checkpoint(options.checkpoint, arguments, source, resume=options.resume)
            context.enter_context(saved)
        watched = watched_runs()
        reporter = Reporter(quiet=not options.progress) if watched is None else watched.reporter
        engine = engine_for(options.engine)
        read = context.enter_context(engine.opened(reducer, source, reporter))
        if watched is not None:
            found = watched.run(reducer, source, options.chunk_bytes, saved, read)
        elif options.progress:
            meter = Meter(source.n_rows, reducer)
            found = reported_run(
                reducer, source, options.chunk_bytes, saved, read, meter=meter, reporter=reporter
            )
            reporter.say(str(meter), "done")
        else:
            found = run(reducer, source, options.chunk_bytes, saved, read=read)
        completed = complete(found, opened)
        if saved is not None:
            saved.remove()
    # A command that watches several runs names the files once.
    if watched is None:
        log_skipped(source)
    return completed


def log_skipped(source: Source) -> None:
    """Logs which files of a pool were left out, and why."""
    for file, from_row, reason in source.skipped:
        _log.warning("skipped %s from row %d on: %s", file, from_row, reason)


def narrow(reducer: Reducer[Any], source: Source, options: RunOptions) -> Source:
    """Tells a reducer which rows to read, and returns the source to read them from."""
    row_filter = row_filter_for(options.exclude, options.among, source)
    if row_filter is None:
        return source
    reducer.row_filter = row_filter
    if not reducer.filters_rows:
        return gathered_rows(source, row_filter)
    return narrowed(source, row_filter) if reducer.reads_gaps else source


def pick_from_pool(
    reducer: Reducer[Picks], pool: Any, options: RunOptions, *, groups: Any = None
) -> Picks:
    """The picks of a reducer over a pool, complete; a warning if they hold nothing."""
    picks, source = run_on_pool(
        reducer, pool, options, lambda found, source: (with_ids(found, source, reducer), source),
        groups=groups,
    )  # fmt: skip
    warn_of(picks, reducer, source)
    return picks


def with_ids(picks: Picks, pool: Source, reducer: Reducer[Any]) -> Picks:
    """The picks of a reducer with their ids, carried columns and the name of the strategy.

    Rows and scores become NumPy arrays where the pool has files.
    """
    rows, scores = in_numpy(pool, picks.rows, picks.scores)
    numbers = as_tensor(rows, "picks").cpu().numpy()
    return replace(
        picks, rows=rows, scores=scores, ids=pool.ids(numbers), strategy=reducer.strategy,
        columns={**picks.columns, **pool.carried(numbers)},
    )  # fmt: skip


def in_numpy(pool: Source, *columns: Any) -> tuple[Any, ...]:
    """Result columns as NumPy arrays where the pool has files, else as they are.

    Chunks of bfloat16 files are tensors, since NumPy has no bfloat16, and so are their results.
    """
    has_files = getattr(pool, "files", None) is not None
    return tuple(map(np.asarray, columns)) if has_files else columns
