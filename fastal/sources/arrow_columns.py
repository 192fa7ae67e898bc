"""Arrow columns decoded to arrays, for Parquet and Arrow IPC files."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.groups import Groups
from fastal.base.items import Items
from fastal.sources import labels
from fastal.sources.arrow_schema import Layout, Shape, is_list, is_tensor
from fastal.sources.reader import as_numpy

_HINT = "; if each row is an item of several rows, give ragged=True"


def matrix_of(batch: Any, layout: Layout) -> Any:
    """The predictions [n, ...] of a record batch, or items; missing values are NaN."""
    from pyarrow import types

    columns = [_stored(_column(batch, name)) for name in layout.matrix or []]
    if layout.is_wide:
        by_class = np.stack([_numbers(column) for column in columns])
        return torch.from_numpy(by_class).T.contiguous().numpy()  # torch, unlike NumPy, uses tiles
    shape = (0,) if layout.row_shape is None else layout.row_shape
    if layout.is_ragged and (not columns or types.is_null(columns[0].type)):
        empty = torch.empty((0, *shape), dtype=layout.dtype, device="cpu")
        return Items(as_numpy(empty), np.zeros(len(batch) + 1, np.int64))
    if not columns or types.is_null(columns[0].type):
        return as_numpy(
            torch.full((len(batch), *shape), torch.nan, dtype=layout.dtype, device="cpu")
        )
    if layout.is_ragged:
        return _items_from_lists(columns[0], shape, layout)
    if types.is_fixed_size_binary(columns[0].type):
        return _from_bytes(columns[0], layout)
    if not is_tensor(layout.kind):
        return _from_lists(columns[0], shape, layout)
    rows = _from_lists(columns[0], (math.prod(shape),), layout)
    order = layout.kind.permutation or range(len(shape))
    return rows.reshape(len(rows), *layout.kind.shape).transpose(0, *(1 + axis for axis in order))


def groups_of(batch: Any, layout: Layout) -> Groups | None:
    """The groups of the rows of a record batch; None if they are not read."""
    import pyarrow as pa

    if layout.groups is None:
        return None
    column = _column(batch, layout.groups)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode(null_encoding="encode")
    values = column.dictionary.to_pylist()
    # None becomes one more value. The cast comes first: narrow indices may have no room for it.
    codes = column.indices.cast(pa.int64()).fill_null(len(values))
    return Groups(codes.to_numpy(zero_copy_only=False), [*values, None])


def first_shape(batches: Iterable[Any], layout: Layout) -> Shape | None:
    """The shape of the first list that is not missing; None if all are."""
    name = (layout.matrix or [""])[0]
    shapes = (_shape_in(_stored(_column(batch, name)), layout) for batch in batches)
    found = next((shape for shape in shapes if shape is not None), None)
    return found[1:] if found is not None and layout.is_ragged else found


def taken(name: str, rows: NDArray[np.int64], batches: Iterable[tuple[int, Any]]) -> NDArray[Any]:
    """The labels in a column in these rows.

    Args:
        name: the column.
        rows: row numbers, ascending.
        batches: record batches, each with the number of its first row.

    Raises:
        ValueError: the batches end before the last of the rows.
    """
    found = []
    for row, batch in batches:
        here = rows[slice(*np.searchsorted(rows, (row, row + len(batch))))] - row
        if len(here):
            column = copied(batch.select([name])).column(0)
            if str(column.type).endswith("_view"):  # Arrow cannot take from views
                column = column.cast("large_" + str(column.type).removesuffix("_view"))
            found.append(labels.of_arrow(column.take(here)))
    if sum(map(len, found)) != len(rows):
        raise ValueError(f"{name!r} has fewer rows than the file says")
    return np.concatenate(found)


def copied(batch: Any) -> Any:
    """A copy of a record batch whose offsets were checked, since Arrow follows them blindly.

    Of a map, a page may be lost after it was checked; of a copy, none can.
    """
    import pyarrow as pa

    batch = batch.copy_to(pa.default_cpu_memory_manager())
    batch.validate(full=True)
    return batch


def empty_batch(schema: Any) -> Any:
    """A record batch without rows."""
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], schema=schema)


def _column(batch: Any, name: str) -> Any:
    return batch.column(batch.schema.get_field_index(name))


def _stored(column: Any) -> Any:
    """The storage of a column of an extension type; other columns unchanged."""
    return getattr(column, "storage", column)


def _shape_in(column: Any, layout: Layout) -> Shape | None:
    """The shape of the first row of a column that is not missing at any level; None: all are."""
    from pyarrow import types

    if not is_list(column.type):
        return None if types.is_null(column.type) else ()
    bounds = _bounds(column, layout)
    for row in np.flatnonzero(_is_present(column)).tolist():
        first, last = map(int, bounds[row : row + 2])
        inner = _shape_in(column.values.slice(first, last - first), layout)
        if inner is not None:
            return last - first, *inner
    return None


def _items_from_lists(column: Any, shape: Shape, layout: Layout) -> Items:
    """The items of a column of lists of lists. Missing items have no rows; missing rows are NaN."""
    bounds, is_present = _bounds(column, layout), _is_present(column)
    lengths = np.where(is_present, np.diff(bounds), 0)
    offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
    starts = bounds[:-1][lengths > 0]
    if not len(starts) or starts[-1] + lengths[lengths > 0][-1] - starts[0] == offsets[-1]:
        inner = column.values.slice(int(starts[0]) if len(starts) else 0, int(offsets[-1]))
        return Items(_from_lists(inner, shape, layout), offsets)
    parts = [  # missing items have rows of their own in between
        _from_lists(column.values.slice(int(start), int(length)), shape, layout)
        for start, length in zip(starts, lengths[lengths > 0], strict=True)
    ]
    return Items(np.concatenate(parts), offsets)


def _from_lists(column: Any, shape: Shape, layout: Layout) -> NDArray[Any]:
    """The rows [n, *shape] of a column of lists, nested or not; missing ones are NaN."""
    from pyarrow import types

    if not shape:
        return _numbers(column)
    if types.is_null(column.type):
        return np.full((len(column), *shape), np.nan, np.float32)
    n, (width, *inner) = len(column), shape

    def rows_from(first: int, n_rows: int) -> NDArray[Any]:
        part = column.values.slice(first, n_rows * width)
        return _from_lists(part, tuple(inner), layout).reshape(n_rows, *shape)

    if types.is_fixed_size_list(column.type):
        rows = rows_from(column.offset * width, n)
        if column.null_count:
            rows = rows.copy()
            rows[~_is_present(column)] = np.nan
        return rows
    bounds, is_present = _bounds(column, layout), _is_present(column)
    starts, lengths = bounds[:-1][is_present], np.diff(bounds)[is_present]
    if (lengths != width).any():
        raise ValueError(
            f"{layout.file}: lists of {width} and of {lengths[lengths != width][0]} values in "
            f"{layout.names[0]!r}{_HINT if inner else ''}"
        )
    if not len(starts) or starts[-1] - starts[0] == (len(starts) - 1) * width:
        rows = rows_from(int(starts[0]) if len(starts) else 0, len(starts))
    else:  # missing lists have values of their own in between
        rows = np.concatenate([rows_from(first, 1) for first in starts.tolist()])
    if len(rows) == n:
        return rows
    matrix = np.full((n, *shape), np.nan, rows.dtype)
    matrix[is_present] = rows
    return matrix


def _bounds(column: Any, layout: Layout) -> NDArray[np.int64]:
    """The place among its values where each list of a column begins, and where the last one ends.

    It is a copy: a page of a map may be lost after it was checked.
    """
    from pyarrow import types

    n, n_values = len(column), len(column.values)
    if types.is_fixed_size_list(column.type):
        return np.arange(column.offset, column.offset + n + 1) * int(column.type.list_size)
    bounds: NDArray[np.int64]
    bounds = column.offsets.to_numpy().astype(np.int64) if n else np.zeros(1, np.int64)
    if bounds[0] < 0 or bounds[-1] > n_values or (np.diff(bounds) < 0).any():
        raise ValueError(f"{layout.file}: offsets of lists beyond the {n_values} values stored")
    return bounds


def _from_bytes(column: Any, layout: Layout) -> Any:
    """The rows of a column of plain bytes; missing ones are NaN."""
    width, n = column.type.byte_width, len(column)
    if not n:
        return torch.empty((0, *(layout.row_shape or ())), dtype=layout.dtype, device="cpu")
    raw = np.frombuffer(column.buffers()[1], np.uint8, n * width, column.offset * width)
    matrix = as_tensor(raw, str(layout.file)).view(layout.dtype).reshape(n, -1)
    if column.null_count:
        matrix = matrix.clone()
        matrix[torch.from_numpy(column.is_null().to_numpy(zero_copy_only=False))] = torch.nan
    return as_numpy(matrix)


def _numbers(column: Any) -> NDArray[Any]:
    """The values of a column of floating-point numbers; NaN for a column of nulls."""
    found = np.asarray(column.to_numpy(zero_copy_only=False))
    return found if found.dtype.kind == "f" else np.full(len(found), np.nan, np.float32)


def _is_present(column: Any) -> NDArray[np.bool_]:
    """Which rows of a column are not missing."""
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
