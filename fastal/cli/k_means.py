"""The options of commands that find clusters, or are given their centroids."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.help import selection_option
from fastal.cli.options import CLUSTERS, SEED, check_used, with_options

FIT = with_options(
    CLUSTERS,
    selection_option(
        "--centroids",
        type=click.Path(path_type=Path),
        help="File of centroids [clusters, dimensions], or of clusters that `fastal cluster "
        "--save` wrote. They are used unchanged, instead of --clusters.",
    ),
    selection_option(
        "--max-iter",
        type=int,
        default=10,
        show_default=True,
        help="Largest number of k-means iterations for --clusters. Each reads the pool once.",
    ),
    selection_option(
        "--batch-size",
        type=int,
        help="Number of rows after which the centroids move (mini-batches). Default: they move "
        "once per iteration.",
    ),
    SEED,
)


def k_means_options(options: dict[str, Any]) -> Any:
    """The options of `FIT` and `FAST` as `KMeansOptions`; they are removed from `options`."""
    from fastal.diversity.clustering.k_means import KMeansOptions

    names = ("max_iter", "batch_size", "seed", "fast")
    return KMeansOptions(**{name: options.pop(name) for name in names})


def check_fit(options: dict[str, Any], *, draws: bool, seeded: str = "--clusters") -> None:
    """Raises a usage error if an option of k-means was given and no clusters are to be found.

    Args:
        options: by argument.
        draws: whether rows are drawn at random too.
        seeded: the options that use the seed.
    """
    finds = options["n_clusters"] is not None
    check_used("max_iter", finds, "--clusters")
    check_used("batch_size", finds, "--clusters")
    check_used("seed", finds or draws, seeded)


def exactly_one(options: dict[str, Any]) -> None:
    """Raises a usage error unless one of some options was given.

    Args:
        options: by name.
    """
    given = [name for name, value in options.items() if value not in (None, ())]
    if len(given) != 1:
        *most, last = options
        got = " and ".join(given) or "none"
        raise click.UsageError(f"Wanted one of {', '.join(most)} and {last}, got {got}.")
