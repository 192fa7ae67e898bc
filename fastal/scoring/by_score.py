"""Scores of the caller's own, which a pool holds, as a measure."""

from typing import Any

import torch
from torch import Tensor

from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows


class OwnScore(Measure):
    """Ranks the values of a pool [n] or [n, 1], rounded to float32; larger = more worth labelling.

    NaN is invalid. Infinite scores are ranked.
    """

    kind = "scores"
    invalid = "has score NaN"
    rows_alike = False

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x holds one real number a row."""
        if x.shape[1:] not in ((), (1,)):
            raise ValueError(
                f"scores: wanted one number per row, [rows], got shape {tuple(x.shape)}"
            )
        if x.is_complex():
            raise TypeError(f"scores: wanted real numbers, got {x.dtype}")

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The values [n] float32."""
        scores = rows.x.reshape(-1).to(torch.float32, copy=True)
        return [scores], int(scores.isnan().sum())

    @property
    def strategy(self) -> str:
        """Its name as a score."""
        return "score"

    def identity(self) -> Any:
        """Its name."""
        return "score"
