"""A random sample of a pool's rows, which is the same for any chunks."""

import numpy as np
import torch
from torch import Tensor

from fastal.diversity.clustering.kept_rows import KeptRows
from fastal.ops.reference import unit_rows
from fastal.scoring.rows import Rows
from fastal.selection.noise import gumbel
from fastal.selection.ties import beat

_BLOCK = 1 << 12  # rows at once; early blocks are copied whole, in float64


class RowSample(KeptRows):
    """Keeps n rows drawn at random, scaled to length 1.

    The key of a row is a function of the seed and of the row number. The n rows with the largest
    keys are kept; ties go to the lower row number. Rows that are not finite are left out.

    Args:
        n: how many rows to keep.
        width: how many columns the rows have.
        seed: the seed of the draw.
        threshold: a key and a row that rows have to beat; None: all rows count.
    """

    def __init__(
        self, n: int, width: int, seed: int, threshold: tuple[float, int] | None = None
    ) -> None:
        super().__init__(n, width, np.float32, threshold)
        self._seed = seed

    def with_rows(self, rows: Rows) -> "RowSample":
        """A new sample that also covers these rows, [m, width]."""
        found = self.copied()
        found._add_rows(rows)
        return found

    def _add_rows(self, rows: Rows) -> None:
        for first in range(0, len(rows.x), _BLOCK):
            block = rows.part(first, first + _BLOCK)
            keys = gumbel(self._seed, block.numbers).astype(np.float32)
            if block.left_out is not None:
                keys[block.left_out.cpu().numpy()] = np.nan
            numbers = block.numbers.at(np.arange(len(keys)))
            above = np.flatnonzero(beat(keys, numbers, *self.threshold))
            of_above = block.x[torch.from_numpy(above).to(block.x.device)]
            units = unit_rows(of_above).float().cpu().numpy()
            kept = np.isfinite(units).all(1)
            self.add(keys[above[kept]], numbers[above[kept]], units[kept])

    def units(self) -> Tensor:
        """The sample [m, width] float32, m <= n, in the order of the draw."""
        return torch.from_numpy(self.columns()[2])
