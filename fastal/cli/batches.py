"""Commands of batches over embeddings: `badge` and `typiclust`."""

from functools import partial
from typing import Any

import click

from fastal.cli.help import Command, selection_option
from fastal.cli.model_output import CLASS_KIND
from fastal.cli.options import (
    CHUNKS_AND_MESSAGES,
    FAST,
    LABELLED,
    PICKS_OUT,
    POOL,
    ROWS,
    RUNNING,
    SCORING,
    SEED,
    K,
    loading,
    memory_option,
    reports_bad_input,
    run_over,
)
from fastal.cli.other_pool import OtherPool
from fastal.cli.same_rows import popped, same_rows


@click.command(
    cls=Command,
    examples=("fastal badge logits.npy --embeddings embeddings.npy --k 100 --out picks.csv",),
)
@K
@SEED
@ROWS
@CLASS_KIND
@POOL
@same_rows("embeddings", "the input of the model's last layer")
@SCORING
@PICKS_OUT
@memory_option(
    1024,
    "MiB for rows. If all rows fit, the pools are read once, otherwise once for each pick.",
    least=0,
)
@RUNNING
@reports_bad_input
def badge(pool: tuple[str, ...], **options: Any) -> None:
    """Pick k rows that are uncertain and differ, by their gradients (BADGE).

    The gradient of a row is what it would change in the last layer, if its prediction were its
    label. Each pick is drawn: the farther a gradient is from those picked before, the likelier.
    With ids, both pools need the same ids in the same order. Writes CSV: rank, row, score (the
    distance to the nearest picked gradient), and the id if the pool has ids.
    """
    with loading():
        from fastal.commands.combined import strategy_to_file
        from fastal.diversity import badge as strategy
    others = {"embeddings": popped(options, "embeddings")}
    run_over(partial(strategy_to_file, "badge", strategy), pool, options, other_pools=others)


@click.command(
    cls=Command,
    examples=("fastal typiclust embeddings.npy --k 100 --out picks.csv",),
)
@K
@LABELLED
@selection_option(
    "--neighbours",
    type=int,
    default=20,
    show_default=True,
    help="Number of nearest neighbours in its cluster that a row is compared with.",
)
@selection_option(
    "--max-clusters",
    type=int,
    default=500,
    show_default=True,
    help="Largest number of clusters. There are as many as labelled rows and picks, if not more.",
)
@SEED
@ROWS
@POOL
@SCORING
@PICKS_OUT
@memory_option(1024, "MiB for rows of clusters. The largest cluster that is picked from must fit.")
@FAST
@CHUNKS_AND_MESSAGES
@reports_bad_input
def typiclust(pool: tuple[str, ...], labelled: tuple[str, ...], **options: Any) -> None:
    """Pick the most typical rows of the k largest clusters without labels (TypiClust).

    It is for the first labels, when uncertain rows are of little use. Writes CSV: rank, row, score
    (1 / the mean distance to the nearest neighbours), the id if the pool has ids, and the cluster
    as group.
    """
    with loading():
        from fastal.commands.combined import strategy_to_file
        from fastal.diversity import typiclust as strategy
    work = partial(strategy_to_file, "typiclust", strategy)
    others = {"labelled": OtherPool(labelled, has_same_columns=True)}
    run_over(work, pool, options, other_pools=others)
