"""Commands over predictions of labelled rows: `fit-temperature` and `label-quality`."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.help import Command, output_option, pool_option, selection_option
from fastal.cli.model_output import CLASS_KIND
from fastal.cli.options import (
    ENGINE,
    ON_INVALID,
    POOL,
    RUNNING,
    SCORING,
    TEMPERATURE,
    loading,
    reports_bad_input,
    run_over,
)

_LABELS = selection_option(
    "--labels",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File of the label of each row, from 0 to the number of classes - 1: .parquet, .csv or "
    ".npy, with a column label, cluster or group. An empty field or a null is a row without a "
    "label. Rows are matched by id if file and pool have ids, else by row number.",
)


@click.command(
    "fit-temperature",
    cls=Command,
    examples=("fastal fit-temperature logits.npy --labels labels.npy",),
)
@_LABELS
@pool_option(
    "--kind",
    type=click.Choice(["logits", "log_probs"]),
    default="logits",
    show_default=True,
    help="What the pool holds: logits or log-probabilities.",
)
@POOL
@ON_INVALID
@ENGINE
@RUNNING
@reports_bad_input
def fit_temperature(pool: tuple[str, ...], on_invalid: str, **options: Any) -> None:
    """Find the temperature that makes predictions fit labels best.

    Divide logits by the temperature before they are scored. The rows should not be those that the
    model was trained on. Prints one line of JSON: the temperature; the loss and the calibration
    error before and after; and how many rows were used or left out.
    """
    with loading():
        from fastal.commands.labelled import print_temperature
        from fastal.scoring.scoring_options import ScoringOptions
    run_over(print_temperature, pool, {**options, "scoring": ScoringOptions(on_invalid)})


@click.command(
    "label-quality",
    cls=Command,
    examples=("fastal label-quality logits.npy --labels labels.csv --out issues.csv",),
)
@_LABELS
@CLASS_KIND
@TEMPERATURE
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
