"""The commands that score: from pool to files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastal.commands.command import CommandRun, RunOptions
from fastal.output.picks_files import PICKS_SUFFIXES, write_picks
from fastal.output.score_files import CsvSink, NpySink, ScoreWriter, Written
from fastal.output.target import Target
from fastal.pipeline.progress import is_terminal
from fastal.selection.pick_warnings import warn_of
from fastal.selection.picks import Picks
from fastal.sources.files import Files
from fastal.uncertainty import selector_for, with_ids


def select_to_file(
    pool: Files,
    k: int | None,
    by: str,
    *,
    out: Path | None,
    how: RunOptions | None = None,
    per_group: int | None = None,
    predicted: bool = False,
    **options: Any,
) -> Picks:
    """Selects from files and writes the picks: rank, row, score, id, group.

    Args:
        pool: the files.
        k: how many rows; None: as many as the quotas say.
        by: the measure.
        out: a .csv, .jsonl, .parquet or .json file (see `write_picks`), None for CSV on stdout.
        how: see `RunOptions`.
        per_group: at most so many rows of a group, without k so many of each.
        predicted: groups are predicted classes.
        options: `kind`, `on_invalid`, `backend`, `noise`, `seed` and `beta` of `fastal.Selector`.
    """
    selector, arguments = selector_for(k, by, per_group, predicted, **options)
    target = Target(out, PICKS_SUFFIXES, pool)
    return picks_to_file("select", selector, arguments, pool, target, how)


def picks_to_file(
    command: str,
    reducer: Any,
    arguments: dict[str, Any],
    pool: Files,
    target: Target,
    how: RunOptions | None,
    passes: int = 1,
) -> Picks:
    """Writes the picks that a reducer ends in.

    Args:
        command: what it is called.
        reducer: selects, in so many `passes` at most.
        arguments: what makes a difference to it.
        pool: the files.
        target: what they are written to.
        how: see `RunOptions`.
        passes: over the pool.
    """
    with CommandRun(command, pool, target, arguments, how or RunOptions()) as job:
        picks = with_ids(job.run(reducer, passes=passes), pool)
        put_picks(target, picks)
        warn_of(picks, reducer, pool)
        job.finish(invalid=picks.invalid, backend=reducer.backend_used)
    return picks


def put_picks(target: Target, picks: Picks, **beside: NDArray[Any]) -> None:
    """Writes picks to a file that appears whole, or to standard output, as CSV."""
    with target.written() as file:
        write_picks(file, picks, ".csv" if target.out is None else target.out.suffix, **beside)


def score_to_file(
    pool: Files,
    by: Sequence[str],
    *,
    out: Path | None,
    how: RunOptions | None = None,
    **options: str,
) -> Written:
    """Scores every row of files and writes the scores.

    Args:
        pool: the files.
        by: the measures to write.
        out: a .npy file (structured array, a field a measure), a .csv file (row, then a column a
            measure), or None for CSV on stdout.
        how: see `RunOptions`.
        options: `kind`, `on_invalid` and `backend` of `fastal.score`.
    """
    how = how or RunOptions()
    if how.checkpoint is not None and out is None:
        raise ValueError("checkpoint: wanted out, a file: what stdout was given is not kept")
    arguments = {"by": by, **options}
    is_npy = out is not None and out.suffix == ".npy"
    target = Target(out, (".npy", ".csv"), pool)
    with CommandRun("score", pool, target, arguments, how) as job:
        with job.output() as file:
            sink = (NpySink if is_npy else CsvSink)(file, pool.n_rows, by)
            writer = ScoreWriter(sink, by, **options)
            written = job.run(writer, writes_to_terminal=out is None and is_terminal(sys.stdout))
        job.finish(invalid=written.invalid, backend=writer.backend_used)
    return written
