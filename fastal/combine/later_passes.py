"""What later readings of a pool leave out, by row number: the first finds out what is meant."""

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.row_filter import RowFilter
from fastal.picks.picks import Picks

Rows = NDArray[np.int64]


def rows_of(picks: Picks) -> Rows:
    """The rows of picks, ascending."""
    rows: Rows = as_tensor(picks.rows, "picks").cpu().numpy()
    return np.sort(rows)


def filter_without(row_filter: RowFilter | None, picked: Rows) -> tuple[Rows | None, Rows | None]:
    """The arguments `exclude` and `among` for what a filter leaves, without some rows of it."""
    if row_filter is None:
        return picked, None
    if row_filter.are_read:
        return None, np.setdiff1d(row_filter.rows, picked, assume_unique=True)
    return np.union1d(row_filter.rows, picked), None
