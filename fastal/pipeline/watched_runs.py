"""The runs of a strategy of several stages, where a command watches over it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fastal.base.reducer import Reducer, Result
from fastal.pipeline.checkpoint import Checkpoint
from fastal.pipeline.drive import ReadPass
from fastal.pipeline.interrupts import interruptible
from fastal.pipeline.progress import Meter, Reporter
from fastal.pipeline.reported_run import reported_run
from fastal.sources import Source


class WatchedRuns:
    """Runs that report to a command, and that a signal stops between two chunks.

    Args:
        reporter: writes the progress.

    Attributes:
        reporter: the argument.
        meters: of the runs so far, in their order.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.meters: list[Meter] = []

    def run(
        self,
        reducer: Reducer[Result],
        source: Source,
        chunk_bytes: int | None,
        checkpoint: Checkpoint | None,
        read: ReadPass,
    ) -> Result:
        """The result of a reducer over a source; see `reported_run`.

        Raises:
            Interrupted: a signal came; the checkpoint has the state.
        """
        meter = Meter(source.n_rows, reducer)
        self.meters.append(meter)
        with interruptible() as check:
            found = reported_run(
                reducer, source, chunk_bytes, checkpoint, read, meter=meter, reporter=self.reporter,
                after_chunk=check,
            )  # fmt: skip
            check()  # a signal that came after the last chunk
        self.reporter.say(str(meter), "stage", **meter.values())
        return found


_watched: ContextVar[WatchedRuns | None] = ContextVar("watched", default=None)


@contextmanager
def watching(reporter: Reporter) -> Iterator[WatchedRuns]:
    """In the block, all runs over pools are watched.

    Args:
        reporter: writes their progress.
    """
    watched = WatchedRuns(reporter)
    before = _watched.set(watched)
    try:
        yield watched
    finally:
        _watched.reset(before)


def watched_runs() -> WatchedRuns | None:
    """The runs that a command watches; None if none does."""
    return _watched.get()
