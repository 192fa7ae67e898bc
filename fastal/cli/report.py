"""The command `report`."""

from pathlib import Path
from typing import Any

import click

from fastal.base.argument_values import CLASS_KINDS, UNCERTAINTY_SCORES
from fastal.cli.help import (
    Command,
    output_option,
    pool_option,
    running_option,
    selection_option,
)
from fastal.cli.options import TEMPERATURE, check_used, loading, reports_bad_input, spelled
from fastal.pipeline.progress import Reporter


@click.command(
    cls=Command,
    examples=(
        "fastal report run --out report.html",
        "fastal report picks.csv --pool logits.npy --embeddings x.npy --out report.html",
    ),
)
@click.argument("run", nargs=-1, required=True, metavar="RUN...")
@selection_option(
    "--by",
    type=click.Choice(UNCERTAINTY_SCORES),
    help="Score of the map of three classes. Default: the score of the picks, if it is one of "
    "these, else margin.",
)
@pool_option(
    "--pool",
    multiple=True,
    help="Predictions of the pool: a file, a folder or a glob. Repeat the option for several. The "
    "page then shows the scores and the probabilities.",
)
@pool_option("--column", help="Array or column of --pool to read, if a file holds several.")
@pool_option(
    "--kind",
    type=click.Choice(CLASS_KINDS),
    default="logits",
    show_default=True,
    help="What --pool holds.",
)
@TEMPERATURE
@pool_option(
    "--embeddings",
    multiple=True,
    help="Embeddings of the pool, in the same order. The page then shows a map of them.",
)
@pool_option("--embeddings-column", help="Array or column of --embeddings to read.")
@output_option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The .html file to write.",
)
@output_option("--title", default="fastal report", show_default=True, help="Heading of the page.")
@running_option("--quiet", is_flag=True, help="Print no progress and no summary.")
@reports_bad_input
def report(
    run: tuple[str, ...],
    out: Path,
    pool: tuple[str, ...],
    column: str | None,
    embeddings: tuple[str, ...],
    embeddings_column: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Write one HTML page that shows picks, scores and learning curves.

    RUN is a file of picks, a file of scores that `fastal score` wrote, the .csv file of a
    simulation, a folder with such files, or several of these. Files are recognised by what they
    hold. What was used and what was left out is printed.

    The page needs no network and no other file, except for images that are large or have a URL.
    Picks are matched with --pool and --embeddings by row number.
    """
    for argument in ("by", "column", "kind", "temperature"):
        check_used(argument, pool, "--pool")
    check_used("embeddings_column", embeddings, "--embeddings")
    with loading():
        from fastal.base.errors import prefixing_errors
        from fastal.report.page.write_report import write_report
        from fastal.sources import open_pool
    reporter = Reporter(quiet=quiet)
    opened: dict[str, Any] = {"pool": None, "embeddings": None}
    for name, paths, of in (("pool", pool, column), ("embeddings", embeddings, embeddings_column)):
        if paths:
            with prefixing_errors(name):
                opened[name] = open_pool(list(paths), column=of)
    with reporter.warnings(spelled):
        lines = write_report(list(run), out, **opened, **options, progress=not quiet)
    for line in lines:
        reporter.say(line, "input")
