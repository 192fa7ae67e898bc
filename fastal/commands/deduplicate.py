"""`fastal deduplicate`: from embeddings to the rows that are kept and those that are dropped."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastal.base.reducer import Reducer
from fastal.commands.centroids import clusters_for, fitted_first, opened_centroids
from fastal.commands.command import CommandOptions, CommandRun, check_not_picks
from fastal.commands.uncertainty import put_picks
from fastal.diversity.centroids import rows_of
from fastal.diversity.clustering.k_means import KMeansOptions
from fastal.diversity.deduplicator import Deduplicator, checked_threshold
from fastal.diversity.duplicates import Duplicates, at_threshold
from fastal.diversity.keep_values import value_file, values_of
from fastal.output.target import Target, is_among
from fastal.picks.files import PICKS_SUFFIXES
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import with_ids
from fastal.pipeline.sequential import Sequential
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources.files import Files

_log = logging.getLogger("fastal")
_DEFAULTS = CommandOptions()
_SCORING = ScoringOptions()
_K_MEANS = KMeansOptions()
_PLACE = "{threshold}"  # in the name of a file
_COLUMNS = ("of", "of_id", "kept", "kept_id")  # that the dropped have of their own


def deduplicate_to_file(
    pool: Files,
    threshold: Sequence[float],
    *,
    out: Path | None,
    dropped: Path | None = None,
    centroids: Path | None = None,
    n_clusters: int | None = None,
    keep: str = "first",
    memory_bytes: int = 1 << 30,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    how: KMeansOptions = _K_MEANS,
) -> None:
    """Finds duplicates in files, and writes the rows that are kept and those that are dropped.

    The kept rows have the columns rank, row, score (see `kept_picks`), id, cluster and the carried
    columns. The dropped rows have, after the cluster, the columns of `dropped_picks`.

    Args:
        pool: the files.
        threshold: one or more, as for `deduplicate`.
        out: as for `select_to_file`; for several thresholds, a name with `{threshold}` in it.
        dropped: a file of picks, likewise; None: the dropped rows are not written.
        centroids: a file of centroids; None with `n_clusters`.
        n_clusters: how many clusters to find first.
        keep: as for `deduplicate`: a name, that of a carried column, or a file.
        memory_bytes: as for `deduplicate`.
        options: how the command is run.
        scoring: how rows are compared with centroids.
        how: how centroids are found; its seed is that of `keep`, too.
    """
    thresholds = [checked_threshold(one) for one in threshold]
    for place, one in enumerate(thresholds):
        if one in thresholds[:place]:
            raise ValueError(f"threshold: {one} is there twice")
    held = None if centroids is None else opened_centroids(centroids)
    kept_targets = [
        Target(path, options.picks_suffixes, pool, held) for path in _paths("out", out, thresholds)
    ]
    dropped_targets = [
        Target(path, PICKS_SUFFIXES, pool, held, name="dropped", has_record=False)
        for path in (() if dropped is None else _paths("dropped", dropped, thresholds))
    ]
    _check_outputs(kept_targets, dropped_targets, value_file(pool, keep), options)
    if dropped is not None:
        for name in pool.columns.carried:
            if name in _COLUMNS:
                raise ValueError(
                    f"carry: the dropped rows have a column {name!r} of their own; rename yours"
                )
    deduplicator = partial(
        Deduplicator, threshold=min(thresholds), keep=values_of(pool, keep), seed=how.seed,
        memory_bytes=memory_bytes, fast=how.fast, on_invalid=scoring.on_invalid,
        backend=scoring.backend,
    )  # fmt: skip
    reducer = _reducer(deduplicator, held, n_clusters, scoring, how)
    with CommandRun("deduplicate", reducer, pool, kept_targets[0], options) as command_run:
        found = command_run.run()
        last = reducer.current if isinstance(reducer, Sequential) else reducer
        assert isinstance(last, Deduplicator)
        counts = []
        for place, one in enumerate(thresholds):
            duplicates = at_threshold(Duplicates(*map(np.asarray, found)), one)
            kept = with_ids(kept_picks(duplicates, last), pool, last)
            put_picks(kept_targets[place], kept, options.export)
            if dropped_targets:
                put_picks(dropped_targets[place], dropped_picks(duplicates, last, pool))
            counts.append({"threshold": one, "kept": len(kept), "dropped": len(duplicates.rows)})
        for count in counts:
            options.reporter.say(
                "threshold {threshold}: {kept:,} rows kept, {dropped:,} dropped".format(**count),
                "deduplicated", **count,
            )  # fmt: skip
        if not counts[0]["kept"]:
            _log.warning("nothing was kept: no row of the pool was compared")
        arguments = {**reducer.bound_to(), "threshold": thresholds}  # the reducer has the least
        command_run.finish(
            arguments=arguments, invalid=last.invalid, backend=last.backend_used, thresholds=counts,
        )  # fmt: skip


def kept_picks(duplicates: Duplicates, deduplicator: Deduplicator) -> Picks:
    """The rows that are no duplicates, with their clusters.

    The score of a row is the number of rows that it stands for: itself, and the duplicates that
    `Duplicates.kept` leads to it. Rows that stand for most come first; ties go to the lower row.
    """
    clusters = deduplicator.clusters
    stands_for = 1 + np.bincount(duplicates.kept(), minlength=len(clusters))
    is_kept = clusters >= 0
    is_kept[duplicates.rows] = False
    rows = np.flatnonzero(is_kept)
    rows = rows[np.argsort(-stands_for[rows], kind="stable")]
    return Picks(
        rows, stands_for[rows].astype(np.float32), invalid=deduplicator.invalid,
        columns={"cluster": clusters[rows].astype(np.int64)},
    )  # fmt: skip


def dropped_picks(duplicates: Duplicates, deduplicator: Deduplicator, pool: Files) -> Picks:
    """The duplicates, the most similar first, with their ids and carried columns.

    Their scores are similarities. The columns are cluster; of, the row that a row repeats; kept,
    the row that is kept in its place; and the ids of these two, of_id and kept_id, if there are
    ids.
    """
    order = np.argsort(-duplicates.similarity, kind="stable")
    rows = duplicates.rows[order]
    columns = {"cluster": deduplicator.clusters[rows].astype(np.int64)}
    for name, others in (("of", duplicates.of[order]), ("kept", duplicates.kept()[order])):
        columns[name] = others
        if pool.columns.ids is not None:
            different, place = np.unique(others, return_inverse=True)
            columns[f"{name}_id"] = np.asarray(pool.ids(different))[place]
    picks = Picks(rows, duplicates.similarity[order], columns=columns)
    return with_ids(picks, pool, deduplicator)


def _reducer(
    deduplicator: Any,
    held: Files | None,
    n_clusters: int | None,
    scoring: ScoringOptions,
    how: KMeansOptions,
) -> Reducer[Duplicates]:
    """The reducer for given centroids, or for those that are found first."""
    if held is not None:
        given: Deduplicator = deduplicator(rows_of(held, "centroids"))
        return given
    identity = deduplicator(np.ones((1, 1))).identity()  # checked before the first pass
    clusters = clusters_for(n_clusters, None, scoring, how)
    identity["centroids"] = clusters.reducer().identity()
    return fitted_first(clusters, lambda: deduplicator(clusters.centroids), identity, scoring)


def _paths(name: str, path: Path | None, thresholds: Sequence[float]) -> list[Path | None]:
    """The file for each threshold."""
    if len(thresholds) > 1 and (path is None or _PLACE not in path.name):
        raise ValueError(
            f"{name}: wanted a file for each threshold, such as {name}-{_PLACE}.csv, got "
            f"{path or 'none'}"
        )
    if path is None:
        return [None]
    return [path.with_name(path.name.replace(_PLACE, _text(one))) for one in thresholds]


def _text(threshold: float) -> str:
    return repr(threshold).removesuffix(".0")


def _check_outputs(
    kept: list[Target], dropped: list[Target], values: Path | None, options: CommandOptions
) -> None:
    """ValueError if a file would be written twice, or is one that options name."""
    written: set[str] = set()
    for target in (*kept, *dropped):
        name = "dropped" if target in dropped else "out"
        for path in (target.out, target.record):
            real = None if path is None else os.path.realpath(path)
            if real in written:
                raise ValueError(f"{name}: {path} is written already, for other rows")
            if real is not None and values is not None and is_among(Path(real), [values]):
                raise ValueError(f"{name}: {path} is the file of keep")
            written |= set() if real is None else {real}
        check_not_picks(target.out, name, exclude=options.exclude, among=options.among)
