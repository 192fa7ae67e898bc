"""Semantic duplicates: rows that are nearly equal to an earlier row of their cluster."""

import logging
from typing import Any

from fastal.diversity.deduplicator import Deduplicator, Duplicates
from fastal.pipeline.run_on_pool import in_numpy, run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.sources import PathLike

_log = logging.getLogger("fastal")


def deduplicate(
    pool: Any,
    centroids: Any,
    threshold: float = 0.95,
    *,
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
) -> Duplicates:
    """Rows whose cosine similarity to an earlier row of the same cluster is at least the threshold.

    A pool without these rows still has the first row of every group of duplicates. The pool is read
    once to assign rows to clusters. It is then read once for each set of clusters that fit into
    memory together.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again,
            such as a list of arrays, but not a generator.
        centroids: [K, D] array, such as `CosineClusters.centroids`; its rows have any length. A row
            is in the cluster of its nearest centroid. A single centroid compares each row with all
            earlier rows.
        threshold: the least similarity of duplicates, from -1 to 1. Rows of zeros have similarity 0
            to all.
        memory_bytes: memory for the rows that are compared at once, which take 4 D bytes each.
            Every row of the pool takes 4 more bytes.
        fast: as for `nearest_centroid`; for the assignment to clusters only.
        on_invalid: "raise", or "skip" to leave out rows that are not finite, and log their count.
        backend: "auto", "triton" or "torch"; for the assignment to clusters only.
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`; it may have up to `memory_bytes`, and 4 bytes per row.
        resume: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        progress: as for `fastal.select`.

    Returns:
        Duplicates, arrays of the kind of the pool, NumPy for files. If the similarities of two
        earlier rows differ by less than (D + 8) 2^-23, either may be reported as the most similar.
        The error of the similarity is at most 2^-22. Equal rows have similarity 1.

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
    """
    reducer = Deduplicator(
        centroids, threshold, memory_bytes=memory_bytes, fast=fast, on_invalid=on_invalid,
        backend=backend,
    )  # fmt: skip
    found = run_on_pool(
        reducer, pool,
        RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress),
        lambda found, source: Duplicates(*in_numpy(source, *found)),
    )  # fmt: skip
    if reducer.invalid:
        _log.warning("%d rows are invalid: left out", reducer.invalid)
    return found
