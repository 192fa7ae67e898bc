"""A random sample of a pool's rows, which is the same for any chunks."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.checks import MAX_ROW
from fastal.ops.reference import unit_rows
from fastal.scoring.rows import Rows
from fastal.selection.noise import gumbel
from fastal.selection.ties import beat, best_first

_BLOCK = 1 << 12  # rows at once; early blocks are copied whole, in float64
_NAMES = ("keys", "rows", "units")
_Columns = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


class RowSample:
    """Keeps n rows drawn at random, scaled to length 1.

    The key of a row is a function of the seed and of the row number. The n rows with the largest
    keys are kept; ties go to the lower row number. Rows that are not finite are left out.

    Args:
        n: how many rows to keep.
        width: how many columns the rows have.
        seed: the seed of the draw.
        threshold: a key and a row that rows have to beat; None: all rows count.

    Attributes:
        threshold: the n-th best key and row of those merged or selected so far.
    """

    def __init__(
        self, n: int, width: int, seed: int, threshold: tuple[float, int] | None = None
    ) -> None:
        self.width = width
        self._n = n
        self._seed = seed
        self.threshold = threshold or (-np.inf, MAX_ROW)
        empty = np.empty(0, np.float32), np.empty(0, np.int64), np.empty((0, width), np.float32)
        self._held: list[_Columns] = [empty]  # keys, rows and unit rows, in pieces

    def with_rows(self, rows: Rows) -> "RowSample":
        """A new sample that also covers these rows, [m, width]."""
        found = RowSample(self._n, self.width, self._seed)
        found.threshold, found._held = self.threshold, list(self._held)
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
            self._add((keys[above[kept]], numbers[above[kept]], units[kept]))

    def merge(self, other: "RowSample") -> None:
        """Adds the sample of other rows."""
        keys, rows, units = other._compacted()
        above = np.flatnonzero(beat(keys, rows, *self.threshold))
        self._add((keys[above], rows[above], units[above]))
        self._raise_threshold()

    def units(self) -> Tensor:
        """The sample [m, width] float32, m <= n, in the order of the draw."""
        return torch.from_numpy(self._compacted()[2])

    def state_dict(self) -> dict[str, Any]:
        """The sample so far."""
        return dict(zip(_NAMES, self._compacted(), strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        keys, rows, units = (np.asarray(state[name]) for name in _NAMES)
        self._hold((keys, rows, units))

    def _add(self, columns: _Columns) -> None:
        if not len(columns[0]):
            return
        self._held.append(columns)
        if sum(len(keys) for keys, _, _ in self._held) >= 2 * self._n:
            self._compacted()

    def _compacted(self) -> _Columns:
        """The rows with the n largest keys; all other rows are dropped."""
        if len(self._held) > 1:
            keys, rows = (np.concatenate([piece[i] for piece in self._held]) for i in (0, 1))
            order = best_first(keys, rows)[: self._n]
            units = np.concatenate([piece[2] for piece in self._held])[order]
            self._hold((keys[order], rows[order], units))
        return self._held[0]

    def _raise_threshold(self) -> None:
        """Finds the threshold. The rows below it are dropped later, all at once."""
        keys, rows = (np.concatenate([piece[i] for piece in self._held]) for i in (0, 1))
        if len(keys) >= self._n:
            last = best_first(keys, rows)[self._n - 1]
            self.threshold = float(keys[last]), int(rows[last])

    def _hold(self, best: _Columns) -> None:
        """Replaces all rows by these, at most n, those with the largest keys first."""
        self._held = [best]
        keys, rows, _ = best
        if len(keys) == self._n:
            self.threshold = float(keys[-1]), int(rows[-1])
