"""Items of several rows as a pool: the tokens of sentences, the boxes of images."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_sliceable, as_tensor, converter_for, is_array, memory_of
from fastal.base.items import Items
from fastal.base.memory_guard import guarded
from fastal.sources.given_columns import GivenColumns
from fastal.sources.source import Chunk, Source, SourceOver, chunks_of


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
    if isinstance(values, Items):
        raise TypeError("values: they are items already; wanted their rows")
    is_list = isinstance(values, (list, tuple)) and not (values and _is_path(values[0]))
    if is_list:
        for name, given in (("lengths", lengths), ("offsets", offsets)):
            if given is not None:
                raise ValueError(f"{name}: a list with one array for each item has its own lengths")
        return _of_list(values, mask)
    called = "lengths" if offsets is None else "offsets"
    bounds = _bounds(lengths, offsets)
    if is_array(values) and not isinstance(values, Source):
        return _of_array(as_sliceable(values, "values"), bounds, mask, called)
    from fastal.sources import open_pool

    pool = open_pool(values)
    if bounds is None:
        raise ValueError("lengths: wanted lengths or offsets, since the values are in files")
    found = ItemPool(pool, bounds, _mask(mask, (int(bounds[-1]),)), called=called)
    found.described_by = [Path(given) for given in (lengths, offsets, mask) if _is_path(given)]
    return found


class ItemPool(SourceOver):
    """Items whose rows are those of another pool, one after the other; see `items`.

    A chunk has whole items. Items of which a chunk of the pool has a part alone are copied.

    Args:
        source: the pool of rows.
        offsets: [n + 1] int64: the first row of each item, and the number of rows.
        mask: [rows] bool; None: all rows count.
        columns: the ids of the items, and the columns that the picks carry.
        called: the argument that the offsets came in, for errors.

    Attributes:
        described_by: the files that lengths, offsets and mask were read from.

    Raises:
        ValueError: the pool has another number of rows, or ids, groups or other columns of rows.
    """

    beside: Source | None = None

    def __init__(
        self,
        source: Source,
        offsets: NDArray[np.int64],
        mask: NDArray[np.bool_] | None,
        columns: GivenColumns | None = None,
        called: str = "offsets",
    ) -> None:
        super().__init__(source)
        _check_rows(source)
        _check_sum(offsets, source.n_rows or 0, called)
        self._offsets, self._mask = offsets, mask
        self._columns = columns or GivenColumns(self.n_rows)
        self.described_by: list[Path] = []

    def with_columns(self, ids: Any, carry: Mapping[str, Any]) -> "ItemPool":
        """The same items with ids and carried columns of their own; see `GivenColumns`."""
        columns = GivenColumns(self.n_rows, ids, carry)
        found = ItemPool(self._source, self._offsets, self._mask, columns)
        found.described_by = self.described_by
        return found

    def inputs(self) -> Iterator[Path]:
        """See `Files.inputs`: also the files of lengths, offsets and the mask."""
        yield from self.described_by
        if hasattr(self._source, "inputs"):
            yield from self._source.inputs()

    @property
    def n_rows(self) -> int:
        """How many items there are."""
        return len(self._offsets) - 1

    @property
    def chunk_bounds(self) -> list[int]:
        """See `Files.chunk_bounds`: a chunk of items may span two files."""
        return [0, self.n_rows]

    @property
    def row_bytes(self) -> int:
        """The mean bytes of an item."""
        n_bytes = int(self._offsets[-1]) * (self._source.row_bytes or 0)
        return max(1, n_bytes // max(1, self.n_rows))

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yields the items from `start` on, in order; see `Source.chunks`."""
        offsets, n_items = self._offsets, self.n_rows
        row, item = int(offsets[start]), start
        if start == n_items and start:
            return
        held: list[Any] = []  # the rows of an item so far that the last chunks ended with
        n_rows = max(1, rows * int(offsets[-1]) // max(1, self.n_rows))
        # Items without rows at the end of the pool are beside its last row.
        first_row, stop_row = self._in_pool(start), None
        if stop is not None:  # at least one row, beside which items without rows are
            stop_row = max(int(offsets[min(stop, n_items)]), first_row + 1)
        for chunk in chunks_of(self._source, n_rows, first_row, stop_row):
            if chunk.start > row:
                raise ValueError(f"values: rows from {row} to {chunk.start - 1} are missing")
            of_chunk = row + chunk.x.shape[0]
            if held:
                end = min(int(offsets[item + 1]), of_chunk)
                held.append(self._copied(chunk, row, end))
                row = end
                if row == offsets[item + 1]:
                    yield Chunk(item, self._items(_joined(held), item, item + 1))
                    held, item = [], item + 1
            # The first item that goes on in the next chunk.
            last = int(np.searchsorted(offsets, of_chunk, "right")) - 1
            if last > item or (last == item and item == start and not held and of_chunk == row):
                first = row - chunk.start
                part = chunk.x[first : int(offsets[last]) - chunk.start, ...]
                yield Chunk(item, self._items(part, item, last))
                row, item = int(offsets[last]), last
            if row < of_chunk:
                held.append(self._copied(chunk, row, of_chunk))
                row = of_chunk
        if row < (offsets[-1] if stop_row is None else stop_row):
            raise ValueError(f"values: rows from {row} on are missing")

    def _items(self, values: Any, first: int, last: int) -> Items:
        rows = slice(int(self._offsets[first]), int(self._offsets[last]))
        mask = None if self._mask is None else self._mask[rows]
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
        columns, *others = of_pool
        return [[*columns, f"items {digest.hexdigest()[:16]}"], *others]

    def ids(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """See `Source.ids`."""
        return self._columns.ids(rows)

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See `Source.carried`."""
        return self._columns.carried(rows)


def _check_rows(source: Source) -> None:
    """ValueError unless a pool has rows that items can be made of."""
    if source.n_rows is None:
        raise ValueError("values: wanted a pool whose number of rows is known beforehand")
    if isinstance(source, ItemPool):
        raise TypeError("values: they are items already; wanted their rows")
    columns = getattr(source, "columns", None)
    if columns is not None and columns.ragged:
        raise ValueError("values: with ragged, each row of the files is an item already")
    for name, is_given in (
        ("ids", source.ids(np.empty(0, np.int64)) is not None),
        ("groups", columns is not None and columns.groups is not None),
        ("carried columns", bool(source.carried(np.empty(0, np.int64)))),
        ("a pool beside", getattr(source, "beside", None) is not None),
    ):
        if is_given:
            raise ValueError(
                f"values: the pool has {name} of the rows, and an item has several; for those of "
                "the items, see ids and carry of fastal.open_pool, and groups of fastal.select"
            )


def _of_list(values: Sequence[Any], mask: Any) -> Items:
    arrays = [_of_item(x, i) for i, x in enumerate(values)]
    if not arrays:
        raise ValueError("values: an empty list")
    # An empty list says nothing of the shape of its rows.
    shape = next((x.shape[1:] for x in arrays if x.shape != (0,)), ())
    arrays = [x.reshape(0, *shape) if x.shape == (0,) else x for x in arrays]
    shapes = [tuple(x.shape) for x in arrays]
    for i, shape in enumerate(shapes):
        if len(shape) != len(shapes[0]) or shape[1:] != shapes[0][1:] or not shape:
            raise ValueError(
                f"values: item {i} has shape {shape}, item 0 {shapes[0]}; wanted [rows, classes] "
                "of equally many classes"
            )
    offsets = np.concatenate([[0], np.cumsum([shape[0] for shape in shapes])]).astype(np.int64)
    return Items(_joined(arrays), offsets, _mask(mask, (int(offsets[-1]),)))


def _of_item(x: Any, number: int) -> Any:
    """The rows of an item of a list: an array, or a list of lists of numbers."""
    name = f"values: item {number}"
    if is_array(x):
        return as_sliceable(x, name)
    try:
        return np.asarray(x, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: wanted an array [rows, classes], or lists: {error}") from None


def _of_array(values: Any, offsets: NDArray[np.int64] | None, mask: Any, called: str) -> Items:
    if offsets is None:
        if mask is None:
            raise ValueError(
                "lengths: wanted lengths, offsets or a mask; an array of items that have equally "
                "many rows is a pool as it is"
            )
        found = _mask(mask, None)
        if found is not None and found.shape[:1] != tuple(values.shape[:1]):
            raise ValueError(
                f"mask: wanted a bool for each row of {values.shape[0]} items, got shape "
                f"{found.shape}"
            )
        return Items(values, None, found)
    if len(values.shape) > 2 and values.shape[0] == len(offsets) - 1 != offsets[-1]:
        raise ValueError(
            f"{called}: wanted values [rows of all items, classes], got {tuple(values.shape)}; for "
            "items that are padded to equal length T, give mask=np.arange(T) < lengths[:, None]"
        )
    _check_sum(offsets, values.shape[0], called)
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
        given = _loaded(name, given)
    found = as_tensor(given, name).cpu().numpy() if is_array(given) else np.asarray(given)
    if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
        raise TypeError(f"{name}: wanted [n] integers, got {found.dtype} of shape {found.shape}")
    return found.astype(np.int64)


def _mask(given: Any, shape: tuple[int, ...] | None) -> NDArray[np.bool_] | None:
    if given is None:
        return None
    if _is_path(given):
        given = _loaded("mask", given)
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


def _loaded(name: str, path: Any) -> NDArray[Any]:
    """The array of a .npy file, mapped."""
    try:
        found = np.load(Path(path), mmap_mode="r")
        if not isinstance(found, np.ndarray):
            raise ValueError("it holds several arrays")
    except OSError as error:
        raise OSError(f"{name}: {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {path}: wanted a .npy file of one array: {error}") from error
    return found


def _check_sum(offsets: NDArray[np.int64], n_rows: int, called: str) -> None:
    if offsets[-1] != n_rows:
        raise ValueError(f"{called}: the items have {offsets[-1]} rows, the values {n_rows}")


def _joined(parts: Sequence[Any]) -> Any:
    """Arrays of one kind, one after the other: an array of that kind."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return converter_for(parts[0])(torch.cat([as_tensor(part, "values") for part in parts]))


def _is_path(x: object) -> bool:
    return isinstance(x, (str, os.PathLike))
