"""Commands over predictions of labelled rows: `fit-temperature`."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.help import Command, pool_option
from fastal.cli.options import (
    ON_INVALID,
    POOL,
    RUNNING,
    loading,
    reports_bad_input,
    run_over,
)


@click.command(
    "fit-temperature",
    cls=Command,
    examples=("fastal fit-temperature logits.npy --labels labels.npy",),
)
@pool_option(
    "--labels",
    type=click.Path(path_type=Path),
    required=True,
    help="File of the rows' classes, numbered from 0: .npy with an integer per row; or .parquet, "
    ".csv or .npy with a column cluster or group. Rows are matched by id if file and pool have "
    "ids, else by row number. Rows without a label (nulls of a .parquet file) are left out.",
)
@pool_option(
    "--kind",
    type=click.Choice(["logits", "log_probs"]),
    default="logits",
    show_default=True,
    help="What the pool holds: logits or log-probabilities.",
)
@POOL
@ON_INVALID
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
