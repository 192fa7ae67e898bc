"""Assigns every row of a pool to its nearest centroid."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal.base.arrays import is_array
from fastal.base.reducer import Pending, RowStart
from fastal.diversity.centroids import CentroidDistance, scored_array
from fastal.pipeline.run_on_pool import in_numpy, run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.sources import open_pool

_log = logging.getLogger("fastal")


class Nearest(NamedTuple):
    """The most similar centroid of each row.

    Attributes:
        cluster: [N] int64, the number of the centroid; -1 for invalid rows. Ties go to the lowest.
        similarity: [N] float32, the cosine similarity to this centroid, in [-1, 1]; NaN for invalid
            rows.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> diversity.nearest_centroid(np.array([[2, 0], [0, 3]], np.float32), np.eye(2))
        Nearest(cluster=array([0, 1]), similarity=array([1., 1.], dtype=float32))
    """

    cluster: Any
    similarity: Any


class Assignment(ScoringReducer[Nearest]):
    """Finds the nearest centroid of every row; keeps 12 bytes per row.

    Args:
        centroids: the centroids of the clusters.
        options: how rows are compared with centroids.

    Attributes:
        n_rows: how many rows the result has at least.
    """

    reads_gaps = False

    def __init__(self, centroids: CentroidDistance, options: ScoringOptions) -> None:
        super().__init__(centroids, options)
        self._centroids = centroids
        self._parts: dict[int, tuple[Tensor, Tensor]] = {}  # by first row
        self.n_rows = 0

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Finds the nearest centroids of embeddings [n, D]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        cluster, similarity = self._centroids.nearest(rows)
        n_invalid = int(rows.invalid(similarity).count_nonzero())

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            self._parts[rows.start] = cluster.cpu(), similarity.cpu()

        return Pending(commit)

    def part(self) -> "Assignment":
        """An assignment to the same centroids that has read no rows; see `merge`."""
        part = self._unread()
        part._parts = {}
        return part

    def merge(self, other: "Assignment") -> None:
        """Adds the assignment of other rows to the same centroids.

        Raises:
            ValueError: the other has other centroids.
            TypeError: the other is not an `Assignment`, or is this very reducer.
        """
        self._check_mergeable(other)
        self._scorer.merge(other._scorer)
        self._parts |= other._parts

    def result(self) -> Nearest:
        """Cluster and similarity of each row; -1 and NaN for rows that were not read."""
        n_read = max((row + len(part[0]) for row, part in self._parts.items()), default=0)
        n_rows = max(n_read, self.n_rows)
        cluster = torch.full((n_rows,), -1, dtype=torch.int64, device="cpu")
        similarity = torch.full((n_rows,), torch.nan, dtype=torch.float32, device="cpu")
        for row, (of_part, similar) in self._parts.items():
            cluster[row : row + len(of_part)] = of_part
            similarity[row : row + len(of_part)] = similar
        return Nearest(*map(self._scorer.to_caller_kind, (cluster, similarity)))

    def _state(self) -> dict[str, Any]:
        parts = [[row, *(part.numpy() for part in self._parts[row])] for row in self._parts]
        return {**super()._state(), "parts": parts}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        for row, *part in state["parts"]:
            cluster, similarity = map(torch.from_numpy, part)
            self._parts[row] = cluster, similarity


def assigned(reducer: Assignment, pool: Any, options: RunOptions) -> Nearest:
    """The nearest centroid of every row of a pool, as arrays of its kind, NumPy for files."""
    opened = open_pool(pool)
    reducer.n_rows = opened.n_rows or 0
    return run_on_pool(
        reducer, opened, options, lambda found, source: Nearest(*in_numpy(source, *found))
    )


def nearest_centroid(
    x: Any,
    centroids: Any,
    *,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    progress: bool = False,
) -> Nearest:
    """The most similar centroid of each row by cosine similarity, in one pass over the rows.

    Rows and centroids may have any length. They are normalised here; no normalised copy of the rows
    is made. The error of a similarity is at most (D + 8) 2^-24. On a GPU it is at most twice that,
    and for bfloat16 2^-17 more. If two centroids differ by less than the error, either may be
    found. A row or a centroid of zeros has similarity 0 to all.

    Args:
        x: [N, D] embeddings; float16, bfloat16, float32 or float64; any pool that `fastal.select`
            takes. An array in memory may have any strides and be on any device.
        centroids: [K, D] array, K >= 1, finite.
        fast: allow less exact products on a GPU: TF32 for float32 rows; for 16-bit rows, centroids
            rounded to the rows' dtype.
        on_invalid: "raise", or "skip" to give NaN to rows that are not finite, and log their count.
        backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.
        chunk_bytes: as for `fastal.select`. An array in memory is one chunk.
        progress: as for `fastal.select`. An array in memory has none.

    Returns:
        Nearest, two arrays [N] of the kind of `x`, NumPy for files. Ties go to the lowest cluster.
        Rows that are not finite, and rows of files that were skipped, have cluster -1 and
        similarity NaN. The result takes 12 bytes per row.

    Raises:
        InvalidRows: with on_invalid="raise"; it names the first rows that are not finite.
        ValueError, TypeError, OSError: a bad argument or file; the message names it.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> found = diversity.nearest_centroid(np.array([[2, 0], [3, 4]], np.float32), np.eye(2))
        >>> found.cluster, found.similarity.round(3)
        (array([0, 1]), array([1. , 0.8], dtype=float32))
    """
    measure, options = CentroidDistance(centroids, fast=fast), ScoringOptions(on_invalid, backend)
    if not is_array(x):
        reducer = Assignment(measure, options)
        found = assigned(reducer, x, RunOptions(chunk_bytes, progress=progress))
        if reducer.invalid:
            _log.warning("%d of %d rows are invalid: NaN", reducer.invalid, len(found.cluster))
        return found

    def nearest(rows: Rows) -> tuple[list[Tensor], int]:
        cluster, similarity = measure.nearest(rows)
        return [similarity, cluster], int(rows.invalid(similarity).count_nonzero())

    similarity, cluster = scored_array(measure, x, nearest, options)
    return Nearest(cluster, similarity)
