"""Drives a reducer over a source and reports how far it is."""

from collections.abc import Callable

from fastal.base.reducer import Reducer, Result
from fastal.pipeline.checkpoint import Checkpoint
from fastal.pipeline.drive import ReadPass, run
from fastal.pipeline.progress import Meter, Reporter
from fastal.sources import Source
from fastal.sources.chosen_rows import ChosenRows


def reported_run(
    reducer: Reducer[Result],
    source: Source,
    chunk_bytes: int | None,
    checkpoint: Checkpoint | None,
    read: ReadPass,
    *,
    meter: Meter,
    reporter: Reporter,
    bar: bool = True,
    after_chunk: Callable[[], None] = lambda: None,
) -> Result:
    """The result of a reducer over a source, with progress on stderr.

    Args:
        reducer: as for `run`.
        source: as for `run`.
        chunk_bytes: as for `run`.
        checkpoint: as for `run`.
        read: as for `run`.
        meter: counts the rows.
        reporter: writes the progress.
        bar: as for `Reporter.progress`.
        after_chunk: called after each chunk; it may raise `Interrupted`.
    """
    if checkpoint is not None:
        row = checkpoint.row
        row = source.n_before(row) if isinstance(source, ChosenRows) else row
        meter.resume_at(row, checkpoint.passes)
    if meter.first_row:
        of_pass = f" of pass {meter.passes + 1}" if reducer.max_passes > 1 else ""
        line = f"resumed at row {meter.first_row:,}{of_pass}"
        reporter.say(line, "resumed", row=meter.first_row)
    with reporter.progress(meter, bar=bar) as count:

        def on_chunk(rows: int, n_bytes: int) -> None:
            count(rows, n_bytes)
            after_chunk()

        return run(reducer, source, chunk_bytes, checkpoint, on_chunk, meter.begin_pass, read)
