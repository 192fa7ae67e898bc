"""Progress on stderr: a bar on a terminal, elsewhere a line every 10 seconds, or JSON."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fastal.base.text import as_json, shown

_SECONDS_A_LINE, _SECONDS_A_BAR = 10.0, 0.1


class Meter:
    """Rows and bytes so far, the rate, and the time left.

    Args:
        n_rows: of the pool, None if that is not known.

    Attributes:
        n_passes: how often the pool is read, at most.
        first_row: where a resumed run began, in its pass.
        bar: tells the k-th best score so far, None before there is one.
        done: rows of this pass that are done with, those of an earlier run included.
        passes: how many passes are over, those of an earlier run included.
        rows: of all passes of this run.
        bytes: of these rows.
    """

    def __init__(self, n_rows: int | None) -> None:
        self.n_rows = n_rows
        self.n_passes = 1
        self.first_row = 0
        self.bar: Callable[[], float | None] = lambda: None
        self.done = 0
        self.passes = 0
        self.rows = 0
        self.bytes = 0
        self._began = time.perf_counter()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """Since the meter was made, until it was stopped."""
        return (self._ended or time.perf_counter()) - self._began

    def go_on(self, row: int, passes: int) -> None:
        """A resumed run begins at this row, after so many passes."""
        self.first_row = self.done = row
        self.passes = passes

    def count(self, rows: int, n_bytes: int) -> None:
        """A chunk is done."""
        self.done += rows
        self.rows += rows
        self.bytes += n_bytes

    def begin_pass(self) -> None:
        """The pool is read once more."""
        self.done = 0
        self.passes += 1

    @property
    def total(self) -> int | None:
        """Rows of all passes; None if that is not known."""
        return None if self.n_rows is None else self.n_rows * self.n_passes

    @property
    def total_done(self) -> int:
        """Rows of all passes that are done with."""
        return self.passes * (self.n_rows or 0) + self.done

    def stop(self) -> None:
        """The work is done."""
        self._ended = time.perf_counter()

    def values(self) -> dict[str, Any]:
        """All that there is to say."""
        seconds = max(self.seconds, 1e-9)
        found: dict[str, Any] = {
            "rows": self.done,
            "of": self.n_rows,
            "bytes": self.bytes,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / seconds),
            "gb_per_second": round(self.bytes / seconds / 1e9, 3),
        }
        if self.n_passes > 1:
            found |= {"pass": self.passes + 1, "of_passes": self.n_passes}
        if self.total and self.rows and self._ended is None:
            found["seconds_left"] = round((self.total - self.total_done) * seconds / self.rows)
        bar = self.bar()
        return found if bar is None else {**found, "kth_score": round(bar, 6)}

    def __str__(self) -> str:
        v = self.values()
        gb = self.bytes / 1e9
        line = (
            f"{self._pass()}{v['rows']:,} rows, {gb:.3g} GB in {self.seconds:.3g} s: "
            f"{v['rows_per_second']:,} rows/s, {gb / max(self.seconds, 1e-9):.3g} GB/s"
        )
        if "seconds_left" in v:
            line += f", {_clock(v['seconds_left'])} left"
        return line if "kth_score" not in v else f"{line}, k-th score {v['kth_score']:.4g}"

    def brief(self) -> str:
        """What stands beside a bar."""
        v = self.values()
        parts = [f"{self._pass()}{v['gb_per_second']:.3g} GB/s", f"{v['rows_per_second']:,} rows/s"]
        parts += [f"{_clock(v['seconds_left'])} left"] if "seconds_left" in v else []
        return ", ".join(parts + ([f"k-th {v['kth_score']:.4f}"] if "kth_score" in v else []))

    def _pass(self) -> str:
        if self.n_passes == 1:
            return ""
        number = self.passes + 1
        return f"pass {number}, " if self._ended is None else f"{number} passes of "


class Reporter:
    """Says on stderr what goes on.

    Args:
        quiet: say nothing but warnings.
        as_json: a JSON object a line instead of text.
    """

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self._quiet = quiet
        self._as_json = as_json

    def say(self, line: str, event: str, **values: Any) -> None:
        """A line, unless nothing is to be said."""
        if not self._quiet:
            self._write(line, event, values)

    def warn(self, line: str, event: str = "warning", **values: Any) -> None:
        """A line, in any case."""
        self._write(line, event, values)

    @contextmanager
    def progress(self, meter: Meter, *, bar: bool) -> Iterator[Callable[[int, int], None]]:
        """The function that moves the meter on by the rows and bytes of a chunk, and shows it.

        Args:
            meter: what is shown.
            bar: a bar may stand on the terminal, if there is one.
        """
        bar = bar and not self._quiet and not self._as_json and is_terminal(sys.stderr)
        with (_bar if bar else self._lines)(meter) as show:

            def on_chunk(rows: int, n_bytes: int) -> None:
                meter.count(rows, n_bytes)
                show()

            yield on_chunk
        meter.stop()

    @contextmanager
    def warnings(self, spelled: Callable[[str], str] = str) -> Iterator[None]:
        """Says what is logged meanwhile, in the spelling of those who read it."""
        log, handler = logging.getLogger("fastal"), _Handler(self, spelled)
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)

    @contextmanager
    def _lines(self, meter: Meter) -> Iterator[Callable[[], None]]:
        shown = 0.0

        def show() -> None:
            nonlocal shown
            if meter.seconds - shown >= _SECONDS_A_LINE:
                shown = meter.seconds
                share = f"{meter.total_done / meter.total:.0%}: " if meter.total else ""
                self.say(f"{share}{meter}", "progress", **meter.values())

        yield show

    def _write(self, line: str, event: str, values: dict[str, Any]) -> None:
        if self._as_json:
            line = as_json({"event": event, **(values or {"message": line})})
        to_stderr(line)


class _Handler(logging.Handler):
    def __init__(self, reporter: Reporter, spelled: Callable[[str], str]) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter
        self._spelled = spelled

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.warn(self._spelled(record.getMessage()))


def to_stderr(line: str) -> None:
    """Prints a line for people, whatever names are in it; where it cannot be, the work goes on."""
    if sys.stderr is None:
        return
    try:
        print(shown(line), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:  # a full disk, or nobody reads: from now on, nothing is said
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
            os.dup2(nowhere.fileno(), 2)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches the stream."""
    return stream is not None and stream.isatty()


def _clock(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


@contextmanager
def _bar(meter: Meter) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    share, rate = TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[brief]}")
    with Progress(BarColumn(20), share, rate, console=console, transient=True) as bar:
        task = bar.add_task("", total=meter.total, completed=meter.total_done, brief="")
        shown = 0.0

        def show() -> None:
            nonlocal shown
            if meter.seconds - shown >= _SECONDS_A_BAR or meter.total_done == meter.total:
                shown = meter.seconds
                bar.update(task, completed=meter.total_done, brief=meter.brief())

        yield show
