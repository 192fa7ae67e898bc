"""Picks rows one by one, each by its uncertainty and its distance to the rows before."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.diversity.centroids import digest
from fastal.diversity.core_set import MEMORY_BYTES, CoreSet
from fastal.picks.picks import Picks
from fastal.scoring.scoring_options import ScoringOptions


class Greedy(CoreSet):
    """A core-set whose picks are also uncertain, as a reducer.

    A row is worth alpha * distance + (1 - alpha) * uncertainty. The distance is half the cosine
    distance to the nearest row that is labelled or picked, from 0 to 1. Before there is such a row,
    a row is worth its uncertainty. Any chunks in any order and any merging within a pass give the
    same picks.

    Args:
        k: how many rows to pick, at least 1.
        uncertainty: [N] float32, of each row; NaN for rows that must not be picked.
        labelled: [L, D], the rows that are already labelled; None: there are none.
        alpha: from 0 to 1.
        n_unlabelled: how many rows are not labelled. alpha is then their share, which falls with
            each pick; None: it is `alpha`.
        options: how rows are compared.
        memory_bytes: as for `k_center`.
    """

    def __init__(
        self,
        k: int,
        uncertainty: NDArray[np.float32],
        labelled: Any,
        *,
        alpha: float = 1.0,
        n_unlabelled: int | None = None,
        options: ScoringOptions,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        super().__init__(
            k, labelled=labelled, memory_bytes=memory_bytes, on_invalid=options.on_invalid,
            backend=options.backend,
        )  # fmt: skip
        self._uncertainty = torch.from_numpy(uncertainty)
        self._alpha = alpha
        self._n_unlabelled = n_unlabelled

    @property
    def alpha(self) -> float:
        """The weight of the distance for the next pick."""
        if self._n_unlabelled is None:
            return self._alpha
        return (self._n_unlabelled - len(self._rows)) / (self._n_unlabelled + self._n_labelled)

    def _worth(self, nearest: Tensor, rows: NDArray[np.int64]) -> Tensor:
        uncertainty = self._uncertainty[torch.from_numpy(rows)].to(nearest.device, torch.float64)
        worth = uncertainty
        if self._rows or self._to_centres.began_from is not None:
            worth = self.alpha * (nearest.double() / 2) + (1 - self.alpha) * uncertainty
        return worth.masked_fill((nearest == -torch.inf) | uncertainty.isnan(), -torch.inf)

    def _most_gained(self, n_picks: int) -> float:
        if not n_picks:
            return 0.0
        if self._to_centres.began_from is None and len(self._rows) == n_picks:
            return np.inf  # before the first pick, rows are worth their uncertainty
        if self._n_unlabelled is None:
            return 0.0
        # A row gains where its uncertainty is more than half its distance, as alpha falls.
        fallen = n_picks / (self._n_unlabelled + self._n_labelled)
        return fallen * max(0.0, float(self._uncertainty.nan_to_num(-np.inf).max()))

    def result(self) -> Picks:
        """The picks so far, in the order of picking, with what each was worth."""
        return self._picks(self._scores)

    def identity(self) -> dict[str, Any]:
        """k, the uncertainties, the labelled rows, and alpha."""
        return {
            **super().identity(), "uncertainty": digest(self._uncertainty), "alpha": self._alpha,
            "n_unlabelled": self._n_unlabelled,
        }  # fmt: skip
