"""The ids of consecutive rows, read while the pool is."""

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources import labels
from fastal.sources.files import Files

_BLOCK = 1 << 18  # rows at once: some formats read a large block for each row that is asked for


class RowIds:
    """Reads the ids of the rows of files, in blocks, in any order.

    Args:
        pool: files with ids.
    """

    def __init__(self, pool: Files) -> None:
        self._pool = pool
        self._first = 0
        self._held: NDArray[Any] = np.empty(0, object)  # the ids of rows from `_first` on

    @property
    def are_integers(self) -> bool:
        """Whether all ids are integers; else they are text."""
        column = self._pool.columns.ids or ""
        kinds = {file.kinds.get(column, labels.TEXT) for file in self._pool.files if file.n_rows}
        return kinds <= {labels.INTEGERS, None}

    def of(self, first: int, n: int) -> NDArray[Any]:
        """The ids of rows first, ..., first + n - 1: an array of objects, int, str or None.

        Rows have no id (None) if their file was skipped and its ids cannot be read.

        Raises:
            ValueError, TypeError, OSError: the ids cannot be read; the message names the file.
        """
        found, row = np.empty(n, object), first
        while row < first + n:
            if not self._first <= row < self._first + len(self._held):
                self._first, self._held = row, self._block(row)
            part = self._held[row - self._first :][: first + n - row]
            found[row - first :][: len(part)] = part
            row += len(part)
        return found

    def _block(self, row: int) -> NDArray[Any]:
        pool = self._pool
        file = bisect_right(pool.starts, row) - 1
        end = min(row + _BLOCK, pool.starts[file + 1])
        try:
            return np.asarray(pool.ids(np.arange(row, end)))
        except (ValueError, TypeError, OSError):
            if str(pool.files[file].file) not in {skipped.file for skipped in pool.skipped}:
                raise
            return np.full(end - row, None, object)
