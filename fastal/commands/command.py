"""What every command does around its work: progress, resuming, whole outputs, run.json."""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import fastal
from fastal.base.reducer import Reducer, Result
from fastal.base.text import as_json
from fastal.output.atomic import written_whole
from fastal.output.resumable import partial_path, written_in_parts
from fastal.output.target import Target
from fastal.pipeline.checkpoint import Checkpoint
from fastal.pipeline.drive import run
from fastal.pipeline.interrupts import interruptible
from fastal.pipeline.progress import Meter, Reporter
from fastal.sources.files import Files

_log = logging.getLogger("fastal")
_WRITE_ALONG = ("score", "convert")  # commands that write while the pool is read


@dataclass
class RunOptions:
    """How a command is to be run, which changes nothing of its result.

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


class CommandRun:
    """A command under way: resumes, reports, and leaves a record.

    A context: a signal that comes in it ends `run`, and nothing after that, which is short; a
    second ends it at once.

    Args:
        command: what it is called.
        source: the pool.
        target: what it writes.
        arguments: what makes a difference to the result.
        how: see `RunOptions`.

    Attributes:
        checkpoint: None where the state is not saved.
    """

    def __init__(
        self,
        command: str,
        source: Files,
        target: Target,
        arguments: dict[str, Any],
        how: RunOptions,
    ) -> None:
        if how.resume and how.checkpoint is None:
            raise ValueError("resume: wanted checkpoint, the folder to resume from")
        self._command = command
        self._source = source
        self._target = target
        self._arguments = arguments
        self._how = how
        self._meter = Meter(source.n_rows)
        self.checkpoint: Checkpoint | None = None
        if how.checkpoint is not None:
            target.check_not_read(how.checkpoint, "checkpoint")
            of = {"command": command, **arguments}
            if command in _WRITE_ALONG:
                of["out"] = os.path.realpath(target.out or "")
            self.checkpoint = Checkpoint(how.checkpoint, of, source, resume=how.resume)
        self._context = ExitStack()

    def __enter__(self) -> "CommandRun":
        with ExitStack() as context:
            self._check = context.enter_context(interruptible())
            if self.checkpoint is not None:
                context.enter_context(self.checkpoint)
            self._context = context.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    @contextmanager
    def output(self) -> Iterator[BinaryIO]:
        """The file for what is written while the pool is read."""
        target, checkpoint = self._target, self.checkpoint
        if target.out is None or checkpoint is None:
            with target.written() as file:
                yield file
        else:
            resume = self.goes_on()
            with written_in_parts(
                target.out, checkpoint, target.recheck, resume=resume, keep_on_error=self.keeps
            ) as file:
                yield file

    def goes_on(self) -> bool:
        """Whether to go on from a checkpoint; not if the output written until then is gone."""
        out, checkpoint = self._target.out, self.checkpoint
        if out is None or checkpoint is None or not checkpoint.row:
            return False
        if not os.path.lexists(partial_path(out)):
            _log.warning("%s is gone: starting over", partial_path(out))
            checkpoint.forget()
            return False
        return True

    def keeps(self) -> bool:
        """Whether what was written is to stay where the run ends before its time."""
        return self.checkpoint is not None and self.checkpoint.exists

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
        meter.kth_score = lambda: getattr(reducer, "bar", None)
        meter.n_passes = passes
        if self.checkpoint is not None:
            meter.resume_at(self.checkpoint.row, self.checkpoint.passes)
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
                reducer, self._source, on_chunk, how.chunk_bytes, self.checkpoint,
                meter.begin_pass,
            )  # fmt: skip

    def finish(self, **outcome: Any) -> None:
        """Leaves run.json beside (or in) the output, says how it went, forgets the checkpoint."""
        reporter, meter, skipped = self._how.reporter, self._meter, self._source.skipped
        if (path := self._target.record) is not None:
            text = as_json(self._record(outcome), indent=2, default=str)
            try:
                with written_whole(path, self._target.check_record) as record:
                    record.write(text.encode() + b"\n")
            except ValueError as error:  # what came meanwhile; the result is there, and stays
                _log.warning("no record was written: %s", error)
        if self.checkpoint is not None:
            self.checkpoint.remove()
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
            "out": str(self._target.out),
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
