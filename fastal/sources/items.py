"""Items of several rows as a pool: the tokens of sentences, the boxes of images."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_sliceable, as_tensor, converter_for, is_array, memory_of
from fastal.base.items import Items
from fastal.base.memory_guard import guarded
from fastal.sources.source import Chunk, Source, SourceOver


def items(values: Any, *, lengths: Any = None, offsets: Any = None, mask: Any = None) -> Any:
    """Items of several rows, such as the tokens of sentences or the boxes of images.

    It is a pool for `fastal.select`, a chunk for `fastal.Selector`, and an array for
    `fastal.score`, each with `aggregate`. What is picked, counted, grouped and excluded is the
    item.

    Args:
        values: one of

            - a list with an array [rows, C] for each item, which are copied into one array;
            - the rows of all items one after the other, with `lengths` or `offsets`: an array
              [rows, C], or any pool that `fastal.open_pool` takes;
            - an array [N, T, C] or [N, C, H, W] of items with equally many rows, with `mask`.

            For labels that are independent (kind="multilabel_logits"), C is missing.
        lengths: [N] integers from 0 up: how many rows each item has; an array, a list or a .npy
            file. An item without rows is invalid.
        offsets: [N + 1] integers instead of lengths: the first row of each item, from 0, and at the
            end the number of rows.
        mask: bools, True for rows that count: one for each row, [rows], or the shape of the values
            without the classes, as [N, T]; an array, or a .npy file.

    Returns:
        `Items` for arrays in memory, else a pool.

    Raises:
        ValueError, TypeError: lengths that do not add up, offsets that fall, a mask of another
            shape; the message names the argument.

    Example:
        >>> import fastal, numpy as np
        >>> sentences = [np.array([[0.0, 9.0], [2.0, 2.0]]), np.array([[0.0, 1.0]])]
        >>> fastal.select(fastal.items(sentences), k=1, aggregate="max").rows
        array([0])
        >>> words = np.concatenate(sentences)
        >>> fastal.select(fastal.items(words, lengths=[2, 1]), k=1, aggregate="least").rows
        array([1])
    """
    if lengths is not None and offsets is not None:
        raise ValueError("offsets: wanted lengths or offsets, got both")
    is_list = isinstance(values, (list, tuple)) and not (values and _is_path(values[0]))
    if is_list:
        for name, given in (("lengths", lengths), ("offsets", offsets)):
            if given is not None:
                raise ValueError(f"{name}: a list with one array for each item has its own lengths")
        return _of_list(values, mask)
    bounds = _bounds(lengths, offsets)
    if is_array(values) and not isinstance(values, Source):
        return _of_array(as_sliceable(values, "values"), bounds, mask)
    from fastal.sources import open_pool

    pool = open_pool(values)
    if bounds is None:
        raise ValueError("lengths: wanted lengths or offsets, since the values are in files")
    return ItemPool(pool, bounds, _mask(mask, (int(bounds[-1]),)))


class ItemPool(SourceOver):
    """Items whose rows are those of another pool, one after the other; see `items`.

    A chunk has whole items. Items of which a chunk of the pool has a part alone are copied.

    Args:
        source: the pool of rows.
        offsets: [n + 1] int64: the first row of each item, and the number of rows.
        mask: [rows] bool; None: all rows count.

    Raises:
        ValueError: the pool has another number of rows.
    """

    def __init__(
        self, source: Source, offsets: NDArray[np.int64], mask: NDArray[np.bool_] | None
    ) -> None:
        super().__init__(source)
        if source.n_rows is None:
            raise ValueError("values: wanted a pool whose number of rows is known beforehand")
        _check_sum(offsets, source.n_rows)
        self._offsets, self._mask = offsets, mask

    @property
    def n_rows(self) -> int:
        """How many items there are."""
        return len(self._offsets) - 1

    @property
    def row_bytes(self) -> int:
        """The mean bytes of an item."""
        n_bytes = int(self._offsets[-1]) * (self._source.row_bytes or 0)
        return max(1, n_bytes // max(1, self.n_rows))

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:
        """Yields the items from `start` on, in order; see `Source.chunks`."""
        offsets = self._offsets
        row, item = int(offsets[start]), start
        held: list[Any] = []  # the rows of an item so far that the last chunks ended with
        n_rows = max(1, rows * int(offsets[-1]) // max(1, self.n_rows))
        for chunk in self._source.chunks(n_rows, row):
            if chunk.start != row:
                raise ValueError(f"values: rows from {row} to {chunk.start - 1} are missing")
            stop = row + chunk.x.shape[0]
            if held:
                end = min(int(offsets[item + 1]), stop)
                held.append(self._copied(chunk, row, end))
                row = end
                if row == offsets[item + 1]:
                    yield Chunk(item, self._items(_joined(held), item, item + 1))
                    held, item = [], item + 1
            last = int(np.searchsorted(offsets, stop, "right")) - 1  # the first item that goes on
            if last > item or (last == item and item == start and not held and stop == row):
                first = row - chunk.start
                part = chunk.x[first : int(offsets[last]) - chunk.start, ...]
                yield Chunk(item, self._items(part, item, last))
                row, item = int(offsets[last]), last
            if row < stop:
                held.append(self._copied(chunk, row, stop))
                row = stop

    def _items(self, values: Any, first: int, last: int) -> Items:
        rows = slice(int(self._offsets[first]), int(self._offsets[last]))
        mask = None if self._mask is None else np.asarray(self._mask[rows])
        return Items(values, self._offsets[first : last + 1] - rows.start, mask)

    def _copied(self, chunk: Chunk, first: int, stop: int) -> Any:
        """Rows of a chunk, copied. Lost memory of a mapped file is an error."""
        with guarded(memory_of(chunk.x, "pool")) as guard:
            x = chunk.x[first - chunk.start : stop - chunk.start, ...]
            copy = x.copy() if isinstance(x, np.ndarray) else as_tensor(x, "pool").clone()
        if not self._source.check(chunk.start, lost=guard.broken):
            raise ValueError(f"values: rows from {first} on are missing")
        return copy

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source.check`."""
        return self._source.check(self._in_pool(start), lost=lost)

    def locate(self, row: int) -> str:
        """The file and the row of the item's first row; see `Source.locate`."""
        return self._source.locate(self._in_pool(row))

    def _in_pool(self, item: int) -> int:
        """A row of the pool that belongs to an item, or lies beside it if it has none."""
        return min(int(self._offsets[item]), max(0, int(self._offsets[-1]) - 1))

    def fingerprint(self) -> list[Any] | None:
        """That of the pool, and a digest of what makes items of its rows."""
        of_pool = self._source.fingerprint()
        if of_pool is None:
            return None
        digest = hashlib.sha256(self._offsets.tobytes())
        digest.update(b"" if self._mask is None else np.packbits(self._mask).tobytes())
        return [*of_pool, digest.hexdigest()]

    def ids(self, rows: NDArray[np.int64]) -> None:
        """None: the ids of the pool are those of rows."""

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """None are carried."""
        return {}


def _of_list(values: Sequence[Any], mask: Any) -> Items:
    arrays = [
        as_sliceable(x, f"values: item {i}") if is_array(x) else np.asarray(x, np.float64)
        for i, x in enumerate(values)
    ]
    if not arrays:
        raise ValueError("values: an empty list")
    shapes = [tuple(x.shape) for x in arrays]
    for i, shape in enumerate(shapes):
        if len(shape) != len(shapes[0]) or shape[1:] != shapes[0][1:] or not shape:
            raise ValueError(
                f"values: item {i} has shape {shape}, item 0 {shapes[0]}; wanted [rows, classes] "
                "of equally many classes"
            )
    offsets = np.concatenate([[0], np.cumsum([shape[0] for shape in shapes])]).astype(np.int64)
    return Items(_joined(arrays), offsets, _mask(mask, (int(offsets[-1]),)))


def _of_array(values: Any, offsets: NDArray[np.int64] | None, mask: Any) -> Items:
    if offsets is None:
        if mask is None:
            raise ValueError(
                "lengths: wanted lengths, offsets or a mask; an array of items that have equally "
                "many rows is a pool as it is"
            )
        return Items(values, None, _mask(mask, None))
    if len(values.shape) > 2 and values.shape[0] == len(offsets) - 1 != offsets[-1]:
        raise ValueError(
            f"lengths: wanted [rows of all items, classes], got values {tuple(values.shape)}; for "
            "items that are padded to equal length T, give mask=np.arange(T) < lengths[:, None]"
        )
    _check_sum(offsets, values.shape[0])
    return Items(values, offsets, _mask(mask, (int(offsets[-1]),)))


def _bounds(lengths: Any, offsets: Any) -> NDArray[np.int64] | None:
    """The offsets [n + 1] that lengths or offsets mean; None if neither is given."""
    if lengths is not None:
        counts = _integers("lengths", lengths)
        if len(counts) and counts.min() < 0:
            raise ValueError(
                f"lengths: wanted 0 or more, got {counts.min()} for item {int(counts.argmin())}"
            )
        return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
    if offsets is None:
        return None
    bounds = _integers("offsets", offsets)
    if not len(bounds) or bounds[0] != 0:
        raise ValueError(f"offsets: wanted 0 first, got {bounds[:1].tolist()}")
    falls = np.flatnonzero(np.diff(bounds) < 0)
    if len(falls):
        i = int(falls[0])
        raise ValueError(f"offsets: they fall from {bounds[i]} to {bounds[i + 1]} at item {i}")
    return bounds


def _integers(name: str, given: Any) -> NDArray[np.int64]:
    if _is_path(given):
        given = np.load(Path(given))
    found = as_tensor(given, name).cpu().numpy() if is_array(given) else np.asarray(given)
    if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
        raise TypeError(f"{name}: wanted [n] integers, got {found.dtype} of shape {found.shape}")
    return found.astype(np.int64)


def _mask(given: Any, shape: tuple[int, ...] | None) -> NDArray[np.bool_] | None:
    if given is None:
        return None
    if _is_path(given):
        given = np.load(Path(given), mmap_mode="r")
    found = as_tensor(given, "mask").cpu().numpy() if isinstance(given, Tensor) else given
    found = np.asarray(found)
    if found.dtype != np.bool_:
        raise TypeError(
            f"mask: wanted bools, True for rows that count, got {found.dtype}; of an attention "
            "mask of 0 and 1, give mask == 1"
        )
    if shape is not None and found.shape != shape:
        raise ValueError(f"mask: wanted a bool for each row, {shape}, got shape {found.shape}")
    return found


def _check_sum(offsets: NDArray[np.int64], n_rows: int) -> None:
    if offsets[-1] != n_rows:
        raise ValueError(f"lengths: the items have {offsets[-1]} rows, the values {n_rows}")


def _joined(parts: Sequence[Any]) -> Any:
    """Arrays of one kind, one after the other: an array of that kind."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return converter_for(parts[0])(torch.cat([as_tensor(part, "values") for part in parts]))


def _is_path(x: object) -> bool:
    return isinstance(x, (str, os.PathLike))
