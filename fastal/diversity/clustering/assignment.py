"""Assigns every row of a pool to its cluster, as a reducer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastal.base.reducer import Pending, RowStart
from fastal.diversity.centroids import CentroidDistance, Nearest
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer


class Assignment(ScoringReducer[Nearest]):
    """Finds the nearest centroid of every row; keeps 12 bytes per row.

    Args:
        centroids: the centroids of the clusters.
        options: how rows are compared with centroids.
    """

    reads_gaps = False

    def __init__(self, centroids: CentroidDistance, options: ScoringOptions) -> None:
        super().__init__(centroids, options)
        self._centroids = centroids
        self._parts: dict[int, tuple[Tensor, Tensor]] = {}  # by first row

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Finds the nearest centroids of embeddings [n, D]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        cluster, similarity = self._centroids.nearest(rows)
        n_invalid = int(rows.invalid(similarity).count_nonzero())

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            self._parts[rows.start] = cluster.cpu(), similarity.cpu()

        return Pending(commit)

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
        n_rows = max((row + len(part[0]) for row, part in self._parts.items()), default=0)
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
