"""Which rows of a pool a reducer reads: all but some, or some alone."""

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor, is_array
from fastal.base.checks import MAX_ROW
from fastal.base.memory_guard import guarded_arrays
from fastal.base.row_numbers import RowNumbers

_DENSE = 64  # a mask of the pool is no larger than 8 times the row numbers


class RowFilter:
    """The rows of a pool that a reducer reads; it passes over all others.

    Args:
        named: different row numbers [m] int64 in ascending order; or a mask [N] of the pool.
        are_read: True if the named rows are the only ones to read, False if they are the only ones
            to pass over.
        argument: what named them, for errors and records; by default "among" or "exclude".
    """

    def __init__(self, named: NDArray[Any], *, are_read: bool, argument: str = "") -> None:
        self._named = named
        self.are_read = are_read
        self._argument = argument or ("among" if are_read else "exclude")

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The named rows, [m] int64 in ascending order."""
        return rows_of(self._named)

    def kept(self, numbers: RowNumbers) -> NDArray[np.bool_] | None:
        """Which rows of a chunk are read, [n]; None if all are."""
        if self._named.dtype == bool and len(self._named) < numbers.stop:
            raise ValueError(
                f"{self._argument}: wanted a mask with a value for each row of the pool, got "
                f"{len(self._named):,} values for at least {numbers.stop:,} rows"
            )
        if self._named.dtype == bool and numbers.are_consecutive:
            named: NDArray[np.bool_] = self._named[numbers.start : numbers.stop].view(bool)
            return named if self.are_read else ~named
        # Of the last row, not of the row after it, which may be no int64.
        last = np.searchsorted(self.rows, numbers.stop - 1, "right") if len(numbers) else 0
        within = self.rows[np.searchsorted(self.rows, numbers.start) : last]
        if not self.are_read and not len(within):
            return None
        if not numbers.are_consecutive:
            found = np.isin(numbers.at(np.arange(len(numbers))), within, assume_unique=True)
            return found if self.are_read else ~found
        kept = np.full(len(numbers), not self.are_read)
        kept[within - numbers.start] = self.are_read
        return kept

    def n_left(self, n_rows: int) -> int:
        """How many of the first n_rows rows of a pool are read."""
        n_named = int(np.searchsorted(self.rows, n_rows))
        return n_named if self.are_read else n_rows - n_named

    def check(self, n_rows: int) -> None:
        """ValueError if rows are not in a pool with so many rows, or a mask is longer."""
        if self._named.dtype == bool and len(self._named) != n_rows:
            raise ValueError(
                f"{self._argument}: wanted a mask with a value for each of the {n_rows:,} rows of "
                f"the pool, got {len(self._named):,} values"
            )
        check_in_pool(self.rows, self._argument, n_rows)

    def identity(self) -> dict[str, Any]:
        """A digest of the rows, as plain values."""
        return {self._argument: f"{len(self.rows)} rows, {self._digest}"}

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.rows.tobytes()).hexdigest()[:16]


def rows_of(named: NDArray[Any]) -> NDArray[np.int64]:
    """The rows that are named by number or by a mask, [m] int64 in ascending order."""
    rows = np.flatnonzero(named) if named.dtype == bool else named
    return rows.astype(np.int64, copy=False)


def combined(exclude: NDArray[Any] | None, among: NDArray[Any] | None) -> RowFilter | None:
    """The filter that passes over some rows, and reads others alone; None if both are None.

    Args:
        exclude: the rows to pass over: row numbers in ascending order, or a mask.
        among: the rows to read, in the same forms.
    """
    if among is None:
        if exclude is None or not (exclude.any() if exclude.dtype == bool else len(exclude)):
            return None
        return RowFilter(exclude, are_read=False)
    if exclude is None:
        return RowFilter(among, are_read=True)
    left_out, only = rows_of(exclude), rows_of(among)
    left = np.setdiff1d(only, left_out, assume_unique=True)
    return RowFilter(left, are_read=True, argument="exclude and among")


def row_filter_of(exclude: Any, among: Any, n_rows: int | None = None) -> RowFilter | None:
    """The filter for rows that are given by number.

    Args:
        exclude: the rows to pass over, as for `rows_in`; None: none.
        among: the only rows to read, as for `rows_in`; None: all.
        n_rows: how many rows the pool has; None: it is not known.

    Raises:
        TypeError, ValueError: as `rows_in`.
    """
    return combined(
        *(
            None if given is None else rows_in(given, name, n_rows)
            for given, name in ((exclude, "exclude"), (among, "among"))
        )
    )


def rows_in(given: Any, name: str, n_rows: int | None) -> NDArray[Any]:
    """Row numbers in ascending order, [m] int64; or a mask of the pool.

    Args:
        given: row numbers in any order; a boolean mask with a value for each row of the pool; or
            picks, of which the row numbers count.
        name: the argument, for errors.
        n_rows: how many rows the pool has; None: it is not known.

    Raises:
        TypeError: no row numbers and no mask.
        ValueError: a mask of another length, or a row number that is negative, repeated or not in
            the pool.
    """
    given = getattr(given, "rows", given)
    with guarded_arrays(given) as guards:
        array: NDArray[Any] = _as_numpy(given, name).copy()
        guards.check(name)
    if array.dtype == bool:
        if n_rows not in (None, len(array)):
            raise ValueError(
                f"{name}: wanted a mask with a value for each of the {n_rows:,} rows of the pool, "
                f"got {len(array):,} values"
            )
        return array
    if not len(array):
        return array.astype(np.int64)
    if array.min() < 0:
        raise ValueError(f"{name}: wanted row numbers from 0 on, got {array.min()}")
    check_in_pool(array, name, n_rows)
    check_in_pool(array, name, MAX_ROW + 1)
    if n_rows is not None and n_rows <= _DENSE * len(array):  # to sort them takes longer
        mask = np.zeros(n_rows, bool)
        mask[array] = True
        if np.count_nonzero(mask) == len(array):
            return mask
    rows = np.sort(array.astype(np.int64))
    repeated = np.flatnonzero(rows[1:] == rows[:-1])
    if len(repeated):
        raise ValueError(f"{name}: row {rows[repeated[0]]} is there twice")
    return rows


def check_in_pool(rows: NDArray[Any], name: str, n_rows: int | None) -> None:
    """ValueError if rows, of the argument `name`, are not all in a pool."""
    if n_rows is not None and len(rows) and rows.max() >= n_rows:
        first = rows[np.argmax(rows >= n_rows)]
        raise ValueError(f"{name}: row {first} is not in the pool, which has {n_rows:,} rows")


def _as_numpy(given: Any, name: str) -> NDArray[Any]:
    if hasattr(given, "columns"):
        raise TypeError(f"{name}: got a table; give its column of row numbers, or Picks")
    if isinstance(given, (list, tuple, range, set, frozenset)):
        given = list(given)
        if not all(isinstance(one, (int, np.integer, np.bool_)) for one in given):
            found = next(one for one in given if not isinstance(one, (int, np.integer, np.bool_)))
            raise TypeError(
                f"{name}: wanted row numbers or the values of a mask in a list, got {found!r}"
            )
        array = np.asarray(given) if len(given) else np.empty(0, np.int64)
    elif is_array(given):
        array = as_tensor(given, name).cpu().numpy() if not isinstance(given, np.ndarray) else given
    else:
        raise TypeError(
            f"{name}: wanted row numbers, a mask or picks, got {type(given).__name__}; "
            "fastal.Picks.load reads a file of picks"
        )
    if array.shape == (0,):
        return array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "biu":
        raise TypeError(
            f"{name}: wanted row numbers or a mask, got {array.dtype} of shape {array.shape}"
        )
    return array
