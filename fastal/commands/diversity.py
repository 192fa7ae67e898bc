"""The commands of diversity sampling: from embeddings to files of picks."""

import os
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from fastal.base.reducer import Reducer
from fastal.commands.centroids import clusters_for, fitted_first, opened_centroids
from fastal.commands.command import CommandOptions, CommandRun
from fastal.commands.uncertainty import (
    check_resumable,
    picks_to_file,
    put_picks,
    rows_to_file,
)
from fastal.diversity.centroids import CentroidDistance, FiniteRows, rows_of
from fastal.diversity.clustering.cluster_sample import ClusterSample
from fastal.diversity.clustering.k_means import KMeansOptions
from fastal.diversity.core_set import MEMORY_BYTES, CoreSet
from fastal.diversity.model_outliers import ValidationRank
from fastal.diversity.representative import reducer_for
from fastal.output.parquet_scores import ParquetSink
from fastal.output.score_files import CsvSink, NpySink, ScoreWriter, Sink, Written
from fastal.output.target import Target
from fastal.picks.picks import Picks
from fastal.pipeline.given_groups import check_has_groups
from fastal.pipeline.run_on_pool import with_ids
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.selector_for import selector_for
from fastal.sources.files import Files
from fastal.sources.row_ids import RowIds

_ROLES = ("centroid", "outlier", "random")

_DEFAULTS = CommandOptions()
_SCORING = ScoringOptions()
_K_MEANS = KMeansOptions()

CLUSTERS_DTYPE = np.dtype([("cluster", "<i8"), ("similarity", "<f4")])


class ClusterWriter(ScoreWriter):
    """Writes the nearest centroid of each row, and the similarity to it."""

    def columns(self, rows: Rows) -> tuple[list[Tensor], int]:
        """See `ScoreWriter.columns`."""
        measure = self._scorer.measure
        assert isinstance(measure, CentroidDistance)
        cluster, similarity = measure.nearest(rows)
        return [cluster, similarity], int(rows.invalid(similarity).count_nonzero())


def cluster_to_file(
    pool: Files,
    n_clusters: int | None,
    n_random: int,
    *,
    out: Path | None,
    centroids: Path | None = None,
    save: Path | None = None,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    how: KMeansOptions = _K_MEANS,
) -> Picks:
    """Clusters files, and writes the representative members of each cluster.

    The columns are rank, row, score, id, cluster, role and the carried columns. The picks are
    ordered by cluster and in it by role.

    Args:
        pool: the files.
        n_clusters: how many clusters to find, None with `centroids`.
        n_random: how many random members of each.
        out: as for `select_to_file`.
        centroids: a file of centroids, which are used unchanged; then no clusters are found.
        save: a .npz file for the clusters that were found, see `CosineClusters.save`.
        options: how the command is run.
        scoring: how rows are compared with centroids.
        how: how centroids are found.
    """
    held = None if centroids is None else opened_centroids(centroids)
    target = Target(out, options.picks_suffixes, pool, held)
    saved = None
    if save is not None:
        saved = Target(save, (".npz",), pool, held, name="save", has_record=False)
        if out is not None and os.path.realpath(save) == os.path.realpath(out):
            raise ValueError(f"save: {save} is where the picks go")
    given = None if held is None else rows_of(held, "centroids")
    clusters = clusters_for(n_clusters, given, scoring, how)
    reducer: Reducer[ClusterSample]
    if given is not None:
        reducer = clusters.sampler(n_random)
    else:
        identity = {**clusters.reducer().identity(), "n_random": n_random}
        reducer = fitted_first(clusters, lambda: clusters.sampler(n_random), identity, scoring)
    with CommandRun("cluster", reducer, pool, target, options) as command_run:
        picks = with_ids(_by_cluster(command_run.run()), pool, reducer)
        put_picks(target, picks, options.export)
        if saved is not None:
            with saved.written() as file:
                clusters.write(file)
        fit = ("n_iter", "converged", "inertia") if given is None else ()
        found = {name: getattr(clusters, name) for name in fit}
        command_run.finish(invalid=picks.invalid, backend=reducer.backend_used, **found)
    return picks


def assign_to_file(
    pool: Files,
    centroids: Path,
    *,
    out: Path | None,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    fast: bool = False,
) -> Written:
    """Writes the nearest centroid of every row, in row order.

    The columns are row, id, cluster and similarity, see `Nearest`. Rows of skipped files have
    cluster -1 and similarity NaN, as invalid rows have.

    Args:
        pool: the files.
        centroids: a file of centroids.
        out: a .parquet or .csv file; a .npy file (structured array, cluster and similarity); or
            None for CSV on stdout.
        options: how the command is run.
        scoring: how rows are compared with centroids.
        fast: as for `nearest_centroid`.
    """
    check_resumable(out, options)
    held = opened_centroids(centroids)
    target = Target(out, (".parquet", ".csv", ".npy"), pool, held)
    ids = None if pool.columns.ids is None else RowIds(pool)
    sink: Sink
    if out is not None and out.suffix == ".npy":
        sink = NpySink(pool.n_rows, CLUSTERS_DTYPE, "clusters")
    elif out is not None and out.suffix == ".parquet":
        sink = ParquetSink(pool.n_rows, CLUSTERS_DTYPE, ids)
    else:
        sink = CsvSink(pool.n_rows, CLUSTERS_DTYPE, "clusters", ids)
    measure = CentroidDistance(rows_of(held, "centroids"), fast=fast)
    writer = ClusterWriter(sink, measure, scoring)
    return rows_to_file("assign", writer, sink, pool, target, options)


def outliers_to_file(
    pool: Files,
    k: int | None,
    *,
    out: Path | None,
    validation: Files | None = None,
    centroids: Path | None = None,
    n_clusters: int | None = None,
    per_group: int | None = None,
    ties: str = "first",
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    how: KMeansOptions = _K_MEANS,
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
        ties: as for `fastal.select`; drawn by the seed of `how`.
        options: how the command is run.
        scoring: how the measure is applied.
        how: how centroids are found.
    """
    if per_group is not None:
        check_has_groups(pool)
    held = None if centroids is None else opened_centroids(centroids)
    target = Target(out, options.picks_suffixes, pool, validation, held)
    selector = partial(
        selector_for, k, options=scoring, per_group=per_group, ties=ties, seed=how.seed
    )
    reducer: Reducer[Picks]
    if n_clusters is not None:
        identity = selector(by=FiniteRows()).identity()  # checked before the first pass
        clusters = clusters_for(n_clusters, None, scoring, how)
        identity["by"] = clusters.reducer().identity()
        reducer = fitted_first(
            clusters,
            lambda: selector(by=CentroidDistance(clusters.centroids, fast=how.fast)),
            identity,
            scoring,
        )
    elif held is not None:
        reducer = selector(by=CentroidDistance(rows_of(held, "centroids"), fast=how.fast))
    else:
        reducer = selector(by=ValidationRank(validation))
    return picks_to_file("outliers", reducer, pool, target, options)


def represent_to_file(
    pool: Files,
    training: Files,
    k: int,
    *,
    adaptive: bool,
    out: Path | None,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    fast: bool = False,
) -> Picks:
    """Selects rows that are similar to the pool and not to the training data; writes the picks.

    Args:
        pool: the files.
        training: the embeddings of labelled rows.
        k: how many rows to pick.
        adaptive: whether each pick counts as training data for the next.
        out: as for `select_to_file`.
        options: how the command is run.
        scoring: how the measure is applied.
        fast: as for `nearest_centroid`.
    """
    target = Target(out, options.picks_suffixes, pool, training)
    reducer = reducer_for(training, k, scoring, adaptive=adaptive, fast=fast)
    return picks_to_file("represent", reducer, pool, target, options)


def core_set_to_file(
    pool: Files,
    k: int,
    *,
    out: Path | None,
    labelled: Files | None = None,
    metric: str = "cosine",
    fast: bool = False,
    memory_bytes: int = MEMORY_BYTES,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
) -> Picks:
    """Selects rows so that every row is near a picked or labelled one, and writes the picks.

    Args:
        pool: the files.
        k: how many rows to pick.
        out: as for `select_to_file`.
        labelled: the embeddings of labelled rows.
        metric: as for `k_center`.
        fast: as for `nearest_centroid`.
        memory_bytes: as for `k_center`.
        options: how the command is run.
        scoring: how distances are computed.
    """
    target = Target(out, options.picks_suffixes, pool, labelled)
    reducer = CoreSet(
        k, labelled=labelled, metric=metric, fast=fast, memory_bytes=memory_bytes,
        on_invalid=scoring.on_invalid, backend=scoring.backend,
    )  # fmt: skip
    return picks_to_file("core-set", reducer, pool, target, options)


def _by_cluster(sample: ClusterSample) -> Picks:
    """All rows of a sample, by cluster and then by role, with the columns cluster and role."""
    rows, scores, cluster = (
        np.concatenate([np.asarray(getattr(picks, name)) for picks in sample])
        for name in ("rows", "scores", "groups")
    )
    role = np.repeat(_ROLES, [len(picks.rows) for picks in sample])
    order = np.argsort(cluster, kind="stable")
    columns = {"cluster": cluster[order], "role": role[order]}
    return Picks(rows[order], scores[order], invalid=sample.centroids.invalid, columns=columns)
