"""What every command does around its work: progress, resuming, whole outputs, run.json."""

import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import fastal
from fastal.checkpoint import Checkpoint
from fastal.interrupts import interruptible
from fastal.outputs import checked, naming, partial, written_in_parts, written_whole
from fastal.pipeline import run
from fastal.progress import Meter, Reporter
from fastal.reducer import Reducer, Result
from fastal.sources.files import Files

_log = logging.getLogger("fastal")
RECORD = "run.json"  # beside what a command writes
_WRITE_ALONG = ("score", "convert")  # commands that write while the pool is read


@dataclass
class How:
    """How a job is to be run, which changes nothing of its result.

    Attributes:
        checkpoint: the folder for its state, None: it is not saved.
        resume: go on from the checkpoint, if there is one.
        chunk_bytes: how much of the pool to look at in one go, None: as suits.
        reporter: says what goes on.
    """

    checkpoint: Path | None = None
    resume: bool = False
    chunk_bytes: int | None = None
    reporter: Reporter = field(default_factory=Reporter)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; "none" if not installed."""
    found = {"fastal": fastal.__version__, "python": platform.python_version()}
    return found | {package: _version(package) for package in ("torch", "triton", "numpy")}


def check_file(
    out: Path | None, suffixes: Sequence[str], pool: Files, *others: Files | None, name: str = "out"
) -> None:
    """Raises where the file `out`, or standard output for None, cannot be written.

    Args:
        out: the file to be.
        suffixes: one of which it is to have.
        pool: is not to be written over,
        others: nor is what else is read.
        name: of the option, for messages.
    """
    if out is None:
        if sys.stdout is None:
            raise ValueError(f"{name}: standard output is closed")
        return
    if out.suffix not in suffixes:
        raise ValueError(f"{name}: wanted a {' or '.join(suffixes)} file, got {out}")
    if out.name == RECORD:
        raise ValueError(f"{name}: wanted another name than {RECORD}, which is that of the record")
    for source in filter(None, (pool, *others)):
        if os.path.realpath(out) in [file.file.real() for file in source.files]:
            what = "a file of the pool" if source is pool else "one of the files to read"
            raise ValueError(f"{name}: {out} is {what}")
    checked(out)


class Job:
    """A command under way: checks its output, resumes, reports, and leaves a record.

    A context: a signal that comes in it ends `run`, and nothing after that, which is short; a
    second ends it at once.
    """

    def __init__(
        self,
        command: str,
        source: Files,
        out: Path | None,
        arguments: dict[str, Any],
        how: How,
    ) -> None:
        if how.resume and how.checkpoint is None:
            raise ValueError("resume: wanted checkpoint, the folder to resume from")
        self._command = command
        self._source = source
        self._out = out
        self._arguments = arguments
        self._how = how
        self._meter = Meter(source.n_rows)
        self._checkpoint = None
        if how.checkpoint is not None:
            of = {"command": command, **arguments}
            if command in _WRITE_ALONG:
                of["out"] = os.path.realpath(out or "")
            self._checkpoint = Checkpoint(how.checkpoint, of, source, resume=how.resume)
        self._context = ExitStack()

    def __enter__(self) -> "Job":
        with ExitStack() as context:
            self._check = context.enter_context(interruptible())
            if self._checkpoint is not None:
                context.enter_context(self._checkpoint)
            self._context = context.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    @contextmanager
    def output(self) -> Iterator[BinaryIO]:
        """The file for what is written while the pool is read."""
        if self._out is None:
            with standard_output() as file:
                yield file
        elif self._checkpoint is None:
            with written_whole(self._out) as file:
                yield file
        else:
            with written_in_parts(self._out, go_on=self.goes_on(), keeps=self.keeps) as file:
                yield file

    def goes_on(self) -> bool:
        """Whether to go on from a checkpoint; not if the output written until then is gone."""
        if self._out is None or self._checkpoint is None or not self._checkpoint.row:
            return False
        if not partial(self._out).exists():
            _log.warning("%s is gone: starting over", partial(self._out))
            self._checkpoint.forget()
            return False
        return True

    def keeps(self) -> bool:
        """Whether what was written is to stay where the run ends before its time."""
        return self._checkpoint is not None and self._checkpoint.exists

    def run(
        self, reducer: Reducer[Result], *, passes: int = 1, writes_to_terminal: bool = False
    ) -> Result:
        """The pipeline, under a progress bar unless that would stand amid the output.

        Args:
            reducer: as for the pipeline.
            passes: how many it takes, at most.
            writes_to_terminal: the output is read there.
        """
        how, meter = self._how, self._meter
        meter.bar = lambda: getattr(reducer, "bar", None)
        meter.n_passes = passes
        if self._checkpoint is not None:
            meter.go_on(self._checkpoint.row, self._checkpoint.passes)
        if meter.first_row:
            of_pass = f" of pass {meter.passes + 1}" if passes > 1 else ""
            line = f"resumed at row {meter.first_row:,}{of_pass}"
            how.reporter.say(line, "resumed", row=meter.first_row)
        progress = how.reporter.progress(meter, bar=not writes_to_terminal)
        with progress as count:

            def on_chunk(rows: int, n_bytes: int) -> None:
                count(rows, n_bytes)
                self._check()

            return run(
                reducer, self._source, on_chunk, how.chunk_bytes, self._checkpoint,
                meter.begin_pass,
            )  # fmt: skip

    def finish(self, **outcome: Any) -> None:
        """Leaves run.json beside (or in) the output, says how it went, forgets the checkpoint."""
        reporter, meter, skipped = self._how.reporter, self._meter, self._source.skipped
        if self._out is not None:
            folder = self._out if self._out.is_dir() else self._out.parent
            with written_whole(folder / RECORD) as record:
                record.write(
                    json.dumps(self._record(outcome), indent=2, default=str).encode() + b"\n"
                )
        if self._checkpoint is not None:
            self._checkpoint.remove()
        how = f" ({outcome['backend']})" if outcome.get("backend") else ""  # none: all was done
        invalid = outcome.get("invalid")
        left_out = f", {invalid:,} invalid rows left out" if invalid else ""
        values = {**meter.values(), **outcome, "skipped": len(skipped)}
        reporter.say(f"{meter}{how}{left_out}", "done", **values)
        for file, from_row, reason in skipped:
            where = f" from row {from_row} on" if from_row else ""
            line = f"skipped {file}{where}: {reason}"
            reporter.warn(line, "skipped", file=file, from_row=from_row, reason=reason)

    def _record(self, outcome: dict[str, Any]) -> dict[str, Any]:
        source, meter = self._source, self._meter
        pool = [
            {"file": str(f.file), "first_row": n, "rows": f.n_rows}
            for f, n in zip(source.files, source.starts, strict=False)
        ]
        return {
            "command": self._command,
            "arguments": self._arguments,
            "out": str(self._out),
            "pool": pool,
            "skipped": [skipped._asdict() for skipped in source.skipped],
            "rows": meter.done,
            "passes": meter.passes + 1,
            "resumed_at": meter.first_row,
            "bytes": meter.bytes,
            "seconds": meter.seconds,
            **outcome,
            "versions": versions(),
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output, for bytes."""
    with naming("standard output"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
