"""One .npy file as a source, memory-mapped."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.arrays import as_tensor


class NpyFile:
    """A .npy file [rows, ...] of numbers, mapped only while it is read: pools have many files.

    Raises:
        FileNotFoundError: no such file.
        TypeError: the dtype is not numeric; pickled objects are never loaded.
        ValueError: not a .npy file, cut short, or without a row axis. Every message names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        array = self._map()
        self.row_shape = array.shape[1:]
        self.dtype = array.dtype
        self.n_rows = array.shape[0]
        self.row_bytes = math.prod(self.row_shape) * array.itemsize

    def chunks(self, rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """See `Source.chunks`. An empty file is one empty chunk, so that it is checked as well."""
        array = self._map()
        if (len(array), array.shape[1:], array.dtype) != (self.n_rows, self.row_shape, self.dtype):
            raise ValueError(f"{self.path}: changed while it was being read")
        for start in range(0, max(1, len(array)), rows):
            yield start, array[start : start + rows]

    def locate(self, row: int) -> str:
        """See `Source.locate`."""
        return f"{self.path} row {row}"

    def _map(self) -> NDArray[Any]:
        # Read-only: a private writable map of a file larger than memory is refused by the system.
        try:
            with np.errstate(over="ignore"):  # a shape too large for any machine
                array = np.lib.format.open_memmap(self.path, mode="r")
        except OSError:
            raise
        except Exception as error:  # NumPy refuses headers with half a dozen kinds of exception
            if "Python objects" in str(error):
                raise TypeError(f"{self.path}: wanted numbers, got dtype object") from error
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.path}: no complete .npy file: {reason}") from error
        if array.ndim == 0:
            raise ValueError(f"{self.path}: wanted [rows, ...], got a single number")
        as_tensor(np.empty(0, array.dtype), str(self.path))
        return array
