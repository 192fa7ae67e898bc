"""A random sample of a pool's rows, the rows themselves: the same whatever the chunks."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.ops.reference import unit_rows
from fastal.selection.noise import gumbel

_LAST = 2**63 - 1  # loses a tie with any row
_BLOCK = 1 << 12  # rows looked at in one go: at first, copies are made of all of them
_NAMES = ("keys", "rows", "units")
_Columns = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


class RowSample:
    """Keeps n rows drawn at random, scaled to length 1: those of the largest keys.

    A row's key is a function of the seed and its number. Rows that are not finite are left out.

    Args:
        n: how many rows to keep.
        width: columns of the rows.
        seed: of the draw.
    """

    def __init__(self, n: int, width: int, seed: int) -> None:
        self.width = width
        self._n = n
        self._seed = seed
        self._bar = -np.inf, _LAST  # key and row to beat
        empty = np.empty(0, np.float32), np.empty(0, np.int64), np.empty((0, width), np.float32)
        self._held: list[_Columns] = [empty]  # keys, rows and unit rows; to be put together

    def update(self, x: Tensor, start: int) -> None:
        """Takes rows start, start + 1, ..., [m, width]."""
        for first in range(0, len(x), _BLOCK):
            block = x[first : first + _BLOCK]
            keys = gumbel(self._seed, start + first, len(block)).astype(np.float32)
            rows = np.arange(start + first, start + first + len(block))
            key, row = self._bar
            above = np.flatnonzero((keys > key) | ((keys == key) & (rows < row)))
            units = unit_rows(block[torch.from_numpy(above).to(x.device)]).float().cpu().numpy()
            kept = np.isfinite(units).all(1)
            self._add((keys[above[kept]], rows[above[kept]], units[kept]))

    def merge(self, other: "RowSample") -> None:
        """Takes in the sample of other rows."""
        self._add(other._compacted())

    def units(self) -> Tensor:
        """The sample [m, width] float32, m <= n, in the order of the draw."""
        return torch.from_numpy(self._compacted()[2])

    def state_dict(self) -> dict[str, Any]:
        """The sample so far."""
        return dict(zip(_NAMES, self._compacted(), strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        keys, rows, units = (np.asarray(state[name]) for name in _NAMES)
        self._add((keys, rows, units))

    def _add(self, columns: _Columns) -> None:
        self._held.append(columns)
        if sum(len(keys) for keys, _, _ in self._held) >= 2 * self._n:
            self._compacted()

    def _compacted(self) -> _Columns:
        """The n best of what is held, which is then all."""
        keys, rows, units = (np.concatenate(column) for column in zip(*self._held, strict=True))
        order = np.lexsort((rows, -keys))[: self._n]
        self._held = [(keys[order], rows[order], units[order])]
        if len(order) == self._n:
            self._bar = float(keys[order[-1]]), int(rows[order[-1]])
        return self._held[0]
