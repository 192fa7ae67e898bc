"""An array in memory as a pool."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_sliceable, as_tensor
from fastal.base.items import Items
from fastal.sources.given_columns import GivenColumns
from fastal.sources.source import Chunk, SourceWithoutFiles


class ArraySource(SourceWithoutFiles):
    """An array [rows, ...] in memory: torch, NumPy or another DLPack producer; see `Source`.

    Chunks are slices of the same kind.

    Args:
        array: the rows, or `Items`.
        ids: an id for each row; None if there are none.
        carry: the columns that the picks carry, by name, with a value for each row.

    Raises:
        TypeError: the dtype is not numeric, or the array is not in memory; or ids or carried values
            are of another kind, see `labels`.
        ValueError: the array has no dimension, or its rows hold no values; or ids or a column have
            another length.
    """

    in_place = True

    def __init__(
        self, array: Any, ids: Any = None, carry: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        given = array.values if isinstance(array, Items) else as_sliceable(array, "pool")
        # To know the dtype, an empty slice is enough: some arrays would have to be copied whole.
        is_sliceable = not isinstance(given, Tensor) and len(given.shape)
        tensor = as_tensor(given[:0, ...] if is_sliceable else given, "pool")
        if tensor.ndim == 0:
            raise ValueError("pool: wanted [rows, ...], got a single number")
        if 0 in given.shape[1:]:
            raise ValueError(f"pool: rows of shape {tuple(given.shape[1:])} hold no values")
        super().__init__()
        self.on_gpu = tensor.is_cuda
        self._array = array if isinstance(array, Items) else given
        self.n_rows: int = self._array.shape[0]
        self.row_bytes = math.prod(given.shape[1:]) * tensor.itemsize
        if isinstance(array, Items):  # the mean
            self.row_bytes = max(1, array.nbytes // max(1, self.n_rows))
        self._columns = GivenColumns(self.n_rows, ids, carry)

    def ids(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """See `Source.ids`."""
        return self._columns.ids(rows)

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See `Source.carried`."""
        return self._columns.carried(rows)

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `Source.chunks`. An empty pool is one empty chunk, whose shape can be checked."""
        for first in range(start, max(1, self.n_rows), rows):
            if stop is not None and first >= stop:
                return
            yield Chunk(first, self._array[first : min(first + rows, self.n_rows), ...])
