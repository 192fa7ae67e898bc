"""A random score of each row, so that random rows are selected as all others are."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.checks import checked_seed
from fastal.base.items import Items
from fastal.base.row_random import uniform
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows

_BLOCK = 1 << 16  # rows at once: bounds the memory beside the scores
_STEPS = 2**24  # float32 holds each multiple of 2^-24 in [0, 1)


class RandomScore(Measure):
    """Scores rows by uniform random numbers, multiples of 2^-24 in [0, 1).

    A score is a function of the seed and the row number. The values of the rows are not read: rows
    may have any shape and kind, and no row is invalid, not even a row of NaN.

    Args:
        seed: an integer from 0 to 2^64 - 1.
    """

    kind = "rows"
    invalid = "cannot be scored"  # never said: no row is invalid
    rows_alike = False
    ties_matter = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = checked_seed(seed)

    def check(self, x: Tensor) -> None:
        """Accepts rows of any shape."""

    def check_items(self, x: Tensor, items: Items) -> None:
        """Accepts any items."""

    def choose(self, x: Tensor, backend: str) -> str:  # noqa: ARG002
        """Always "numpy", which has the generator."""
        return "numpy"

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores [n] float32; the number of invalid rows is 0."""
        n = len(rows.numbers)
        scores = np.empty(n, np.float32)
        for first in range(0, n, _BLOCK):
            drawn = uniform(self._seed, rows.numbers.part(first, first + _BLOCK))
            scores[first : first + _BLOCK] = np.floor(drawn * _STEPS) / _STEPS
        return [torch.from_numpy(scores).to(rows.x.device)], 0

    @property
    def strategy(self) -> str:
        """Its name as a score."""
        return "random"

    def identity(self) -> Any:
        """Its name and the seed."""
        return {"name": "random", "seed": self._seed}
