"""Progress on stderr: a bar on a terminal and in a notebook, else a line every 10 seconds.

Or JSON, a line each.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from fastal.base.text import as_json, shown

if TYPE_CHECKING:  # commands report before they import what takes seconds
    from fastal.base.reducer import Reducer

_SECONDS_A_LINE, _SECONDS_A_BAR = 10.0, 0.1  # between two lines, and two updates of a bar
_BAR_CELLS = 20


class Meter:
    """Counts rows and bytes, and computes the rate and the time left.

    Args:
        n_rows: the number of rows of the pool, None if it is not known.
        reducer: reads the pool; it has the k-th score and the most passes.

    Attributes:
        first_row: the row where a resumed run began, in its pass.
        done: completed rows of this pass, including those of an earlier run.
        passes: completed passes, including those of an earlier run.
        rows: completed rows of all passes of this run.
        bytes: bytes of these rows.
    """

    def __init__(self, n_rows: int | None, reducer: "Reducer[Any]") -> None:
        self.n_rows = n_rows
        self.first_row = 0
        self._reducer = reducer
        self.done = 0
        self.passes = 0
        self.rows = 0
        self.bytes = 0
        self._began = time.perf_counter()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the making of the meter until now, or until it was stopped."""
        return (self._ended or time.perf_counter()) - self._began

    def resume_at(self, row: int, passes: int) -> None:
        """Sets where a resumed run begins: the row, and the number of completed passes."""
        self.first_row = self.done = row
        self.passes = passes

    def count(self, rows: int, n_bytes: int) -> None:
        """Adds a completed chunk."""
        self.done += rows
        self.rows += rows
        self.bytes += n_bytes

    def begin_pass(self) -> None:
        """Counts a pass as completed and begins the next one."""
        self.done = 0
        self.passes += 1

    @property
    def n_passes(self) -> int:
        """How many passes over the pool are expected. A reducer may learn that as it goes."""
        return self._reducer.max_passes

    @property
    def total(self) -> int | None:
        """Rows of all passes together; None if that is not known."""
        return None if self.n_rows is None else self.n_rows * self.n_passes

    @property
    def total_done(self) -> int:
        """Completed rows of all passes together."""
        return self.passes * (self.n_rows or 0) + self.done

    def stop(self) -> None:
        """Stops the clock."""
        self._ended = time.perf_counter()

    def values(self) -> dict[str, Any]:
        """All figures by name, as they are logged in JSON."""
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
        kth = self._reducer.kth_score
        return found if kth is None else {**found, f"kth_{self._reducer.kth_name}": round(kth, 6)}

    def __str__(self) -> str:
        v = self.values()
        gb = self.bytes / 1e9
        line = (
            f"{self._pass()}{v['rows']:,} rows, {gb:.3g} GB in {self.seconds:.3g} s: "
            f"{v['rows_per_second']:,} rows/s, {gb / max(self.seconds, 1e-9):.3g} GB/s"
        )
        if "seconds_left" in v:
            line += f", {_clock(v['seconds_left'])} left"
        name = self._reducer.kth_name
        return line if f"kth_{name}" not in v else f"{line}, k-th {name} {v[f'kth_{name}']:.4g}"

    def brief(self) -> str:
        """The text next to a progress bar."""
        v = self.values()
        parts = [f"{self._pass()}{v['gb_per_second']:.3g} GB/s", f"{v['rows_per_second']:,} rows/s"]
        parts += [f"{_clock(v['seconds_left'])} left"] if "seconds_left" in v else []
        name = self._reducer.kth_name
        kth = [f"k-th {name} {v[f'kth_{name}']:.4f}"] if f"kth_{name}" in v else []
        return ", ".join(parts + kth)

    @property
    def share(self) -> str:
        """How much is done: in percent, or in rows if the number of all rows is not known."""
        return f"{self.total_done / self.total:.0%}" if self.total else f"{self.done:,} rows"

    def _pass(self) -> str:
        if self.n_passes == 1:
            return ""
        number = self.passes + 1
        return f"pass {number}, " if self._ended is None else f"{number} passes of "


class Reporter:
    """Reports on stderr.

    Args:
        quiet: report only warnings.
        as_json: write a JSON object per line instead of text.
    """

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self._quiet = quiet
        self._as_json = as_json

    def say(self, line: str, event: str, **values: Any) -> None:
        """Writes a line, unless the reporter is quiet."""
        if not self._quiet:
            self._write(line, event, values)

    def warn(self, line: str, event: str = "warning", **values: Any) -> None:
        """Writes a line, even if the reporter is quiet."""
        self._write(line, event, values)

    @contextmanager
    def progress(self, meter: Meter, *, bar: bool) -> Iterator[Callable[[int, int], None]]:
        """Shows progress during the block.

        Args:
            meter: counts the rows, and has the figures that are shown.
            bar: show a bar if stderr is a terminal or a notebook's; otherwise, a line now and then.

        Yields:
            A function to call with the rows and bytes of each completed chunk.
        """
        show_progress = self._lines
        if bar and not self._quiet and not self._as_json:
            if is_terminal(sys.stderr):
                show_progress = _bar
            elif is_notebook():
                show_progress = _notebook_bar
        with show_progress(meter) as show:

            def on_chunk(rows: int, n_bytes: int) -> None:
                meter.count(rows, n_bytes)
                show()

            yield on_chunk
        meter.stop()

    @contextmanager
    def warnings(self, spelled: Callable[[str], str] = str) -> Iterator[None]:
        """Writes what fastal logs during the block.

        Args:
            spelled: rewrites each message for the surface where it appears, such as the command
                line with its spelling of options.
        """
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
                share = f"{meter.share}: " if meter.total else ""
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
    """Prints a line on stderr, with control characters escaped. If that fails, it is silent."""
    if sys.stderr is None:
        return
    try:
        print(shown(line), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:  # a full disk, or a closed pipe: from now on, nothing is printed
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
            os.dup2(nowhere.fileno(), 2)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal."""
    return stream is not None and stream.isatty()


def is_notebook() -> bool:
    """Whether this Python is the kernel of a notebook, whose stderr is shown but is no terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def _clock(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


@contextmanager
def _bar(meter: Meter) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    share, rate = TextColumn("{task.fields[share]:>4}"), TextColumn("{task.fields[brief]}")
    with Progress(
        BarColumn(_BAR_CELLS), share, rate, console=console, transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task("", total=meter.total, completed=meter.total_done, share="", brief="")

        def show() -> None:
            bar.update(
                task, total=meter.total, completed=meter.total_done, share=meter.share,
                brief=meter.brief(),
            )  # fmt: skip

        with _now_and_then(meter, show) as show_if_due:
            yield show_if_due


@contextmanager
def _notebook_bar(meter: Meter) -> Iterator[Callable[[], None]]:
    """A bar of text on one line, which each update overwrites.

    The bars of rich want ipywidgets in a notebook.
    """
    width = 0

    def show() -> None:
        nonlocal width
        done = round(_BAR_CELLS * meter.total_done / meter.total) if meter.total else 0
        line = f"{'━' * done:╌<{_BAR_CELLS}} {meter.share:>4} {meter.brief()}"
        print(f"\r{line:<{width}}", end="", file=sys.stderr, flush=True)  # noqa: T201
        width = len(line)

    try:
        with _now_and_then(meter, show) as show_if_due:
            yield show_if_due
    finally:
        print(f"\r{'':{width}}\r", end="", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _now_and_then(meter: Meter, show: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """A function that calls `show` if its last call was long ago, or if all rows are done.

    At the end, `show` is called if the number of passes has turned out to be another.
    """
    shown, total = 0.0, meter.total

    def maybe() -> None:
        nonlocal shown, total
        if meter.seconds - shown >= _SECONDS_A_BAR or meter.total_done == meter.total:
            shown, total = meter.seconds, meter.total
            show()

    yield maybe
    if meter.total != total:
        show()
