"""What every command does around its work: progress, resuming, whole outputs, records."""

import logging
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Generic

import fastal
from fastal.base.reducer import Reducer, Result
from fastal.base.text import as_json
from fastal.output.atomic import written_whole
from fastal.output.resumable import partial_path, written_in_parts
from fastal.output.target import Target, is_among
from fastal.picks.files import PICKS_SUFFIXES
from fastal.picks.tool_export import ToolExport
from fastal.pipeline.checkpoint import Checkpoint
from fastal.pipeline.engine import engine_for
from fastal.pipeline.interrupts import interruptible
from fastal.pipeline.progress import Meter, Reporter
from fastal.pipeline.reported_run import reported_run
from fastal.pipeline.run_on_pool import narrow
from fastal.pipeline.run_options import RunOptions
from fastal.sources.files import Files
from fastal.sources.source import Skipped, fingerprint_digest

_log = logging.getLogger("fastal")
# Commands that write their output while the pool is read.
_WRITE_ALONG = ("score", "assign", "convert")


@dataclass(frozen=True)
class CommandOptions(RunOptions):
    """How a command is run, and over which rows.

    Attributes:
        reporter: writes progress and messages.
        export: how picks are written for an annotation tool; None: as the suffix of the file says.
    """

    reporter: Reporter = field(default_factory=Reporter)
    export: ToolExport | None = None

    @property
    def picks_suffixes(self) -> tuple[str, ...]:
        """The suffixes that a file of picks may have."""
        return PICKS_SUFFIXES if self.export is None else (self.export.suffix,)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; "none" if not installed."""
    found = {"fastal": fastal.__version__, "python": platform.python_version()}
    return found | {package: _version(package) for package in ("torch", "triton", "numpy")}


class CommandRun(Generic[Result]):
    """A command under way: resumes, reports, and leaves a record.

    It is a context. The first signal stops `run` between chunks; it does not interrupt the short
    steps after `run`. A second signal stops at once.

    Args:
        command: its name.
        reducer: what it runs over the pool.
        source: the pool.
        target: what it writes.
        options: how it is run.

    Attributes:
        checkpoint: None if the state is not saved.
    """

    def __init__(
        self,
        command: str,
        reducer: Reducer[Result],
        source: Files,
        target: Target,
        options: CommandOptions,
    ) -> None:
        self._command = command
        self._reducer = reducer
        self._source = source
        check_not_picks(target.out, exclude=options.exclude, among=options.among)
        self._read = narrow(reducer, source, options)
        self._target = target
        self._options = options
        self._meter = Meter(self._read.n_rows, reducer)
        self.checkpoint: Checkpoint | None = None
        if options.checkpoint is not None:
            target.check_not_read(Path(options.checkpoint), "checkpoint")
            of = {"command": command, **reducer.bound_to()}
            if command in _WRITE_ALONG:
                of["out"] = os.path.realpath(target.out or "")
            self.checkpoint = Checkpoint(options.checkpoint, of, source, resume=options.resume)
        self._context = ExitStack()

    def __enter__(self) -> "CommandRun[Result]":
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
        """The file that is written while the pool is read."""
        target, checkpoint = self._target, self.checkpoint
        if target.out is None or checkpoint is None:
            with target.written() as file:
                yield file
        else:
            resume = self.continues()
            with written_in_parts(
                target.out,
                checkpoint,
                target.recheck,
                resume=resume,
                keep_on_error=self.keeps_output,
            ) as file:
                yield file

    def continues(self) -> bool:
        """Whether the run continues from a checkpoint; it cannot if the partial output is gone."""
        out, checkpoint = self._target.out, self.checkpoint
        if out is None or checkpoint is None or not checkpoint.row:
            return False
        if not os.path.lexists(partial_path(out)):
            _log.warning("%s is gone: starting over", partial_path(out))
            checkpoint.forget()
            return False
        return True

    def keeps_output(self) -> bool:
        """Whether the partial output stays if the run ends early, for a later run to continue."""
        return self.checkpoint is not None and self.checkpoint.exists

    def run(self, *, writes_to_terminal: bool = False) -> Result:
        """Runs the reducer over the pool, with progress.

        Args:
            writes_to_terminal: whether the output goes to the terminal; then there is no bar.
        """
        options, reporter = self._options, self._options.reporter
        engine = engine_for(options.engine)
        with engine.opened(self._reducer, self._read, reporter) as read:
            return reported_run(
                self._reducer, self._read, options.chunk_bytes, self.checkpoint, read,
                meter=self._meter, reporter=reporter, bar=not writes_to_terminal,
                after_chunk=self._check,
            )  # fmt: skip

    def finish(self, **outcome: Any) -> None:
        """Writes the record, reports the outcome, removes the checkpoint."""
        reporter, meter, skipped = self._options.reporter, self._meter, self._source.skipped
        write_record(self._target, self._record(outcome))
        if self.checkpoint is not None:
            self.checkpoint.remove()
        how = f" ({outcome['backend']})" if outcome.get("backend") else ""
        invalid = outcome.get("invalid")
        left_out = f", {invalid:,} invalid rows left out" if invalid else ""
        values = {**meter.values(), **outcome, "skipped": len(skipped)}
        reporter.say(f"{meter}{how}{left_out}", "done", **values)
        report_skipped(reporter, skipped)

    def _record(self, outcome: dict[str, Any]) -> dict[str, Any]:
        meter = self._meter
        arguments = self._reducer.bound_to()
        return {
            **what_was_read(self._command, arguments, self._source, self._target, self._options),
            "rows": meter.done,
            "passes": meter.passes + 1,
            "resumed_at": meter.first_row,
            "bytes": meter.bytes,
            "seconds": meter.seconds,
            **outcome,
            "versions": versions(),
        }


def what_was_read(
    command: str,
    arguments: dict[str, Any],
    source: Files,
    target: Target,
    options: CommandOptions,
) -> dict[str, Any]:
    """The first fields of a record: what a command did, with which pool and files."""
    pool = [
        {"file": str(f.file), "first_row": n, "rows": f.n_rows}
        for f, n in zip(source.files, source.starts, strict=False)
    ]
    return {
        "command": command,
        "arguments": arguments,
        "columns": source.columns._asdict(),
        "items": [str(path) for path in getattr(source, "described_by", ())],
        "exclude": [str(path) for path in options.exclude or ()],
        "among": [str(path) for path in options.among or ()],
        "out": str(target.out),
        "pool": pool,
        "pool_rows": source.n_rows,
        "pool_fingerprint": fingerprint_digest(source),
        "skipped": [skipped._asdict() for skipped in source.skipped],
    }


def write_record(target: Target, record: dict[str, Any]) -> None:
    """Writes a record where the target has one."""
    if target.record is None:
        return
    text = as_json(record, indent=2, default=str)
    try:
        with written_whole(target.record, target.check_record) as file:
            file.write(text.encode() + b"\n")
    except ValueError as error:  # a file that came meanwhile; the result stays
        _log.warning("no record was written: %s", error)


def report_skipped(reporter: Reporter, skipped: Iterable[Skipped]) -> None:
    """Names files that were skipped."""
    for file, from_row, reason in skipped:
        where = f" from row {from_row} on" if from_row else ""
        line = f"skipped {file}{where}: {reason}"
        reporter.warn(line, "skipped", file=file, from_row=from_row, reason=reason)


def check_not_picks(out: Path | None, option: str = "out", **given: Sequence[Path] | None) -> None:
    """ValueError if the output, of an option, is one of the files of picks that options name."""
    for name, paths in given.items():
        if out is not None and is_among(Path(os.path.realpath(out)), paths or ()):
            raise ValueError(f"{option}: {out} is a file of {name}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
