"""Items of several rows each: the tokens of sentences, the boxes of images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Items:
    """Items of several rows, in memory; `fastal.items` makes one. It is sliced like an array [n].

    Args:
        values: the rows of all items one after the other, an array [rows, ...], with offsets; else
            an array [n, ...] of items that have equally many rows.
        offsets: [n + 1] int64: the first row of each item, and the number of rows.
        mask: which rows count: [rows] bool with offsets, else of the shape of the items without
            their classes; None: all rows.
    """

    def __init__(
        self,
        values: Any,
        offsets: NDArray[np.int64] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        self.values = values
        self.offsets = offsets
        self.mask = mask
        n = values.shape[0] if offsets is None else len(offsets) - 1
        self.shape = (int(n),)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        n_rows = "" if self.offsets is None else f"{int(self.offsets[-1]):,} rows, "
        return f"<{len(self):,} items: {n_rows}values {tuple(self.values.shape)}>"

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return int(np.prod(self.values.shape)) * _itemsize(self.values)

    def __getitem__(self, key: Any) -> "Items":
        """The items of a slice, such as items[3:9] or items[3:9, ...]: a view."""
        part = key[0] if isinstance(key, tuple) else key
        if not isinstance(part, slice):
            raise TypeError(f"items: wanted a slice, got {key!r}")
        first, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"items: wanted a slice of step 1, got {key!r}")
        stop = max(first, stop)
        if self.offsets is None:
            mask = None if self.mask is None else self.mask[first:stop]
            return Items(self.values[first:stop, ...], None, mask)
        offsets = self.offsets[first : stop + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        mask = None if self.mask is None else self.mask[rows]
        return Items(self.values[rows, ...], offsets - offsets[0], mask)

    def taken(self, places: NDArray[np.int64]) -> "Items":
        """The items at these places, copied."""
        if self.offsets is None:
            mask = None if self.mask is None else self.mask[places]
            return Items(self.values[places], None, mask)
        lengths = np.diff(self.offsets)[places]
        offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
        # Row r of the result is the row as far from the first of its item.
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[places] - offsets[:-1], lengths)
        return Items(self.values[rows], offsets, None if self.mask is None else self.mask[rows])


def _itemsize(values: Any) -> int:
    dtype = values.dtype
    return int(getattr(dtype, "itemsize", 4))
