"""Upper bounds of the distance of rows to the nearest centre, as a measure. Centres may change."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal import ops
from fastal.base.blank_rows import Blank
from fastal.base.checks import check_choice
from fastal.diversity.centroids import EmbeddingMeasure, digest
from fastal.diversity.metrics import METRICS, Doubles
from fastal.scoring.rows import Rows


class DistanceBound(EmbeddingMeasure):
    """Upper bounds of the distance of rows to the nearest centre; infinite without centres.

    Args:
        metric: "cosine", 1 - similarity, or "euclidean".
        centres: [L, D] float64 on the host, finite; None: no centres yet. The identity has the
            digest of these first centres, not of later ones.
        fast: as for `nearest_centroid`.

    Attributes:
        metric: the distance.
        began_from: the digest of the first centres; None if there were none.
        centres: the present centres [K, D], as points of the metric. K may be 0.
    """

    width_of = "labelled"

    def __init__(self, metric: str, centres: Tensor | None, *, fast: bool) -> None:
        check_choice("metric", metric, tuple(METRICS))
        self.metric = METRICS[metric]()
        self.offers = EmbeddingMeasure.offers if metric == "cosine" else ("torch",)
        self.width = None if centres is None else centres.shape[1]
        self.blank = Blank(1.0, 1.0, 0.0) if metric == "cosine" else None
        self._name = metric
        self._fast = fast
        self.began_from = None if centres is None else digest(centres)
        self.centres: Doubles = np.empty((0, self.width or 0))
        if centres is not None:
            self.centres = self.metric.points(centres)

    def score(self, rows: Rows) -> Tensor:
        """The bounds of rows [n, D], [n] float32; NaN for rows that are not finite."""
        if len(self.centres):
            return self.metric.upper(rows, self.centres, fast=self._fast)
        x = rows.x
        nowhere = torch.zeros(1, x.shape[1], dtype=torch.float32, device=x.device)
        return ops.similarities(x, nowhere, backend=rows.backend)[:, 0] + math.inf

    def identity(self) -> dict[str, Any]:
        """The metric, the digest of the first centres, and `fast`."""
        return {"metric": self._name, "labelled": self.began_from, "fast": self._fast}
