"""Commands of uncertainty: `select` and `score`."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.options import (
    GROUPS,
    PICKS_OUT,
    POOL,
    RUNNING,
    SCORING,
    K,
    check_quotas,
    reports_bad_input,
    run_over,
)
from fastal.commands.uncertainty import score_to_file, select_to_file
from fastal.ops.formulas import KINDS, UNCERTAINTY_SCORES
from fastal.selection.noise import NOISES

_KIND = click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="logits",
    show_default=True,
    help="What the pool holds.",
)


@click.command()
@POOL
@K
@click.option("--by", type=click.Choice(UNCERTAINTY_SCORES), default="entropy", show_default=True)
@GROUPS
@click.option("--group-by-prediction", is_flag=True, help="Groups are predicted classes.")
@click.option(
    "--noise",
    type=click.Choice(NOISES),
    help="Pick at random, the more uncertain the likelier: stochastic batch acquisition.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--beta", type=float, default=1.0, show_default=True, help="The larger, the less random."
)
@_KIND
@SCORING
@PICKS_OUT
@RUNNING
@reports_bad_input
def select(
    pool: tuple[str, ...], group_column: str | None, group_by_prediction: bool, **options: Any
) -> None:
    """Print the k most uncertain rows as CSV: rank, row, score, and id and group if there are."""
    check_quotas(options, group_column or group_by_prediction)
    run_over(select_to_file, pool, {**options, "predicted": group_by_prediction}, group_column)


@click.command()
@POOL
@click.option(
    "--by",
    type=click.Choice(UNCERTAINTY_SCORES),
    multiple=True,
    default=UNCERTAINTY_SCORES,
    help="A score to write; may be given several times. Default: all four.",
)
@_KIND
@SCORING
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A .npy file (a field a score) or a .csv file; default: CSV on standard output.",
)
@RUNNING
@reports_bad_input
def score(pool: tuple[str, ...], by: tuple[str, ...], **options: Any) -> None:
    """Write the scores of every row; 1 is most uncertain."""
    run_over(score_to_file, pool, {**options, "by": tuple(dict.fromkeys(by))})
