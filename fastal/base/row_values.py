"""Holds a value for each row of a pool."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.row_numbers import RowNumbers


class RowValues:
    """A value for each row of a pool whose number of rows may be unknown.

    Args:
        fill: the value of rows that were not written.
        dtype: the dtype of the values.

    Attributes:
        n_rows: the number of the last row that was written, plus 1.
    """

    def __init__(self, fill: float, dtype: torch.dtype) -> None:
        self._fill = fill
        self._room = torch.empty(0, dtype=dtype, device="cpu")
        self.n_rows = 0

    @property
    def values(self) -> Tensor:
        """The values [n_rows], as a view that may be written to."""
        return self._room[: self.n_rows]

    def read(self, numbers: RowNumbers) -> Tensor:
        """A copy of the values of rows, [n]."""
        found = self._room.new_full((len(numbers),), self._fill)
        n_held = numbers.before(self.n_rows)
        found[:n_held] = self._room[_places(numbers.part(0, n_held))]
        return found

    def reserve(self, stop: int) -> None:
        """Makes room for the values of rows before `stop`. No value changes."""
        if stop > len(self._room):
            more = max(stop - len(self._room), len(self._room))
            self._room = torch.cat((self._room, self._room.new_full((more,), self._fill)))

    def write(self, numbers: RowNumbers, values: Tensor) -> None:
        """Sets the values [n] of rows; all values move to their device."""
        self._room = self._room.to(values.device)
        self.reserve(numbers.stop)
        self.n_rows = max(self.n_rows, numbers.stop)
        self._room[_places(numbers)] = values

    def trim(self) -> None:
        """Frees memory that was reserved for more rows."""
        if len(self._room) > self.n_rows:
            self._room = self.values.clone()

    def load(self, values: Tensor) -> None:
        """Replaces all values by these, [n_rows]."""
        self._room = values.to(self._room.dtype)
        self.n_rows = len(values)


def _places(numbers: RowNumbers) -> Any:
    """The index of these rows in a tensor with a value for each row of the pool."""
    if numbers.are_consecutive:
        return slice(numbers.start, numbers.stop)
    return torch.from_numpy(numbers.at(np.arange(len(numbers))))
