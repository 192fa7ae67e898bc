"""An array in memory as a pool."""

import math
from collections.abc import Iterator
from typing import Any

from fastal.arrays import as_tensor


class ArraySource:
    """Any array: torch, NumPy or another DLPack producer. Chunks are slices, of the same kind."""

    def __init__(self, array: Any) -> None:
        if not hasattr(array, "__getitem__") or not hasattr(array, "dtype"):
            # A bare producer; its chunks are torch tensors.
            array = as_tensor(array, "pool")
        tensor = as_tensor(array[:0], "pool") if len(array.shape) else as_tensor(array, "pool")
        if tensor.ndim == 0:
            raise ValueError("pool: wanted [rows, ...], got a single number")
        self._array = array
        self.n_rows: int | None = array.shape[0]
        self.row_bytes: int | None = math.prod(array.shape[1:]) * tensor.itemsize

    def chunks(self, rows: int) -> Iterator[tuple[int, Any]]:
        """See `Source.chunks`."""
        for start in range(0, self.n_rows or 0, rows):
            yield start, self._array[start : start + rows]

    def locate(self, row: int) -> str:  # noqa: ARG002
        """Nothing to add: row numbers are the array's own."""
        return ""
