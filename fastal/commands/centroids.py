"""The centroids of a command: given in a file, or found in the pool first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastal.base.reducer import Reducer
from fastal.diversity.clustering.clusters import CosineClusters
from fastal.diversity.clustering.k_means import Clustering, KMeansOptions
from fastal.pipeline.sequential import Sequential
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import open_pool
from fastal.sources.files import Files


def opened_centroids(centroids: Path) -> Files:
    """A file of centroids: of clusters that were saved, or of nothing else."""
    name = "centroids" if centroids.suffix == ".npz" else None
    opened = open_pool(centroids, column=name)
    assert isinstance(opened, Files)
    return opened


def clusters_for(
    n_clusters: int | None, centroids: Any, scoring: ScoringOptions, how: KMeansOptions
) -> CosineClusters:
    """The clusters with given centroids, or those that are to be found."""
    return CosineClusters(
        n_clusters, centroids=centroids, max_iter=how.max_iter, batch_size=how.batch_size,
        seed=how.seed, fast=how.fast, on_invalid=scoring.on_invalid, backend=scoring.backend,
    )  # fmt: skip


def fitted_first(
    clusters: CosineClusters,
    then: Callable[[], Reducer[Any]],
    identity: dict[str, Any],
    options: ScoringOptions,
) -> Sequential:
    """The reducer that fits the clusters, then runs the reducer that `then` makes."""

    def with_centroids(found: Clustering) -> Reducer[Any]:
        clusters.adopt(found)
        return then()

    first = clusters.reducer()
    return Sequential(
        first, with_centroids, identity=identity, options=options, max_passes=first.max_passes + 1
    )
