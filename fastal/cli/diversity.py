"""Commands over embeddings: `cluster`, `assign`, `outliers`, `represent` and `core-set`."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.help import Command, output_option, selection_option
from fastal.cli.k_means import FIT, check_fit, exactly_one, k_means_options
from fastal.cli.options import (
    ENGINE,
    FAST,
    GROUPS,
    K_OR_PER_GROUP,
    LABELLED,
    PICKS_OUT,
    POOL,
    ROWS,
    RUNNING,
    SCORING,
    TIES_OPTION,
    K,
    check_quotas,
    loading,
    memory_option,
    reports_bad_input,
    run_over,
)
from fastal.cli.other_pool import OtherPool


@click.command(
    cls=Command,
    examples=("fastal cluster embeddings.npy --clusters 50 --save clusters.npz --out picks.csv",),
)
@FIT
@selection_option(
    "--random",
    "n_random",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Number of random members to pick from each cluster.",
)
@ROWS
@POOL
@SCORING
@PICKS_OUT
@output_option(
    "--save",
    type=click.Path(path_type=Path),
    help="File to write the clusters of --clusters to: .npz, for --centroids of a later run.",
)
@FAST
@ENGINE
@RUNNING
@reports_bad_input
def cluster(pool: tuple[str, ...], **options: Any) -> None:
    """Pick the centroid, an outlier and random members of each cluster.

    Clusters are found by cosine similarity. Give --clusters to find them in the pool, or
    --centroids to use given ones. Writes CSV: rank, row, score (the cosine similarity to the
    centroid), the id if the pool has ids, cluster and role.
    """
    exactly_one({"--clusters": options["n_clusters"], "--centroids": options["centroids"]})
    check_fit(options, draws=options["n_random"] > 0)
    if options["centroids"] and options["save"]:
        raise click.UsageError("--save needs --clusters.")
    with loading():
        from fastal.commands.diversity import cluster_to_file
    options["how"] = k_means_options(options)
    run_over(cluster_to_file, pool, options)


@click.command(
    cls=Command,
    examples=("fastal assign embeddings.npy --centroids clusters.npz --out clusters.parquet",),
)
@selection_option(
    "--centroids",
    type=click.Path(path_type=Path),
    required=True,
    help="File of centroids [clusters, dimensions], or of clusters that `fastal cluster --save` "
    "wrote.",
)
@POOL
@SCORING
@output_option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write: .parquet, .csv, or .npy with the fields cluster and similarity. Default: "
    "CSV on standard output.",
)
@FAST
@ENGINE
@RUNNING
@reports_bad_input
def assign(pool: tuple[str, ...], **options: Any) -> None:
    """Write the nearest centroid of every row.

    Writes row, the id if the pool has ids, cluster (numbered from 0), and the cosine similarity to
    the centroid. Invalid rows have cluster -1. `fastal select --groups` reads the file. A .npy file
    has no ids. A .parquet file cannot be continued with --checkpoint.
    """
    with loading():
        from fastal.commands.diversity import assign_to_file
    run_over(assign_to_file, pool, options)


@click.command(
    cls=Command,
    examples=(
        "fastal outliers activations.npy --k 100 --validation validation.npy --out picks.csv",
        "fastal outliers embeddings.npy --k 100 --clusters 50 --out picks.csv",
    ),
)
@K_OR_PER_GROUP
@selection_option(
    "--validation",
    multiple=True,
    help="File of the model's activations on validation data. Repeat the option for several files.",
)
@FIT
@GROUPS
@TIES_OPTION
@ROWS
@POOL
@SCORING
@PICKS_OUT
@FAST
@ENGINE
@RUNNING
@reports_bad_input
def outliers(
    pool: tuple[str, ...],
    validation: tuple[str, ...],
    group_column: str | None,
    **options: Any,
) -> None:
    """Pick the k rows that are least like known data.

    With --validation, these are the rows whose activations rank lowest among those of validation
    data. With --clusters or --centroids, these are the rows farthest from all centroids by cosine
    similarity. Give one of the three. Writes CSV: rank, row, score, then the id and the group if
    the pool has them.
    """
    check_quotas(options, {"--group-column": group_column})
    exactly_one(
        {
            "--validation": validation,
            "--centroids": options["centroids"],
            "--clusters": options["n_clusters"],
        }
    )
    check_fit(options, draws=options["ties"] == "random")
    if validation and options["fast"]:
        raise click.UsageError("--fast needs --centroids or --clusters.")
    with loading():
        from fastal.commands.diversity import outliers_to_file
    options["how"] = k_means_options(options)
    others = {"validation": OtherPool(validation, has_same_columns=True)}
    run_over(outliers_to_file, pool, options, group_column, others)


@click.command(
    cls=Command,
    examples=("fastal represent embeddings.npy --k 100 --training labelled.npy --out picks.csv",),
)
@K
@selection_option(
    "--training",
    multiple=True,
    required=True,
    help="File of embeddings of the labelled rows. Repeat the option for several files.",
)
@selection_option(
    "--adaptive",
    is_flag=True,
    help="Count each pick as labelled before the next is chosen. The pool is read more often.",
)
@ROWS
@POOL
@SCORING
@PICKS_OUT
@FAST
@ENGINE
@RUNNING
@reports_bad_input
def represent(pool: tuple[str, ...], training: tuple[str, ...], **options: Any) -> None:
    """Pick the k rows most like the pool and unlike labelled rows.

    Writes CSV: rank, row, score, and the id if the pool has ids.
    """
    with loading():
        from fastal.commands.diversity import represent_to_file
    others = {"training": OtherPool(training, has_same_columns=True)}
    run_over(represent_to_file, pool, options, other_pools=others)


@click.command(
    "core-set",
    cls=Command,
    examples=("fastal core-set embeddings.npy --k 100 --labelled labelled.npy --out picks.csv",),
)
@K
@LABELLED
@selection_option(
    "--metric",
    type=click.Choice(["cosine", "euclidean"]),
    default="cosine",
    show_default=True,
    help="Distance between rows.",
)
@ROWS
@POOL
@SCORING
@PICKS_OUT
@memory_option(
    64, "MiB for the farthest rows. More memory saves passes over the pool, and changes no pick."
)
@FAST
@ENGINE
@RUNNING
@reports_bad_input
def core_set(pool: tuple[str, ...], labelled: tuple[str, ...], **options: Any) -> None:
    """Pick k rows so that every row is near a picked or labelled one.

    Each pick is the row that is farthest from all rows picked or labelled so far. Writes CSV: rank,
    row, score, and the id if the pool has ids.
    """
    with loading():
        from fastal.commands.diversity import core_set_to_file
    others = {"labelled": OtherPool(labelled, has_same_columns=True)}
    run_over(core_set_to_file, pool, options, other_pools=others)
