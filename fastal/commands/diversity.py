"""The commands of diversity sampling: from embeddings to files of picks."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.reducer import Reducer
from fastal.commands.command import CommandRun, RunOptions
from fastal.commands.uncertainty import picks_to_file, put_picks
from fastal.diversity.centroids import CentroidDistance, FiniteRows, digest, rows_of
from fastal.diversity.clustering.cluster_sample import ClusterSample
from fastal.diversity.clustering.clusters import CosineClusters
from fastal.diversity.clustering.k_means import Clustering
from fastal.diversity.core_set import CoreSet
from fastal.diversity.model_outliers import ValidationRank
from fastal.diversity.representative import reducer_for
from fastal.output.picks_files import PICKS_SUFFIXES
from fastal.output.target import Target
from fastal.pipeline.sequential import Sequential
from fastal.selection.picks import Picks
from fastal.sources import open_pool
from fastal.sources.files import Files
from fastal.uncertainty import selector_for, with_ids

_ROLES = ("centroid", "outlier", "random")

Beside = dict[str, NDArray[Any]]


def cluster_to_file(
    pool: Files,
    n_clusters: int | None,
    n_random: int,
    *,
    out: Path | None,
    centroids: Path | None = None,
    save: Path | None = None,
    how: RunOptions | None = None,
    **options: Any,
) -> tuple[Picks, Beside]:
    """Clusters files, and writes the members that stand for each: rank, row, score, id, cluster,
    role; by cluster, and in it by role.

    Args:
        pool: the files.
        n_clusters: how many clusters to find, None with `centroids`.
        n_random: how many random members of each.
        out: as for `select_to_file`.
        centroids: a file of those of the clusters, which are then used as they are.
        save: a .npz file for the clusters that were found, see `CosineClusters.save`.
        how: see `RunOptions`.
        options: `max_iter`, `batch_size`, `seed`, `fast`, `on_invalid` and `backend` of
            `CosineClusters`.
    """
    held = None if centroids is None else _opened(centroids)
    target = Target(out, PICKS_SUFFIXES, pool, held)
    saved = None
    if save is not None:
        saved = Target(save, (".npz",), pool, held, name="save", has_record=False)
        if out is not None and os.path.realpath(save) == os.path.realpath(out):
            raise ValueError(f"save: {save} is where the picks go")
    given = None if held is None else rows_of(held, "centroids")
    clusters = CosineClusters(n_clusters, centroids=given, **options)
    sampler = partial(clusters.sampler, n_random)
    reducer = sampler() if given is not None else _fitted_first(clusters, sampler)
    passes = 1 if given is not None else options["max_iter"] + 2
    arguments = {"n_clusters": n_clusters, "n_random": n_random, **options}
    if given is not None:
        arguments["centroids"] = digest(given)
    with CommandRun("cluster", pool, target, arguments, how or RunOptions()) as job:
        picks, beside = _by_cluster(job.run(reducer, passes=passes))
        picks = with_ids(picks, pool)
        put_picks(target, picks, **beside)
        if saved is not None:
            with saved.written() as file:
                clusters.write(file)
        fit = ("epochs", "converged", "inertia") if given is None else ()
        found = {name: getattr(clusters, name) for name in fit}
        job.finish(invalid=picks.invalid, backend=reducer.backend_used, **found)
    return picks, beside


def outliers_to_file(
    pool: Files,
    k: int | None,
    *,
    out: Path | None,
    validation: Files | None = None,
    centroids: Path | None = None,
    n_clusters: int | None = None,
    per_group: int | None = None,
    how: RunOptions | None = None,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
    **fit: Any,
) -> Picks:
    """Selects outliers from files and writes the picks; by one of three measures.

    Args:
        pool: the files.
        k: as for `select_to_file`.
        out: as for `select_to_file`.
        validation: activations, for `model_outliers`.
        centroids: a file of centroids, for `cluster_outliers`.
        n_clusters: how many clusters to find first, for `cluster_outliers` by their centroids.
        per_group: as for `select_to_file`.
        how: see `RunOptions`.
        fast: as for `nearest_centroid`.
        on_invalid: "raise" or "skip".
        backend: as for the functions named.
        fit: `max_iter`, `batch_size` and `seed` of `CosineClusters`.
    """
    held = None if centroids is None else _opened(centroids)
    target = Target(out, PICKS_SUFFIXES, pool, validation, held)
    options: dict[str, Any] = {"on_invalid": on_invalid, "backend": backend}
    selector = partial(selector_for, k, per_group=per_group, predicted=False, **options)
    reducer: Reducer[Picks]
    if n_clusters is not None:
        _, arguments = selector(by=FiniteRows())  # which checks them before all passes
        clusters = CosineClusters(n_clusters, fast=fast, **options, **fit)
        arguments["by"] = clusters.reducer().arguments()
        reducer = _fitted_first(
            clusters, lambda: selector(by=CentroidDistance(clusters.centroids, fast=fast))[0]
        )
    elif held is not None:
        reducer, arguments = selector(by=CentroidDistance(rows_of(held, "centroids"), fast=fast))
    else:
        reducer, arguments = selector(by=ValidationRank(validation))
    passes = 1 if n_clusters is None else fit["max_iter"] + 2
    return picks_to_file("outliers", reducer, arguments, pool, target, how, passes)


def represent_to_file(
    pool: Files,
    training: Files,
    k: int,
    *,
    adaptive: bool,
    out: Path | None,
    how: RunOptions | None = None,
    **options: Any,
) -> Picks:
    """Selects rows that are like the pool and unlike the training data, and writes the picks.

    Args:
        pool: the files.
        training: what was labelled.
        k: how many rows to pick.
        adaptive: each pick counts as training data for the next.
        out: as for `select_to_file`.
        how: see `RunOptions`.
        options: `fast`, `on_invalid` and `backend` of `representative`.
    """
    target = Target(out, PICKS_SUFFIXES, pool, training)
    reducer, arguments = reducer_for(training, k, adaptive=adaptive, **options)
    passes = k + 1 if adaptive else 2
    return picks_to_file("represent", reducer, arguments, pool, target, how, passes)


def core_set_to_file(
    pool: Files,
    k: int,
    *,
    out: Path | None,
    labelled: Files | None = None,
    how: RunOptions | None = None,
    **options: Any,
) -> Picks:
    """Selects rows that leave none of the pool far from all, and writes the picks.

    Args:
        pool: the files.
        k: how many rows to pick.
        out: as for `select_to_file`.
        labelled: what is labelled already.
        how: see `RunOptions`.
        options: `metric`, `fast`, `on_invalid` and `backend` of `k_center`.
    """
    target = Target(out, PICKS_SUFFIXES, pool, labelled)
    reducer = CoreSet(k, labelled=labelled, **options)
    arguments = {**options, **reducer.arguments()}
    passes = min(k, max(pool.n_rows, 1))
    return picks_to_file("core-set", reducer, arguments, pool, target, how, passes)


def _opened(centroids: Path) -> Files:
    """A file of centroids: of clusters that were saved, or of nothing else."""
    name = "centroids" if centroids.suffix == ".npz" else None
    opened = open_pool(centroids, column=name)
    assert isinstance(opened, Files)
    return opened


def _fitted_first(clusters: CosineClusters, then: Callable[[], Reducer[Any]]) -> Sequential:
    """The reducer that fits the clusters, and goes on with the one that `then` makes."""

    def with_centroids(found: Clustering) -> Reducer[Any]:
        clusters.take(found)
        return then()

    return Sequential(clusters.reducer(), with_centroids)


def _by_cluster(sample: ClusterSample) -> tuple[Picks, Beside]:
    """All rows of a sample, by cluster and then by role, and what these are."""
    rows, scores, cluster = (
        np.concatenate([np.asarray(getattr(picks, name)) for picks in sample])
        for name in ("rows", "scores", "groups")
    )
    role = np.repeat(_ROLES, [len(picks.rows) for picks in sample])
    order = np.argsort(cluster, kind="stable")
    picks = Picks(rows[order], scores[order], None, sample.centroids.invalid)
    return picks, {"cluster": cluster[order], "role": role[order]}
