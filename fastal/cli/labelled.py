"""The command about labels: `label-quality`."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.help import Command, output_option, selection_option
from fastal.cli.options import (
    KIND,
    POOL,
    RUNNING,
    SCORING,
    loading,
    reports_bad_input,
    run_over,
)


@click.command(
    "label-quality",
    cls=Command,
    examples=("fastal label-quality logits.npy --labels labels.csv --out issues.csv",),
)
@selection_option(
    "--labels",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File of the label of each row, from 0 to the number of classes - 1: .parquet, .csv or "
    ".npy, with a column label, cluster or group. An empty field is a row without a label. Rows "
    "are matched by id if file and pool have ids, else by row number.",
)
@KIND
@POOL
@SCORING
@output_option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write the label issues to: .csv. Default: CSV on standard output.",
)
@RUNNING
@reports_bad_input
def label_quality(pool: tuple[str, ...], **options: Any) -> None:
    """Write which given labels are likely wrong, the worst first.

    Label issues are found by confident learning; the pool is read twice. Writes CSV: rank, row,
    label, suggested (the class that the row confidently belongs to), self_confidence (the
    probability of the label), normalized_margin, and the id if the pool has ids. Small scores mean
    that the label is likely wrong.
    """
    with loading():
        from fastal.commands.labelled import label_quality_to_file
    run_over(label_quality_to_file, pool, options)
