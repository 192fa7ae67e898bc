"""Which rows of a pool a reducer reads: all but some, or some alone."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor, is_array
from fastal.base.row_numbers import RowNumbers


class RowFilter(NamedTuple):
    """The rows of a pool that a reducer reads; it passes over all others.

    Attributes:
        rows: [m] int64, different row numbers in ascending order.
        are_read: whether these rows alone are read; otherwise all rows except them.
    """

    rows: NDArray[np.int64]
    are_read: bool

    def kept(self, numbers: RowNumbers) -> NDArray[np.bool_] | None:
        """Which rows of a chunk are read, [n]; None if all are."""
        first, last = np.searchsorted(self.rows, (numbers.start, numbers.stop))
        within = self.rows[first:last]
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
        """ValueError if rows are not in a pool with so many rows."""
        check_in_pool(self.rows, "among" if self.are_read else "exclude", n_rows)

    def without(self, rows: NDArray[np.int64]) -> "RowFilter":
        """A filter that also passes over these rows, which are ascending."""
        if self.are_read:
            return RowFilter(np.setdiff1d(self.rows, rows, assume_unique=True), True)
        return RowFilter(np.union1d(self.rows, rows), False)

    def identity(self) -> dict[str, Any]:
        """A digest of the rows, as plain values."""
        digest = hashlib.sha256(self.rows.tobytes()).hexdigest()[:16]
        return {"among" if self.are_read else "exclude": f"{len(self.rows)} rows, {digest}"}


def row_filter_of(exclude: Any, among: Any, n_rows: int | None = None) -> RowFilter | None:
    """The filter for rows that are given by number.

    Args:
        exclude: the rows to pass over, as for `rows_in`; None: none.
        among: the only rows to read, as for `rows_in`; None: all.
        n_rows: how many rows the pool has; None: it is not known.

    Raises:
        TypeError, ValueError: as `rows_in`.
    """
    left_out = None if exclude is None else rows_in(exclude, "exclude", n_rows)
    if among is None:
        return None if left_out is None else RowFilter(left_out, False)
    only = RowFilter(rows_in(among, "among", n_rows), True)
    return only if left_out is None else only.without(left_out)


def rows_in(given: Any, name: str, n_rows: int | None) -> NDArray[np.int64]:
    """Row numbers in ascending order, [m] int64.

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
    array = _as_numpy(getattr(given, "rows", given), name)
    if array.dtype == bool:
        if n_rows not in (None, len(array)):
            raise ValueError(
                f"{name}: wanted a mask with a value for each of the {n_rows:,} rows of the pool, "
                f"got {len(array):,} values"
            )
        return np.flatnonzero(array)
    if len(array) and array.max() > 2**63 - 1:
        raise ValueError(f"{name}: row {array.max()} is not in the pool")
    rows = np.sort(array.astype(np.int64))
    if not len(rows):
        return rows
    if rows[0] < 0:
        raise ValueError(f"{name}: wanted row numbers from 0 on, got {rows[0]}")
    repeated = np.flatnonzero(rows[1:] == rows[:-1])
    if len(repeated):
        raise ValueError(f"{name}: row {rows[repeated[0]]} is there twice")
    check_in_pool(rows, name, n_rows)
    return rows


def check_in_pool(rows: NDArray[np.int64], name: str, n_rows: int | None) -> None:
    """ValueError if ascending rows, of the argument `name`, are not all in a pool."""
    if n_rows is not None and len(rows) and rows[-1] >= n_rows:
        first = rows[np.searchsorted(rows, n_rows)]
        raise ValueError(f"{name}: row {first} is not in the pool, which has {n_rows:,} rows")


def _as_numpy(given: Any, name: str) -> NDArray[Any]:
    if isinstance(given, (list, tuple, range)):
        array = np.asarray(given) if len(given) else np.empty(0, np.int64)
    elif is_array(given):
        array = as_tensor(given, name).cpu().numpy() if not isinstance(given, np.ndarray) else given
    else:
        raise TypeError(
            f"{name}: wanted row numbers, a mask, picks or a file of picks, got "
            f"{type(given).__name__}"
        )
    if array.ndim != 1 or array.dtype.kind not in "biu":
        raise TypeError(
            f"{name}: wanted row numbers or a mask, got {array.dtype} of shape {array.shape}"
        )
    return array
