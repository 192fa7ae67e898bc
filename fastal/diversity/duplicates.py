"""Semantic duplicates: rows of a cluster that say what an earlier one says."""

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
) -> Duplicates:
    """Rows whose cosine similarity to an earlier row of the same cluster is at least the threshold.

    Without them, the pool has the first row of every group of duplicates. It is read once to tell
    the clusters, and then once for as many clusters as fit into memory together.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes, but of iterables only those
            that can be gone through again and again, such as lists of arrays.
        centroids: [K, D] array, such as `CosineClusters.centroids`, of any length; a row is in the
            cluster of its nearest. One compares all rows with all.
        threshold: from -1 to 1. Rows of zeros have similarity 0 to all.
        memory_bytes: room for the rows that are compared, 4 D bytes each; beside them, 4 bytes are
            kept of every row of the pool.
        fast: as for `nearest_centroid`, to tell clusters.
        on_invalid: "raise", or "skip" to leave out rows that are not finite, and log their count.
        backend: as for `nearest_centroid`, to tell clusters.
        chunk_bytes: how much of the pool to look at in one go; None: as suits.
        checkpoint: as for `fastal.select`; what it saves may have `memory_bytes`.
        resume: as for `fastal.select`.

    Returns:
        Duplicates, arrays of the kind of the pool, NumPy for files. Of earlier rows whose
        similarities differ by less than (D + 8) 2^-23, any may count as the most similar; the
        similarity to it is off by at most 2^-22, and that of equal rows is 1.

    Raises:
        InvalidRows: with on_invalid="raise", naming rows that are not finite.
        ValueError: a cluster does not fit into memory; or another bad argument, named.
        TypeError, OSError: as `fastal.select`.

    Source: Abbas et al., SemDeDup: Data-efficient learning at web-scale through semantic
    deduplication (2023).
    """
    reducer = Deduplicator(
        centroids, threshold, memory_bytes=memory_bytes, fast=fast, on_invalid=on_invalid,
        backend=backend,
    )  # fmt: skip
    found = run_on_pool(
        reducer, pool, RunOptions(chunk_bytes, checkpoint, resume),
        lambda found, source: Duplicates(*in_numpy(source, *found)),
    )  # fmt: skip
    if reducer.invalid:
        _log.warning("%d rows are invalid: left out", reducer.invalid)
    return found
