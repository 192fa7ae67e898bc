"""The group `combine`: a command for each strategy of `fastal.combine`."""

from functools import partial
from typing import Any

import click

from fastal.base.argument_values import SELECTION_SCORES
from fastal.cli.combine_options import SHARE, run_strategy
from fastal.cli.help import HELP_NAMES, Command, Group, selection_option
from fastal.cli.model_output import OUTPUT
from fastal.cli.options import (
    CLUSTERS,
    PICKS_OUT,
    POOL,
    ROWS,
    RUNNING,
    SCORING,
    SEED,
    K,
    check_used,
    loading,
    reports_bad_input,
    run_over,
    with_options,
)
from fastal.cli.other_pool import OtherPool, without_names
from fastal.cli.same_rows import popped, same_rows
from fastal.cli.transfer import atlas, transfer_representative, transfer_uncertainty

_BY = selection_option(
    "--by",
    type=click.Choice(SELECTION_SCORES),
    default="margin",
    show_default=True,
    help="Score of uncertainty, as for `fastal select`.",
)
_LABELLED = selection_option(
    "--labelled",
    multiple=True,
    help="File of embeddings of the labelled rows, with the columns of --embeddings. Repeat the "
    "option for several files.",
)
_VALIDATION = selection_option(
    "--validation",
    multiple=True,
    required=True,
    help="File of activations on validation data, with the columns of --activations. Repeat the "
    "option for several files.",
)
_EMBEDDINGS = same_rows("embeddings", "embeddings")
_TO_FILES = with_options(SCORING, PICKS_OUT, RUNNING)


@click.group(cls=Group, context_settings=HELP_NAMES)
def combine() -> None:
    """Pick rows by uncertainty and diversity together, or by transfer learning.

    Each strategy reads a POOL, and most read a second pool of the same rows. Run `fastal combine
    STRATEGY --help` for the options of a strategy and an example.
    """


@click.command(
    "clustered-uncertainty",
    cls=Command,
    examples=(
        "fastal combine clustered-uncertainty logits.npy --embeddings x.npy --k 100 --out p.csv",
    ),
)
@K
@_BY
@CLUSTERS
@SHARE
@SEED
@ROWS
@OUTPUT
@POOL
@_EMBEDDINGS
@_TO_FILES
@reports_bad_input
def clustered_uncertainty(pool: tuple[str, ...], **options: Any) -> None:
    """Pick members of clusters of the most uncertain rows.

    Each cluster gives the member nearest to its centroid, the one farthest from it, and random
    members. Without --clusters, there are k / 5 clusters. Writes CSV: rank, row, score, the id if
    the pool has ids, the cluster as group, and role.
    """
    others = {"embeddings": popped(options, "embeddings")}
    run_strategy("clustered_uncertainty", pool, options, others)


@click.command(
    "uncertain-model-outliers",
    cls=Command,
    examples=(
        (
            "fastal combine uncertain-model-outliers logits.npy --activations a.npy "
            "--validation v.npy --k 100"
        ),
    ),
)
@K
@_VALIDATION
@_BY
@SHARE
@ROWS
@OUTPUT
@POOL
@same_rows("activations", "a model's activations")
@_TO_FILES
@reports_bad_input
def uncertain_model_outliers(
    pool: tuple[str, ...], validation: tuple[str, ...], **options: Any
) -> None:
    """Pick the most uncertain rows that are least like validation data.

    Of the most uncertain rows, these are the rows whose activations rank lowest among those of
    validation data. Writes CSV: rank, row, score, and the id if the pool has ids.
    """
    beside = popped(options, "activations")
    others = {"activations": beside, "validation": beside.with_columns_of(validation)}
    run_strategy("uncertain_model_outliers", pool, options, others)


@click.command(
    "clustered-model-outliers",
    cls=Command,
    examples=(
        (
            "fastal combine clustered-model-outliers logits.npy --activations a.npy "
            "--validation v.npy --embeddings x.npy --k 100"
        ),
    ),
)
@K
@_VALIDATION
@_BY
@selection_option(
    "--oversample",
    type=int,
    default=2,
    show_default=True,
    help="How many times k model outliers to cluster.",
)
@CLUSTERS
@SHARE
@SEED
@ROWS
@OUTPUT
@POOL
@same_rows("activations", "a model's activations")
@_EMBEDDINGS
@_TO_FILES
@reports_bad_input
def clustered_model_outliers(
    pool: tuple[str, ...], validation: tuple[str, ...], **options: Any
) -> None:
    """Pick members of clusters of the uncertain rows that are least like validation data.

    The rows are narrowed three times: the most uncertain rows, of these the model outliers, of
    these members of each cluster. Without --clusters, there are k / 5 clusters. Writes CSV: rank,
    row, score (the uncertainty), the id if the pool has ids, the cluster as group, and role.
    """
    beside = popped(options, "activations")
    others = {
        "activations": beside,
        "validation": beside.with_columns_of(validation),
        "embeddings": popped(options, "embeddings"),
    }
    run_strategy("clustered_model_outliers", pool, options, others)


@click.command(
    "representative-clusters",
    cls=Command,
    examples=(
        "fastal combine representative-clusters embeddings.npy --labelled labelled.npy --k 20",
    ),
)
@K
@selection_option(
    "--labelled",
    multiple=True,
    required=True,
    help="File of embeddings of the labelled rows. Repeat the option for several files.",
)
@CLUSTERS
@SEED
@ROWS
@POOL
@_TO_FILES
@reports_bad_input
def representative_clusters(
    pool: tuple[str, ...], labelled: tuple[str, ...], **options: Any
) -> None:
    """Pick rows that are like a cluster of the pool and unlike the labelled clusters.

    The POOL holds embeddings. Each cluster gives its best row, then its second best, and so on.
    Without --clusters, there are 20 clusters. Writes CSV: rank, row, score, the id if the pool has
    ids, and the cluster as group.
    """
    others = {"labelled": OtherPool(labelled, has_same_columns=True)}
    run_strategy("representative_clusters", pool, options, others)


@click.command(
    "most-uncertain-cluster",
    cls=Command,
    examples=(
        "fastal combine most-uncertain-cluster logits.npy --embeddings x.npy --k 100 --out p.csv",
    ),
)
@K
@_BY
@selection_option(
    "--members",
    type=click.Choice(["random", "most_uncertain"]),
    default="random",
    show_default=True,
    help="Which rows of the cluster to pick.",
)
@CLUSTERS
@SEED
@ROWS
@OUTPUT
@POOL
@_EMBEDDINGS
@_TO_FILES
@reports_bad_input
def most_uncertain_cluster(pool: tuple[str, ...], **options: Any) -> None:
    """Pick rows of the cluster with the highest mean uncertainty.

    If that cluster has too few rows, those of the next follow. Without --clusters, there are 20
    clusters. Writes CSV: rank, row, score, the id if the pool has ids, and the cluster as group.
    """
    others = {"embeddings": popped(options, "embeddings")}
    run_strategy("most_uncertain_cluster", pool, options, others)


@click.command(
    cls=Command,
    examples=(
        "fastal combine weighted logits.npy --part margin 0.7 --part outliers.npy 0.3 --k 100",
    ),
)
@K
@selection_option(
    "--part",
    "parts",
    type=(str, float),
    multiple=True,
    required=True,
    metavar="SCORE WEIGHT",
    help="A score and its weight, separated by a space. SCORE is the name of a score of POOL, such "
    "as margin or entropy, or a file of your own scores of the same rows. A file called margin is "
    "./margin. Repeat the option for each score. The first is of POOL.",
)
@selection_option(
    "--part-column",
    help="Array or column of the scores in the files of --part. A .npy file has none.",
)
@selection_option(
    "--scale",
    type=click.Choice(["rank", "range"]),
    default="rank",
    show_default=True,
    help="How each score is put on the scale from 0 to 1: by rank, or by value, from the lowest to "
    "the highest.",
)
@selection_option(
    "--combination",
    type=click.Choice(["mean", "product"]),
    default="mean",
    show_default=True,
    help="How scores are combined: the weighted mean or the weighted product.",
)
@ROWS
@OUTPUT
@POOL
@_TO_FILES
@reports_bad_input
def weighted(
    pool: tuple[str, ...],
    parts: tuple[tuple[str, float], ...],
    part_column: str | None,
    **options: Any,
) -> None:
    """Pick the k rows with the highest weighted mean of several scores.

    Rows of POOL and of files of scores are matched by id if --id-column is given, otherwise by row
    number. A .npy file has no ids. Writes CSV: rank, row, score, and the id if the pool has ids.
    """
    first = parts[0][0]
    if first not in SELECTION_SCORES:
        raise click.UsageError(
            f"--part: wanted a score of POOL first, one of {', '.join(SELECTION_SCORES)}, "
            f"got {first!r}."
        )
    others = {f"parts[{i}]": by for i, (by, _) in enumerate(parts) if by not in SELECTION_SCORES}
    check_used("part_column", not without_names(tuple(others.values())), "a file that has columns")
    opened = {name: _scores_in(path, part_column) for name, path in others.items()}
    with loading():
        from fastal.commands.combined import strategy_to_file, weighted_parts
    work = partial(strategy_to_file, "combine weighted", weighted_parts)
    run_over(work, pool, {**options, "parts": parts}, other_pools=opened)


@click.command(
    cls=Command,
    examples=("fastal combine diverse logits.npy --embeddings x.npy --k 100 --out picks.csv",),
)
@K
@_BY
@selection_option(
    "--oversample",
    type=int,
    default=10,
    show_default=True,
    help="How many times k uncertain rows to choose from.",
)
@_LABELLED
@ROWS
@OUTPUT
@POOL
@_EMBEDDINGS
@_TO_FILES
@reports_bad_input
def diverse(pool: tuple[str, ...], labelled: tuple[str, ...], **options: Any) -> None:
    """Pick the most uncertain rows that are far from each other.

    Of the most uncertain rows, each pick is the row farthest from all labelled and picked rows.
    Writes CSV: rank, row, score (the uncertainty), and the id if the pool has ids.
    """
    _with_labelled("diverse", pool, labelled, options)


@click.command(
    "ranked-batch",
    cls=Command,
    examples=(
        "fastal combine ranked-batch logits.npy --embeddings x.npy --labelled l.npy --k 100",
    ),
)
@K
@_BY
@_LABELLED
@selection_option(
    "--alpha",
    type=float,
    help="Weight of the distance, from 0 to 1; the uncertainty has the rest. Default: the share of "
    "rows that are not labelled.",
)
@ROWS
@OUTPUT
@POOL
@_EMBEDDINGS
@_TO_FILES
@reports_bad_input
def ranked_batch(pool: tuple[str, ...], labelled: tuple[str, ...], **options: Any) -> None:
    """Pick rows one by one, each uncertain and far from labelled and picked rows.

    With few labels the distance decides, and with many the uncertainty. Writes CSV: rank, row,
    score (what the row was worth when it was picked), and the id if the pool has ids.
    """
    _with_labelled("ranked_batch", pool, labelled, options)


def _scores_in(path: str, column: str | None) -> OtherPool:
    """A file of scores."""
    column = None if without_names((path,)) else column
    return OtherPool((path,), column, options=("--part-column",), has_same_rows=True)


def _with_labelled(
    strategy: str, pool: tuple[str, ...], labelled: tuple[str, ...], options: dict[str, Any]
) -> None:
    """Runs a strategy over predictions, embeddings, and embeddings of labelled rows."""
    beside = popped(options, "embeddings")
    others = {"embeddings": beside, "labelled": beside.with_columns_of(labelled)}
    run_strategy(strategy, pool, options, others)


for _strategy in (
    clustered_uncertainty,
    uncertain_model_outliers,
    clustered_model_outliers,
    representative_clusters,
    most_uncertain_cluster,
    weighted,
    diverse,
    ranked_batch,
    transfer_uncertainty,
    transfer_representative,
    atlas,
):
    combine.add_command(_strategy)
