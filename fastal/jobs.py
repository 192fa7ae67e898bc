"""What a command does from pool to files: progress, outputs written whole, run.json beside them."""

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import fastal
from fastal.outputs import csv_lines, written_whole
from fastal.pipeline import run
from fastal.progress import Meter, is_terminal, progress, say
from fastal.reducer import Reducer, Result
from fastal.score_writer import ScoreWriter, Written, csv_sink, npy_sink
from fastal.selection import Picks, Selector
from fastal.sources.files import Files, PathLike


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; "none" if not installed."""
    found = {"fastal": fastal.__version__, "python": platform.python_version()}
    return found | {package: _version(package) for package in ("torch", "triton", "numpy")}


def select_to_file(
    pool: Sequence[PathLike], k: int, by: str, *, out: Path | None, **options: str
) -> Picks:
    """Selects from files and writes the picks as CSV: rank, row, score.

    Args:
        pool: paths, folders, globs.
        k: how many rows.
        by: the measure.
        out: a .csv file, None for stdout.
        options: `kind`, `on_invalid` and `backend` of `fastal.select`.
    """
    selector = Selector(k, by, **options)
    with _job("select", pool, out, (".csv",), {"k": k, "by": by, **options}) as job:
        picks = job.run(selector)
        ranks = np.arange(1, len(picks.rows) + 1)
        job.file.write(b"rank,row,score\n")
        job.file.writelines(csv_lines(ranks, picks.rows, picks.scores))
        job.outcome = {"invalid": picks.invalid, "backend": selector.backend_used}
    return picks


def score_to_file(
    pool: Sequence[PathLike], by: Sequence[str], *, out: Path | None, **options: str
) -> Written:
    """Scores every row of files and writes the scores.

    Args:
        pool: paths, folders, globs.
        by: the measures to write.
        out: a .npy file (structured array, a field a measure), a .csv file (row, then a column a
            measure), or None for CSV on stdout.
        options: `kind`, `on_invalid` and `backend` of `fastal.score`.
    """
    with _job("score", pool, out, (".npy", ".csv"), {"by": by, **options}) as job:
        is_npy = out is not None and out.suffix == ".npy"
        sink = npy_sink(job.file, job.source.n_rows, by) if is_npy else csv_sink(job.file, by)
        writer = ScoreWriter(sink, by, **options)
        written = job.run(writer, writes_to_terminal=out is None and is_terminal(sys.stdout))
        job.outcome = {"invalid": written.invalid, "backend": writer.backend_used}
    return written


@dataclass
class _Job:
    source: Files
    file: BinaryIO
    meter: Meter
    outcome: dict[str, Any]

    def run(self, reducer: Reducer[Result], *, writes_to_terminal: bool = False) -> Result:
        """The pipeline, under a progress bar unless that would stand amid the output."""
        with progress(
            self.meter, bar=is_terminal(sys.stderr) and not writes_to_terminal
        ) as on_chunk:
            return run(reducer, self.source, on_chunk)


@contextmanager
def _job(
    command: str,
    pool: Sequence[PathLike],
    out: Path | None,
    suffixes: Sequence[str],
    arguments: dict[str, Any],
) -> Iterator[_Job]:
    source = Files(pool)
    if out is not None:
        if out.suffix not in suffixes:
            raise ValueError(f"out: wanted a {' or '.join(suffixes)} file, got {out}")
        if os.path.realpath(out) in [os.path.realpath(file.path) for file in source.files]:
            raise ValueError(f"out: {out} is a file of the pool")
    with _standard_output() if out is None else written_whole(out) as file:
        meter = Meter(source.n_rows)
        job = _Job(source, file, meter, {})
        yield job
    if out is not None:
        files = zip(source.files, source.starts, strict=False)
        record = {
            "command": command,
            "arguments": arguments,
            "out": str(out),
            "pool": [{"file": str(f.path), "first_row": n, "rows": f.n_rows} for f, n in files],
            "rows": meter.rows,
            "bytes": meter.bytes,
            "seconds": meter.seconds,
            **job.outcome,
            "versions": versions(),
        }
        with written_whole(out.with_name("run.json")) as file:
            file.write(json.dumps(record, indent=2).encode() + b"\n")
    invalid = job.outcome["invalid"]
    left_out = f", {invalid:,} invalid rows left out" if invalid else ""
    say(f"{meter} ({job.outcome['backend']}){left_out}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    if sys.stdout is None:
        raise ValueError("out: standard output is closed")
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
