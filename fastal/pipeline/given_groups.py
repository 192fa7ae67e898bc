"""The groups of a pool's rows, given as labels, as a file of labels, or as clusters."""

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fastal.base.errors import prefixing_errors
from fastal.sources import Source
from fastal.sources.beside import check_in_order
from fastal.sources.files import Files
from fastal.sources.grouped import Grouped
from fastal.sources.label_files import LabelTable, read_labels
from fastal.sources.matching import ids_of, places


@runtime_checkable
class Clusters(Protocol):
    """Clusters that rows can be assigned to, such as `fastal.diversity.CosineClusters`."""

    centroids: Any

    def assign(self, pool: Any) -> Any:
        """The `cluster` of each row of a pool."""


def with_groups(pool: Source, groups: Any, *, are_wanted: bool) -> Source:
    """A pool whose rows have groups.

    Args:
        pool: the pool.
        groups: as for `fastal.select`, except "predicted"; None: the pool's own.
        are_wanted: whether a pool without groups is an error.

    Raises:
        ValueError, TypeError, OSError: there is not one group for each row; the message begins with
            `groups` or with `beside`.
    """
    if groups is None:
        if are_wanted:
            check_has_groups(pool)
        return pool
    if isinstance(groups, Clusters):
        return _clustered(pool, groups)
    if isinstance(groups, (str, os.PathLike)):
        with prefixing_errors("groups"):
            return _labelled(pool, Path(groups))
    check_in_order(pool, "groups")
    return Grouped(pool, groups)


def check_has_groups(pool: Source, name: str = "groups") -> None:
    """ValueError if the files of a pool name no groups; other pools may have groups in chunks."""
    if isinstance(pool, Files) and pool.columns.groups is None:
        raise ValueError(f"{name}: wanted a label for each row")


def _clustered(pool: Source, clusters: Clusters) -> Source:
    """The pool with the clusters of the rows of the pool beside it."""
    beside: Source | None = getattr(pool, "beside", None)
    if beside is None:
        raise ValueError(
            "groups: clusters are assigned by embeddings; wanted a pool that was opened with its "
            "embeddings beside it: fastal.open_pool(pool, beside=embeddings)"
        )
    ids, others = ids_of(pool), ids_of(beside)
    place = None
    if ids is None or others is None:
        check_in_order(pool, "beside")
        check_in_order(beside, "beside")
    else:
        place = places(ids, others, "beside")
    with prefixing_errors("beside"):
        cluster = clusters.assign(beside).cluster
    if place is not None:
        cluster = np.asarray(cluster)[place]
    return Grouped(pool, cluster, "beside")


def _labelled(pool: Source, path: Path) -> Source:
    """The pool with the labels of a file."""
    return Grouped(pool, labels_of_rows(pool, read_labels(path), path, "groups"), f"groups: {path}")


def labels_of_rows(pool: Source, table: LabelTable, path: Path, name: str) -> NDArray[Any]:
    """The labels of a file in the order of a pool's rows: by id if both have ids, else by row.

    Args:
        pool: the pool.
        table: what the file holds.
        path: the file, for errors.
        name: the argument that named the file, for errors.

    Raises:
        ValueError: there is not one label for each row of the pool.
    """
    ids = None if table.ids is None else ids_of(pool)
    if ids is not None and table.ids is not None:
        found: NDArray[Any] = table.labels[places(ids, table.ids, f"{path}")]
        return found
    check_in_order(pool, name)
    labels, n_rows = table.labels, pool.n_rows
    if n_rows not in (None, len(labels)):
        raise ValueError(f"{path}: wanted {n_rows:,} rows, as the pool has, got {len(labels):,}")
    if table.rows is not None:
        labels = labels[places(np.arange(len(labels)), table.rows, f"{path}", "row number")]
    return labels
