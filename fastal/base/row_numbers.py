"""The numbers of the rows of a chunk, counted over the whole pool."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor, is_array
from fastal.base.checks import MAX_ROW


class RowNumbers:
    """The numbers of n rows, in ascending order: start, start + 1, ..., or given one by one.

    Args:
        n: how many rows there are.
        start: the number of the first.
        given: [n] int64, the number of each row; None: they are consecutive.

    Attributes:
        start: the number of the first row.
        stop: the number of the last row + 1.
        are_consecutive: whether the numbers are start, start + 1, ...
    """

    def __init__(self, n: int, start: int, given: NDArray[np.int64] | None = None) -> None:
        self._n = n
        self._given = given
        self.start = start if given is None or not n else int(given[0])
        self.stop = start + n if given is None or not n else int(given[-1]) + 1
        self.are_consecutive = given is None

    def __len__(self) -> int:
        return self._n

    def at(self, places: NDArray[Any]) -> NDArray[np.int64]:
        """The numbers of the rows at these places, [m]."""
        if self._given is None:
            consecutive: NDArray[np.int64] = np.add(places, self.start, dtype=np.int64)
            return consecutive
        found: NDArray[np.int64] = self._given[places]
        return found

    def part(self, first: int, stop: int) -> "RowNumbers":
        """The numbers of the rows from place `first` to place `stop` - 1."""
        stop = min(stop, self._n)
        if self._given is None:
            return RowNumbers(stop - first, self.start + first)
        given = self._given[first:stop]
        return RowNumbers(len(given), int(given[0]) if len(given) else self.start, given)

    def before(self, row: int) -> int:
        """How many of the rows have a number below `row`."""
        if self._given is None:
            return min(max(row - self.start, 0), self._n)
        return int(np.searchsorted(self._given, row))

    def found(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of some ascending rows are among these: their places there, and here."""
        first, last = np.searchsorted(rows, (self.start, self.start + self._n))
        if self._given is None:
            return np.arange(first, last), rows[first:last] - self.start
        here = np.searchsorted(self._given, rows)
        here[here == self._n] = 0
        there = np.flatnonzero(self._given[here] == rows) if self._n else np.empty(0, np.int64)
        return there, here[there]


def row_numbers(start: Any, n: int) -> RowNumbers:
    """The numbers of n rows.

    Args:
        start: the number of the first row, or the numbers [n] of all rows in ascending order, an
            array of any library.
        n: how many rows there are.

    Raises:
        TypeError, ValueError: these are no row numbers, not n of them, or not ascending.
    """
    if is_array(start) and len(getattr(start, "shape", ())):
        is_of_numpy = isinstance(start, np.ndarray)
        return _numbered(start if is_of_numpy else as_tensor(start, "start").cpu().numpy(), n)
    try:
        first = operator.index(start)
    except TypeError:
        raise TypeError(f"start: wanted a row number, got {start!r}") from None
    if not 0 <= first <= MAX_ROW - n:
        raise ValueError(f"start: wanted a row number from 0 to 2^63 - 1, got {first}")
    return RowNumbers(n, first)


def _numbered(given: NDArray[Any], n: int) -> RowNumbers:
    if given.dtype.kind not in "iu" or given.shape != (n,):
        raise ValueError(
            f"start: wanted a row number, or an integer for each of {n} rows, got "
            f"{given.dtype} of shape {given.shape}"
        )
    numbers = given.astype(np.int64)
    steps = np.diff(numbers)
    if n and (numbers[0] < 0 or (steps <= 0).any()):
        row = numbers[0] if numbers[0] < 0 else numbers[int((steps <= 0).argmax()) + 1]
        raise ValueError(f"start: wanted ascending row numbers from 0 on, got {row} out of order")
    return RowNumbers(n, int(numbers[0]) if n else 0, numbers)
