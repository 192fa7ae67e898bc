"""The cluster of every row of a pool, as a reducer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.arrays import converter_for
from fastal.base.errors import check_another, restoring
from fastal.diversity.centroids import CentroidDistance, Nearest
from fastal.scoring.scorer import Confirm, Scorer, watching


class Assignment:
    """Finds the nearest centroid of every row; 12 bytes a row.

    Args:
        centroids: of the clusters.
        on_invalid: "raise" or "skip".
        backend: "auto", "triton" or "torch".
    """

    def __init__(
        self, centroids: CentroidDistance, *, on_invalid: str = "raise", backend: str = "auto"
    ) -> None:
        self._centroids = centroids
        self._scorer = Scorer(centroids, on_invalid=on_invalid, backend=backend)
        self._parts: dict[int, tuple[Tensor, Tensor]] = {}  # by first row
        self._to_caller_kind = converter_for(np.empty(0))

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... (None: where the last chunk ended): embeddings [n, D].

        Raises:
            InvalidRows: rows are not finite, and on_invalid is "raise".
            ValueError, TypeError: no such rows.
        """
        rows = self._scorer.checked(chunk, start)
        cluster, similarity = self._centroids.assigned(rows, self._scorer, confirm)
        self._parts[rows.start] = cluster.cpu(), similarity.cpu()
        self._to_caller_kind = converter_for(chunk)

    def merge(self, other: "Assignment") -> None:
        """Takes in what was found of other rows with the same centroids.

        Raises:
            ValueError, TypeError: it is no such thing.
        """
        check_another(Assignment, self, other)
        self._scorer.merge(other._scorer)
        self._parts |= other._parts

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(rows)."""
        parts = [[row, *(part.numpy() for part in self._parts[row])] for row in self._parts]
        return {"scorer": self._scorer.state_dict(), "parts": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError for that of other centroids."""
        with restoring():
            self._scorer.load_state_dict(state["scorer"])
            for row, *part in state["parts"]:
                cluster, similarity = map(torch.from_numpy, part)
                self._parts[row] = cluster, similarity

    def result(self) -> Nearest:
        """What was found, by row; -1 and NaN for rows that did not come."""
        n_rows = max((row + len(part[0]) for row, part in self._parts.items()), default=0)
        cluster = torch.full((n_rows,), -1, dtype=torch.int64, device="cpu")
        similarity = torch.full((n_rows,), torch.nan, dtype=torch.float32, device="cpu")
        for row, (of_part, similar) in self._parts.items():
            cluster[row : row + len(of_part)] = of_part
            similarity[row : row + len(of_part)] = similar
        return Nearest(self._to_caller_kind(cluster), self._to_caller_kind(similarity))
