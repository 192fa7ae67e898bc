"""An array in memory as a pool."""

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from fastal.base.arrays import as_sliceable, as_tensor
from fastal.sources.source import Chunk, SourceWithoutFiles


class ArraySource(SourceWithoutFiles):
    """An array [rows, ...] in memory: torch, NumPy or another DLPack producer; see `Source`.

    Chunks are slices of the same kind.

    Raises:
        TypeError: the dtype is not numeric, or the array is not in memory.
        ValueError: the array has no dimension, or its rows hold no values.
    """

    in_place = True

    def __init__(self, array: Any) -> None:
        array = as_sliceable(array, "pool")
        # To know the dtype, an empty slice is enough: some arrays would have to be copied whole.
        is_sliceable = not isinstance(array, Tensor) and len(array.shape)
        tensor = as_tensor(array[:0, ...] if is_sliceable else array, "pool")
        if tensor.ndim == 0:
            raise ValueError("pool: wanted [rows, ...], got a single number")
        if 0 in array.shape[1:]:
            raise ValueError(f"pool: rows of shape {tuple(array.shape[1:])} hold no values")
        super().__init__()
        self.on_gpu = tensor.is_cuda
        self._array = array
        self.n_rows: int = array.shape[0]
        self.row_bytes = math.prod(array.shape[1:]) * tensor.itemsize

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:
        """See `Source.chunks`. An empty pool is one empty chunk, whose shape can be checked."""
        for first in range(start, max(1, self.n_rows), rows):
            yield Chunk(first, self._array[first : min(first + rows, self.n_rows), ...])
