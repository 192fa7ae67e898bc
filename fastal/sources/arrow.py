"""Arrow columns to arrays: what Parquet and Arrow IPC files have in common."""

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.arrays import as_tensor
from fastal.groups import Groups
from fastal.sources.location import Location
from fastal.sources.reader import Columns, optional


def pyarrow_for(file: Location) -> Any:
    """The package pyarrow."""
    return optional(file, "pyarrow", "arrow")


class Layout:
    """Where in a schema the predictions, ids and groups are.

    Predictions are one column of vectors (fixed-size list, list, fixed-shape tensor, or plain bytes
    of a dtype given), or one column a class.

    Args:
        file: the file, for messages.
        schema: its columns.
        columns: what was asked for.
        n_classes: how many values lists have, where that is known already.

    Attributes:
        matrix: the columns of the predictions, in the schema's order.
        names: all columns to read.
    """

    def __init__(
        self, file: Location, schema: Any, columns: Columns, n_classes: int | None = None
    ) -> None:
        self._pa = pyarrow_for(file)
        self._file = file
        self._dtype = columns.dtype
        self.groups = columns.groups
        for name in columns.beside:
            if name not in schema.names:
                raise ValueError(f"{file}: no column {name!r}; it has {_some(schema.names)}")
        counts = Counter(schema.names)
        self.matrix = self._of_matrix(schema, columns)
        self.names = [*self.matrix, *([] if columns.groups is None else [columns.groups])]
        for name in {*self.names, *columns.beside}:
            if counts[name] > 1:
                raise ValueError(f"{file}: {counts[name]} columns are named {name!r}")
        kinds = [_storage(schema.field(name).type) for name in self.matrix]
        self._is_wide = len(kinds) > 1 or not self._is_vector(kinds[0])
        if self._is_wide:
            self.n_classes: int | None = len(kinds)
        elif self._pa.types.is_fixed_size_list(kinds[0]):
            self.n_classes = kinds[0].list_size
        elif self._pa.types.is_fixed_size_binary(kinds[0]):
            self.n_classes = kinds[0].byte_width // self._item_dtype().itemsize
            if self.n_classes * self._item_dtype().itemsize != kinds[0].byte_width:
                raise ValueError(f"{file}: {kinds[0].byte_width} bytes are no row of {self._dtype}")
        else:
            self.n_classes = n_classes  # lists, each of a length of its own
        self.item_bytes = self._item_bytes(kinds[0])

    def width_of(self, batch: Any) -> int | None:
        """How many values the first list of a record batch has, None if there is none."""
        lists = _stored(batch.column(batch.schema.get_field_index(self.matrix[0]))).drop_null()
        return len(lists[0]) if len(lists) else None

    def matrix_of(self, batch: Any) -> Any:
        """The predictions [n, classes] of a record batch; a missing value is NaN."""
        columns = [_stored(batch.column(batch.schema.get_field_index(n))) for n in self.matrix]
        if self._is_wide:
            by_class = np.stack([_numbers(column, self._file) for column in columns])
            return torch.from_numpy(by_class).T.contiguous().numpy()  # in tiles, unlike NumPy
        (column,) = columns
        if self._pa.types.is_fixed_size_binary(column.type):
            return self._from_bytes(column)
        return self._from_lists(column)

    def groups_of(self, batch: Any) -> Groups | None:
        """The groups of the rows of a record batch, None if they were not asked for."""
        if self.groups is None:
            return None
        column = batch.column(batch.schema.get_field_index(self.groups))
        if not self._pa.types.is_dictionary(column.type):
            column = column.dictionary_encode(null_encoding="encode")
        values = column.dictionary.to_pylist()
        # Cast first: indices may be too narrow for one value more.
        codes = column.indices.cast(self._pa.int64()).fill_null(len(values))
        return Groups(codes.to_numpy(zero_copy_only=False), [*values, None])

    def _of_matrix(self, schema: Any, columns: Columns) -> list[str]:
        names = [name for name in schema.names if name not in columns.beside]
        if not columns.matrix:
            vectors = [n for n in names if self._is_vector(_storage(schema.field(n).type))]
            if len(vectors) == 1:
                return vectors
            raise ValueError(
                f"{self._file}: column: wanted the name of the column of predictions, or columns, "
                f"one a class; it has {_some(schema.names)}"
            )
        found = []
        for wanted in columns.matrix:
            matching = [n for n in names if n == wanted] or [
                n for n in names if fnmatchcase(n, wanted)
            ]
            if not matching:
                raise ValueError(
                    f"{self._file}: no column {wanted!r}; it has {_some(schema.names)}"
                )
            found += [name for name in matching if name not in found]
        return found

    def _is_vector(self, kind: Any) -> bool:
        types = self._pa.types
        is_bytes = types.is_fixed_size_binary(kind) and self._dtype is not None
        return is_bytes or any(
            is_list(kind) and (types.is_floating(kind.value_type))
            for is_list in (types.is_fixed_size_list, types.is_list, types.is_large_list)
        )

    def _item_dtype(self) -> Any:
        if self._dtype is None:
            raise ValueError(
                f"{self._file}: dtype: wanted what the bytes of {self.matrix[0]!r} are"
            )
        return getattr(torch, self._dtype)

    def _item_bytes(self, kind: Any) -> int:
        if self._pa.types.is_fixed_size_binary(kind):
            return int(self._item_dtype().itemsize)
        item = kind if self._is_wide else kind.value_type
        try:
            return int(item.bit_width) // 8
        except ValueError:
            return 8  # no number: an error when it is read

    def _from_lists(self, column: Any) -> NDArray[Any]:
        n, width = len(column), self.n_classes or 0
        has_row = column.is_valid().to_numpy(zero_copy_only=False)
        if self._pa.types.is_fixed_size_list(column.type):
            rows = column.values.slice(column.offset * width, n * width)
            matrix = _numbers(rows, self._file).reshape(n, width)
            if not has_row.all():
                matrix = matrix.copy()
                matrix[~has_row] = np.nan
            return matrix
        lengths = np.diff(column.offsets.to_numpy())[has_row]
        if (lengths != width).any():
            raise ValueError(
                f"{self._file}: lists of {width} and of {lengths[lengths != width][0]} values in "
                f"{self.matrix[0]!r}"
            )
        rows = _numbers(column.flatten(), self._file).reshape(len(lengths), width)
        if has_row.all():
            return rows
        matrix = np.full((n, width), np.nan, rows.dtype)
        matrix[has_row] = rows
        return matrix

    def _from_bytes(self, column: Any) -> Any:
        width, n = column.type.byte_width, len(column)
        if not n:
            return torch.empty((0, self.n_classes or 0), dtype=self._item_dtype(), device="cpu")
        raw = np.frombuffer(column.buffers()[1], np.uint8, n * width, column.offset * width)
        matrix = as_tensor(raw, str(self._file)).view(self._item_dtype()).reshape(n, -1)
        if column.null_count:
            matrix = matrix.clone()
            matrix[torch.from_numpy(column.is_null().to_numpy(zero_copy_only=False))] = torch.nan
        return matrix if matrix.dtype == torch.bfloat16 else matrix.numpy()


def _column_values(column: Any) -> NDArray[Any]:
    """A column as a NumPy array: integers as such, everything else as Python has it."""
    if column.null_count == 0 and str(column.type).startswith(("int", "uint")):
        return np.asarray(column.to_numpy())
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def first_width(layout: Layout, batches: Iterable[Any]) -> int:
    """How many values the first list has; ValueError if there is none."""
    for batch in batches:
        if (width := layout.width_of(batch)) is not None:
            return width
    raise ValueError(f"no row of {layout.matrix[0]!r} has values")


def taken(name: str, rows: NDArray[np.int64], batches: Iterable[tuple[int, Any]]) -> NDArray[Any]:
    """The values of a column in these rows, of record batches with their first row's number."""
    found = []
    for row, batch in batches:
        here = rows[slice(*np.searchsorted(rows, (row, row + len(batch))))] - row
        if len(here):
            batch = batch.select([name])
            batch.validate(full=True)
            column = batch.column(0)
            if str(column.type).endswith("_view"):  # which cannot be taken from
                column = column.cast("large_" + str(column.type).removesuffix("_view"))
            found.append(_column_values(column.take(here)))
    if sum(map(len, found)) != len(rows):
        raise ValueError(f"{name!r} has fewer rows than the file says")
    return np.concatenate(found)


def empty_batch(schema: Any) -> Any:
    """A record batch without rows."""
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], schema=schema)


def _numbers(values: Any, file: Location) -> NDArray[Any]:
    found = values.to_numpy(zero_copy_only=False)
    if found.dtype.kind not in "f":
        raise TypeError(f"{file}: wanted floating-point numbers, got {values.type}")
    return np.asarray(found)


def _storage(kind: Any) -> Any:
    """What a fixed-shape tensor is stored as."""
    return getattr(kind, "storage_type", kind)


def _stored(column: Any) -> Any:
    return getattr(column, "storage", column)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown}, ..." if len(names) > 10 else shown or "no columns"
