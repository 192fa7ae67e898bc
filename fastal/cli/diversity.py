"""Commands of diversity: `cluster`, `outliers`, `represent` and `core-set`, over embeddings."""

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
    with_options,
)
from fastal.commands.diversity import (
    cluster_to_file,
    core_set_to_file,
    outliers_to_file,
    represent_to_file,
)
from fastal.diversity.clustering.k_means import KMeansOptions

_FAST = click.option("--fast", is_flag=True, help="On a GPU, products of lower precision.")
_FIT = with_options(
    click.option("--clusters", "n_clusters", type=int, help="How many clusters to find first."),
    click.option(
        "--max-iter",
        type=int,
        default=10,
        show_default=True,
        help="How often the centroids move, at most, to find them: a pass over the pool each.",
    ),
    click.option(
        "--batch-size", type=int, help="Have the centroids move after every so many rows as well."
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of what is drawn at random.",
    ),
    click.option(
        "--centroids",
        type=click.Path(path_type=Path),
        help="A file of centroids [clusters, dimensions] or of saved clusters, to use as they are.",
    ),
)


@click.command()
@POOL
@_FIT
@click.option(
    "--random",
    "n_random",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How many random members of each cluster.",
)
@click.option("--save", type=click.Path(path_type=Path), help="A .npz file for the clusters.")
@_FAST
@SCORING
@PICKS_OUT
@RUNNING
@reports_bad_input
def cluster(pool: tuple[str, ...], **options: Any) -> None:
    """Print the members that stand for each cluster: its centroid, an outlier, and random ones.

    Clusters are found by cosine similarity: as many as --clusters says, or those of --centroids.
    Rows are rank, row, score (the similarity to the centroid), id if there is, cluster and role.
    """
    _exactly_one({"--clusters": options["n_clusters"], "--centroids": options["centroids"]})
    if options["centroids"] and options["save"]:
        raise click.UsageError("--save is for --clusters.")
    options["how"] = _k_means_options(options)
    run_over(cluster_to_file, pool, options)


@click.command()
@POOL
@K
@click.option(
    "--validation",
    multiple=True,
    help="Files of the model's activations on validation data. May be given several times.",
)
@_FIT
@GROUPS
@_FAST
@SCORING
@PICKS_OUT
@RUNNING
@reports_bad_input
def outliers(
    pool: tuple[str, ...],
    validation: tuple[str, ...],
    group_column: str | None,
    **options: Any,
) -> None:
    """Print the k rows that are least like what is known, as CSV.

    With --validation, those that excite the model less than validation data did; with --centroids
    or --clusters, those farthest from all centroids by cosine similarity.
    """
    check_quotas(options, group_column)
    _exactly_one(
        {
            "--validation": validation,
            "--centroids": options["centroids"],
            "--clusters": options["n_clusters"],
        }
    )
    if validation and options["fast"]:
        raise click.UsageError("--fast is for --centroids and --clusters.")
    options["how"] = _k_means_options(options)
    run_over(outliers_to_file, pool, options, group_column, {"validation": validation})


@click.command()
@POOL
@click.option("--k", type=int, required=True, help="How many rows to pick.")
@click.option(
    "--training",
    multiple=True,
    required=True,
    help="Files of the embeddings of what was labelled. May be given several times.",
)
@click.option(
    "--adaptive",
    is_flag=True,
    help="Have each pick count as labelled for the next: a pass over the pool each.",
)
@_FAST
@SCORING
@PICKS_OUT
@RUNNING
@reports_bad_input
def represent(pool: tuple[str, ...], training: tuple[str, ...], **options: Any) -> None:
    """Print the k rows that are most like the pool, and unlike what was labelled, as CSV."""
    run_over(represent_to_file, pool, options, beside={"training": training})


@click.command("core-set")
@POOL
@click.option(
    "--k", type=int, required=True, help="How many rows to pick: a pass over the pool each."
)
@click.option(
    "--labelled",
    multiple=True,
    help="Files of the embeddings of what was labelled. May be given several times.",
)
@click.option(
    "--metric", type=click.Choice(["cosine", "euclidean"]), default="cosine", show_default=True
)
@_FAST
@SCORING
@PICKS_OUT
@RUNNING
@reports_bad_input
def core_set(pool: tuple[str, ...], labelled: tuple[str, ...], **options: Any) -> None:
    """Print k rows that leave none of the pool far from all picked or labelled ones, as CSV."""
    run_over(core_set_to_file, pool, options, beside={"labelled": labelled})


def _k_means_options(options: dict[str, Any]) -> KMeansOptions:
    """The options of `_FIT` and `_FAST`, which are removed from the others."""
    names = ("max_iter", "batch_size", "seed", "fast")
    return KMeansOptions(**{name: options.pop(name) for name in names})


def _exactly_one(options: dict[str, Any]) -> None:
    given = [name for name, value in options.items() if value not in (None, ())]
    if len(given) != 1:
        *most, last = options
        got = " and ".join(given) or "none"
        raise click.UsageError(f"Wanted one of {', '.join(most)} and {last}, got {got}.")
