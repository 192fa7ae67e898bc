"""Semantic duplicates: rows that are nearly equal to an earlier row of their cluster."""

import logging
from collections.abc import Iterable, Mapping, Set
from typing import Any, overload

from fastal.diversity.deduplicator import Deduplicator, checked_threshold
from fastal.diversity.duplicates import Duplicates, at_threshold
from fastal.diversity.keep_values import values_of
from fastal.pipeline.run_on_pool import in_numpy, run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.sources import PathLike, open_pool

_log = logging.getLogger("fastal")


@overload
def deduplicate(
    pool: Any,
    centroids: Any,
    threshold: float = 0.95,
    *,
    keep: Any = ...,
    seed: int = ...,
    memory_bytes: int = ...,
    fast: bool = ...,
    on_invalid: str = ...,
    backend: str = ...,
    chunk_bytes: int | None = ...,
    checkpoint: PathLike | None = ...,
    resume: bool = ...,
    exclude: Any = ...,
    among: Any = ...,
    progress: bool = ...,
) -> Duplicates: ...


@overload
def deduplicate(
    pool: Any,
    centroids: Any,
    threshold: Iterable[float],
    *,
    keep: Any = ...,
    seed: int = ...,
    memory_bytes: int = ...,
    fast: bool = ...,
    on_invalid: str = ...,
    backend: str = ...,
    chunk_bytes: int | None = ...,
    checkpoint: PathLike | None = ...,
    resume: bool = ...,
    exclude: Any = ...,
    among: Any = ...,
    progress: bool = ...,
) -> list[Duplicates]: ...


def deduplicate(
    pool: Any,
    centroids: Any,
    threshold: float | Iterable[float] = 0.95,
    *,
    keep: Any = "first",
    seed: int = 0,
    memory_bytes: int = 1 << 30,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    exclude: Any = None,
    among: Any = None,
    progress: bool = False,
) -> Duplicates | list[Duplicates]:
    """Rows whose cosine similarity to an earlier row of the same cluster is at least the threshold.

    The rows of a cluster are compared in the order of `keep`. Each row is compared with all rows
    before it, whether or not these are duplicates themselves. A pool without the duplicates still
    has the first row of every group of duplicates.

    The pool is read once to assign rows to clusters. It is then read once for each set of clusters
    that fit into memory together.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again,
            such as a list of arrays, but not a generator.
        centroids: [K, D] array, such as `CosineClusters.centroids`; its rows have any length. A row
            is in the cluster of its nearest centroid. A single centroid compares each row with all
            earlier rows.
        threshold: the least similarity of duplicates, from -1 to 1; or several in a list or another
            iterable, except sets and mappings. Several thresholds take the passes of one. Rows of
            zeros have similarity 0 to all.
        keep: which row of several duplicates is kept, that is, comes first in its cluster. Ties go
            to the lower row number.

            - "first": the lowest row number;
            - "nearest": the row most similar to the centroid of its cluster;
            - "farthest": the row least similar to the centroid, as in the paper;
            - "random": a row that `seed` draws;
            - the name of a column that the pool carries (see `carry` of `fastal.open_pool`): the
              row with the largest value. A column with one of the names above needs another name;
            - values [N], a number for each row of the pool, such as scores: the row with the
              largest value;
            - a .parquet, .csv or .npy file of values, such as `fastal score` writes for one score:
              likewise. Rows are matched by id if pool and file have ids, else by number. The column
              is `score`, or the only one beside `id`, `row` and `rank`.
        seed: the seed of keep="random", from 0 to 2^64 - 1.
        memory_bytes: memory for the rows that are compared at once, which take 4 D bytes each.
            Every row of the pool takes 4 more bytes, or 8 with keep="nearest" or "farthest".
            Values are copied.
        fast: as for `nearest_centroid`; for the assignment to clusters only.
        on_invalid: "raise", or "skip" to leave out rows that are not finite, and log their count.
        backend: "auto", "triton", "native" or "torch"; for the assignment to clusters only.
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`; it may have up to `memory_bytes`, and 8 bytes per row.
        resume: as for `fastal.select`.
        exclude: rows that are not compared, in the forms that `fastal.select` takes. They are no
            duplicates, and no row is a duplicate of them.
        among: the only rows that are compared, in the same forms.
        progress: as for `fastal.select`.

    Returns:
        Duplicates, arrays of the kind of the pool, NumPy for files. For several thresholds, a list
        of Duplicates in their order; each is what a call with this threshold alone returns.
        Similarities are computed in float64 from rows of length 1 in float32. They are compared as
        they are returned, rounded to float32; their error is at most 2^-22. Equal rows have
        similarity 1.

    Raises:
        InvalidRows: with on_invalid="raise"; it names rows that are not finite.
        ValueError: a cluster does not fit into memory, or another argument is bad; the message
            names it.
        TypeError, OSError: as `fastal.select`.

    Source: Abbas et al., SemDeDup: Data-efficient learning at web-scale through semantic
    deduplication (2023).

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[1, 0], [0, 1], [2, 0], [4, 1]], np.float32)
        >>> found = diversity.deduplicate(x, np.ones((1, 2)), threshold=0.9)
        >>> found.rows, found.of, found.similarity.round(3)
        (array([2, 3]), array([0, 0]), array([1.  , 0.97], dtype=float32))
        >>> diversity.deduplicate(x, np.ones((1, 2)), threshold=0.9, keep=[0, 0, 1, 7]).rows
        array([0, 2])
        >>> strict, loose = diversity.deduplicate(x, np.ones((1, 2)), threshold=[0.99, 0.9])
        >>> strict.rows, loose.rows
        (array([2]), array([2, 3]))
    """
    thresholds = _checked_thresholds(threshold)
    source = open_pool(pool)
    reducer = Deduplicator(
        centroids, min(thresholds), keep=values_of(source, keep), seed=seed,
        memory_bytes=memory_bytes, fast=fast, on_invalid=on_invalid, backend=backend,
    )  # fmt: skip
    found = run_on_pool(
        reducer, source,
        RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress),
        lambda found, source: Duplicates(*in_numpy(source, *found)),
    )  # fmt: skip
    if reducer.invalid:
        _log.warning("%d rows are invalid: left out", reducer.invalid)
    if not _is_several(threshold):
        return found
    return [at_threshold(found, one) for one in thresholds]


def _is_several(threshold: Any) -> bool:
    """Whether an argument is several values in an order, or else is to be one number."""
    if isinstance(threshold, (str, bytes, Mapping, Set)) or not isinstance(threshold, Iterable):
        return False
    return getattr(threshold, "ndim", 1) > 0  # NumPy's and torch's 0-d arrays only look iterable


def _checked_thresholds(threshold: Any) -> list[float]:
    several = threshold if _is_several(threshold) else [threshold]
    found = [checked_threshold(one) for one in several]
    if not found:
        raise ValueError("threshold: wanted at least one")
    return found
