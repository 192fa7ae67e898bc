"""The distance of rows to the nearest centre, as a measure. The centres may change."""

import math
from typing import Any

import torch
from torch import Tensor

from fastal import ops
from fastal.base.blank_rows import Blank
from fastal.base.checks import check_choice
from fastal.diversity.centroids import EmbeddingMeasure, digest
from fastal.ops import reference
from fastal.scoring.rows import Rows

METRICS = ("cosine", "euclidean")


class Distance(EmbeddingMeasure):
    """The distance of rows to the nearest centre; infinite if there are no centres.

    Args:
        metric: "cosine", 1 - similarity, or "euclidean".
        centres: [L, D] float64 on the host, finite; None: no centres yet. The identity has the
            digest of these first centres, not of later ones.
        fast: as for `nearest_centroid`.

    Attributes:
        began_from: the digest of the first centres; None if there were none.
    """

    width_of = "labelled"

    def __init__(self, metric: str, centres: Tensor | None, *, fast: bool) -> None:
        check_choice("metric", metric, METRICS)
        self.offers = EmbeddingMeasure.offers if metric == "cosine" else ("torch",)
        self.width = None if centres is None else centres.shape[1]
        self.blank = Blank(1.0, 1.0, 0.0) if metric == "cosine" else None
        self._metric = metric
        self._fast = fast
        self.began_from = None if centres is None else digest(centres)
        self.centres = centres

    @property
    def centres(self) -> Tensor | None:
        """The present centres [L, D], as they were given."""
        return self._centres

    @centres.setter
    def centres(self, centres: Tensor | None) -> None:
        self._centres = self._points = centres
        if centres is not None and self._metric == "cosine":
            self._points = reference.unit_rows(centres).float()

    def score(self, rows: Rows) -> Tensor:
        """The distances of rows [n, D], [n] float32; NaN for rows that are not finite."""
        if self._points is None:
            width, device = rows.x.shape[1], rows.x.device
            anywhere = torch.zeros(1, width, dtype=torch.float32, device=device)
            return self._to(rows, anywhere) + math.inf
        return self._to(rows, self._points.to(rows.x.device))

    def _to(self, rows: Rows, centres: Tensor) -> Tensor:
        x, backend = rows.x, rows.backend
        if self._metric == "euclidean":
            return reference.euclidean(x, centres)
        if len(centres) == 1:
            return 1 - ops.similarities(x, centres, self._fast, backend=backend)[:, 0]
        return 1 - ops.nearest(x, centres, self._fast, backend=backend)[1]

    def identity(self) -> dict[str, Any]:
        """The metric, the digest of the first centres, and `fast`."""
        return {"metric": self._metric, "labelled": self.began_from, "fast": self._fast}
