"""An array in memory as a pool."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.arrays import as_sliceable, as_tensor
from fastal.sources.source import Chunk, Skipped


class ArraySource:
    """Any array: torch, NumPy or another DLPack producer. Chunks are slices, of the same kind."""

    in_place = True

    def __init__(self, array: Any) -> None:
        array = as_sliceable(array, "pool")
        # An empty slice tells the dtype, and spares arrays that would have to be copied.
        is_sliceable = not isinstance(array, Tensor) and len(array.shape)
        tensor = as_tensor(array[:0, ...] if is_sliceable else array, "pool")
        if tensor.ndim == 0:
            raise ValueError("pool: wanted [rows, ...], got a single number")
        self._array = array
        self.skipped: list[Skipped] = []
        self.n_rows: int = array.shape[0]
        self.row_bytes = math.prod(array.shape[1:]) * tensor.itemsize

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:
        """See `Source.chunks`. An empty pool is one empty chunk, so that it is checked as well."""
        for first in range(start, max(1, self.n_rows), rows):
            yield Chunk(first, self._array[first : min(first + rows, self.n_rows), ...])

    def locate(self, row: int) -> str:  # noqa: ARG002
        """Nothing to add: row numbers are the array's own."""
        return ""

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source.check`: a mapped file of the caller's own may vanish."""
        if lost:
            raise OSError(f"pool: rows from {start} on vanished: a mapped file that was cut short?")
        return True

    def fingerprint(self) -> None:
        """None: reading all of it would tell, no less."""

    def ids(self, rows: NDArray[np.int64]) -> None:
        """An array has none."""
