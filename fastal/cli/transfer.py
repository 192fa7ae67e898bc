"""Commands of transfer learning: `transfer-uncertainty`, `transfer-representative`, `atlas`."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.combine_options import run_strategy
from fastal.cli.help import Command, selection_option
from fastal.cli.options import (
    CHUNKS_AND_MESSAGES,
    GROUPS,
    K_OR_PER_GROUP,
    PICKS_OUT,
    POOL,
    ROWS,
    RUNNING,
    SCORING,
    SEED,
    TIES_OPTION,
    K,
    check_quotas,
    reports_bad_input,
    with_options,
)
from fastal.cli.other_pool import OtherPool

_VALIDATION = with_options(
    selection_option(
        "--validation",
        "validation_hidden",
        multiple=True,
        required=True,
        help="File of hidden states of labelled rows that the model was not trained on. Repeat the "
        "option for several files.",
    ),
    selection_option(
        "--correct",
        "is_correct",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="File that says for each row of --validation whether the model predicts its label: "
        ".npy of bools; or .csv or .parquet with a column is_correct, in the order of the rows.",
    ),
)
_SMALL_MODEL = with_options(
    selection_option(
        "--model",
        type=click.Choice(["logistic", "network"]),
        default="logistic",
        show_default=True,
        help="Small model: logistic regression, or a network with one hidden layer.",
    ),
    selection_option(
        "--l2",
        type=float,
        default=1.0,
        show_default=True,
        help="Penalty on the small model's weights. Larger values make a simpler model.",
    ),
    SEED,
)


@click.command(
    "transfer-uncertainty",
    cls=Command,
    examples=(
        "fastal combine transfer-uncertainty hidden.npy --validation v.npy --correct c.npy --k 100",
    ),
)
@K_OR_PER_GROUP
@_VALIDATION
@_SMALL_MODEL
@GROUPS
@TIES_OPTION
@ROWS
@POOL
@SCORING
@PICKS_OUT
@RUNNING
@reports_bad_input
def transfer_uncertainty(pool: tuple[str, ...], group_column: str | None, **options: Any) -> None:
    """Pick the k rows that the model most probably gets wrong.

    The POOL holds hidden states of the model. A small model learns which validation rows the model
    got wrong. How well it does so is printed as held-out AUC: 0.5 is chance, 1 is best. Writes CSV:
    rank, row, score (the probability of "wrong"), then the id and the group if the pool has them.
    """
    check_quotas(options, {"--group-column": group_column})
    _with_validation("transfer_uncertainty", pool, options, group_column)


@click.command(
    "transfer-representative",
    cls=Command,
    examples=("fastal combine transfer-representative hidden.npy --labelled labelled.npy --k 100",),
)
@K_OR_PER_GROUP
@selection_option(
    "--labelled",
    "labelled_hidden",
    multiple=True,
    required=True,
    help="File of hidden states of the labelled rows. Repeat the option for several files.",
)
@selection_option(
    "--pool-rows",
    type=int,
    default=10_000,
    show_default=True,
    help="Number of random rows of the pool to train the small model on.",
)
@_SMALL_MODEL
@GROUPS
@TIES_OPTION
@ROWS
@POOL
@SCORING
@PICKS_OUT
@RUNNING
@reports_bad_input
def transfer_representative(
    pool: tuple[str, ...],
    labelled_hidden: tuple[str, ...],
    group_column: str | None,
    **options: Any,
) -> None:
    """Pick the k rows that are least like the labelled rows.

    The POOL holds hidden states of the model. A small model learns to tell random rows of the pool
    from labelled rows. How well it does so is printed as held-out AUC: 0.5 is chance, 1 is best.
    Writes CSV: rank, row, score (the probability of "pool"), then the id and the group if the pool
    has them.
    """
    check_quotas(options, {"--group-column": group_column})
    others = {"labelled_hidden": OtherPool(labelled_hidden, has_same_columns=True)}
    run_strategy("transfer_representative", pool, options, others, group_column)


@click.command(
    cls=Command,
    examples=("fastal combine atlas hidden.npy --validation v.npy --correct c.npy --k 100",),
)
@K
@_VALIDATION
@selection_option(
    "--per-iteration",
    type=int,
    default=10,
    show_default=True,
    help="Number of rows to pick in an iteration. Each reads the pool once.",
)
@_SMALL_MODEL
@TIES_OPTION
@ROWS
@POOL
@SCORING
@PICKS_OUT
@CHUNKS_AND_MESSAGES
@reports_bad_input
def atlas(pool: tuple[str, ...], **options: Any) -> None:
    """Pick rows that the model probably gets wrong, in iterations that adapt.

    Each iteration counts the picks before it as rows that the model gets right, and trains the
    small model of `transfer-uncertainty` anew. The held-out AUC of the first is printed. Writes
    CSV: rank, row, score (the probability of "wrong"), and the id if the pool has ids.
    """
    _with_validation("atlas", pool, options)


def _with_validation(
    strategy: str, pool: tuple[str, ...], options: dict[str, Any], group_column: str | None = None
) -> None:
    """Runs a strategy whose small model learns from validation rows."""
    validation = OtherPool(options.pop("validation_hidden"), has_same_columns=True)
    run_strategy(strategy, pool, options, {"validation_hidden": validation}, group_column)
