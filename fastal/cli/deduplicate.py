"""The command `deduplicate`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fastal.base.argument_values import KEEP, VALUE_SUFFIXES
from fastal.cli.help import Command, output_option, selection_option
from fastal.cli.k_means import FIT, check_fit, exactly_one, k_means_options
from fastal.cli.options import (
    CARRY,
    FAST,
    POOL,
    RUNNING,
    SCORING,
    TOOL_FORMAT,
    loading,
    memory_option,
    reports_bad_input,
    run_over,
    with_options,
)

_PICKS_FILE = click.Path(path_type=Path, dir_okay=False)
_ROWS = with_options(
    selection_option(
        "--exclude",
        type=_PICKS_FILE,
        multiple=True,
        help="File of rows that are not compared. They are neither kept nor dropped. The file is "
        ".csv, .jsonl, .parquet or .json, also as Label Studio, Prodigy, doccano and Argilla "
        "export it. Rows are matched by id if both have ids, otherwise by row number. Repeat the "
        "option for several files.",
    ),
    selection_option(
        "--among",
        type=_PICKS_FILE,
        multiple=True,
        help="File of the only rows that are compared, in the same formats.",
    ),
)


@click.command(
    cls=Command,
    examples=(
        "fastal deduplicate embeddings.npy --clusters 50 --out kept.csv --dropped dropped.csv",
        "fastal deduplicate embeddings.npy --clusters 50 --keep nearest --out kept.csv",
        (
            "fastal deduplicate embeddings.npy --clusters 50 --threshold 0.9 --threshold 0.95 "
            "--out 'kept-{threshold}.csv'"
        ),
    ),
)
@selection_option(
    "--threshold",
    type=float,
    multiple=True,
    default=(0.95,),
    show_default=True,
    help="Least cosine similarity of duplicates, from -1 to 1. Repeat the option for several "
    "thresholds in one run. Then --out is required, and the file names of --out and --dropped need "
    "{threshold}, as in kept-{threshold}.csv.",
)
@selection_option(
    "--keep",
    default="first",
    show_default=True,
    help="Which of several duplicates to keep. first: the first row in the pool. nearest or "
    "farthest: the row nearest to the centroid of the cluster, or farthest from it. random: a row "
    "that --seed draws. Name of a column: the row with the largest value in this column, which the "
    "output gets too. A .csv, .parquet or .npy file of values, such as `fastal score` writes for "
    "one score: the row with the largest value.",
)
@FIT
@_ROWS
@POOL
@SCORING
@output_option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write the kept rows to: .csv, .jsonl, .parquet, or .json (Label Studio tasks). "
    "Default: CSV on standard output.",
)
@output_option(
    "--dropped",
    type=click.Path(path_type=Path),
    help="File to write the dropped rows to, in one of the same formats. --exclude of another "
    "command takes it.",
)
@TOOL_FORMAT
@CARRY
@memory_option(
    1024, "MiB for rows of clusters that are compared at once. The largest cluster must fit."
)
@FAST
@RUNNING
@reports_bad_input
def deduplicate(pool: tuple[str, ...], carry: str | None, **options: Any) -> None:
    """Write the rows that repeat no other row, and those that do.

    A row is dropped if its similarity to an earlier row of its cluster is at least --threshold.
    Earlier means first in the order of --keep. Give --clusters to find clusters in the pool, or
    --centroids to use given ones. Writes CSV of the kept rows: rank, row, score (the number of rows
    that it stands for, including itself), the id if the pool has ids, and cluster. The dropped rows
    have their similarity as score, and more columns: of (the row that it repeats), kept (the row
    that stands for it), and the ids of both.
    """
    exactly_one({"--clusters": options["n_clusters"], "--centroids": options["centroids"]})
    keep = options["keep"]
    check_fit(options, draws=keep == "random", seeded="--clusters or --keep random")
    is_column = keep not in KEEP and Path(keep).suffix not in VALUE_SUFFIXES
    if is_column and (not keep or "," in keep):
        raise ValueError(_wanted(keep))
    carried = [] if carry is None else [name.strip() for name in carry.split(",")]
    is_added = is_column and keep not in carried
    if is_added:
        carry = ",".join([*carried, keep])
    with loading():
        from fastal.commands.deduplicate import deduplicate_to_file
    options["how"] = k_means_options(options)
    with _naming(keep, is_added=is_added):
        run_over(deduplicate_to_file, pool, {**options, "carry": carry})


@contextmanager
def _naming(keep: str, *, is_added: bool) -> Iterator[None]:
    """A context in which errors about a column that --keep has added to --carry name --keep."""
    try:
        yield
    except ValueError as error:
        reason = str(error)
        if any(f"no {what} {keep!r}" in reason for what in ("array", "column")):
            raise ValueError(f"{_wanted(keep)}: {reason}") from error
        if is_added and reason.startswith("carry: ") and repr(keep) in reason:
            raise ValueError(f"keep: {reason.removeprefix('carry: ')}") from error
        raise


def _wanted(keep: str) -> str:
    return f"keep: wanted one of {', '.join(KEEP)}, a column, or a file of values, got {keep!r}"
