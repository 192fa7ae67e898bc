"""Progress on stderr: a bar on a terminal, a plain line every 10 seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_SECONDS_A_LINE = 10.0


class Meter:
    """Rows and bytes so far, and the rate."""

    def __init__(self, n_rows: int | None) -> None:
        self.n_rows = n_rows
        self.rows = 0
        self.bytes = 0
        self._began = time.perf_counter()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """Since the meter was made, until it was stopped."""
        return (self._ended or time.perf_counter()) - self._began

    def stop(self) -> None:
        """The work is done."""
        self._ended = time.perf_counter()

    def __str__(self) -> str:
        seconds = max(self.seconds, 1e-9)
        return (
            f"{self.rows:,} rows, {self.bytes / 1e9:.3g} GB in {seconds:.3g} s: "
            f"{self.rows / seconds:,.0f} rows/s, {self.bytes / seconds / 1e9:.3g} GB/s"
        )


@contextmanager
def progress(meter: Meter, *, bar: bool) -> Iterator[Callable[[int, int], None]]:
    """The function that moves the meter on by the rows and bytes of a chunk, and shows it."""
    with (_bar if bar else _lines)(meter) as show:

        def on_chunk(rows: int, n_bytes: int) -> None:
            meter.rows += rows
            meter.bytes += n_bytes
            show()

        yield on_chunk
    meter.stop()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches the stream."""
    return stream is not None and stream.isatty()


def say(line: str) -> None:
    """A line to standard error, if that is open."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _lines(meter: Meter) -> Iterator[Callable[[], None]]:
    shown = 0.0

    def show() -> None:
        nonlocal shown
        if meter.seconds - shown >= _SECONDS_A_LINE:
            shown = meter.seconds
            share = f"{meter.rows / meter.n_rows:.0%}: " if meter.n_rows else ""
            say(f"{share}{meter}")

    yield show


@contextmanager
def _bar(meter: Meter) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    share, rate = TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[meter]}")
    columns = (BarColumn(), share, TimeRemainingColumn(), rate)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=meter.n_rows, meter=meter)
        yield lambda: bar.update(task, completed=meter.rows)
