"""Holds a value for each row of a pool, or of a part of it."""

from collections.abc import Callable
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
        first: the first row that has a value.

    Attributes:
        first: the argument.
        n_rows: the number of the last row that was written, plus 1.
    """

    def __init__(self, fill: float, dtype: torch.dtype, first: int = 0) -> None:
        self._fill = fill
        self._room = torch.empty(0, dtype=dtype, device="cpu")
        self.first = self.n_rows = first

    @property
    def values(self) -> Tensor:
        """The values [n_rows - first], as a view that may be written to."""
        return self._room[: self.n_rows - self.first]

    def part(self, start: int, stop: int) -> "RowValues":
        """A copy of the values of rows start to stop - 1 alone."""
        part = RowValues(self._fill, self._room.dtype, start)
        stop = min(stop, self.n_rows)
        if start < stop:
            part.load(self._room[start - self.first : stop - self.first].cpu().clone())
        return part

    def read(self, numbers: RowNumbers) -> Tensor:
        """A copy of the values of rows, [n]."""
        found = self._room.new_full((len(numbers),), self._fill)
        n_held = numbers.before(self.n_rows)
        found[:n_held] = self._room[self._places(numbers.part(0, n_held))]
        return found

    def reserve(self, stop: int) -> None:
        """Makes room for the values of rows before `stop`. No value changes."""
        wanted = stop - self.first
        if wanted > len(self._room):
            more = max(wanted - len(self._room), len(self._room))
            self._room = torch.cat((self._room, self._room.new_full((more,), self._fill)))

    def write(self, numbers: RowNumbers, values: Tensor) -> None:
        """Sets the values [n] of rows; all values move to their device."""
        self._room = self._room.to(values.device)
        self.reserve(numbers.stop)
        self.n_rows = max(self.n_rows, numbers.stop)
        self._room[self._places(numbers)] = values

    def merge(self, other: "RowValues", combined: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Combines the values of the other's rows with these, element by element."""
        numbers = RowNumbers(len(other.values), other.first)
        ours = self.read(numbers)
        self.write(numbers, combined(ours, other.values.to(ours.device)))

    def trim(self) -> None:
        """Frees memory that was reserved for more rows."""
        if len(self._room) > self.n_rows - self.first:
            self._room = self.values.clone()

    def load(self, values: Tensor, first: int | None = None) -> None:
        """Replaces all values by these, [n_rows - first].

        Args:
            values: the values.
            first: the row of the first value; None: as before.
        """
        self.first = self.first if first is None else first
        self._room = values.to(self._room.dtype)
        self.n_rows = self.first + len(values)

    def _places(self, numbers: RowNumbers) -> Any:
        """The index of these rows in the values."""
        if numbers.are_consecutive:
            return slice(numbers.start - self.first, numbers.stop - self.first)
        return torch.from_numpy(numbers.at(np.arange(len(numbers))) - self.first)
