"""Arrow columns to arrays: what Parquet and Arrow IPC files have in common."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.arrays import as_tensor
from fastal.groups import Groups
from fastal.sources.location import Location
from fastal.sources.reader import Columns, needs


def pyarrow_for(file: Location) -> Any:
    """The package pyarrow; ModuleNotFoundError with what to install where it is missing."""
    try:
        import pyarrow
    except ImportError:
        raise needs(file, "pyarrow", "arrow") from None
    return pyarrow


class Layout:
    """Where in a schema the predictions, ids and groups are.

    Predictions are one column of vectors (fixed-size list, list, fixed-shape tensor, or plain bytes
    of a dtype given), or one column a class.

    Args:
        file: the file, for messages.
        schema: its columns.
        columns: what was asked for.

    Attributes:
        matrix: the columns of the predictions, in the schema's order.
        names: all columns to read.
    """

    def __init__(self, file: Location, schema: Any, columns: Columns) -> None:
        self._pa = pyarrow_for(file)
        self._file = file
        self._dtype = columns.dtype
        self.groups = columns.groups
        for name in columns.beside:
            if name not in schema.names:
                raise ValueError(f"{file}: no column {name!r}; it has {_some(schema.names)}")
        self.matrix = self._of_matrix(schema, columns)
        self.names = [*self.matrix, *([] if columns.groups is None else [columns.groups])]
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
            self.n_classes = None  # lists, each of a length of its own
        self.item_bytes = self._item_bytes(kinds[0])

    def matrix_of(self, batch: Any) -> Any:
        """The predictions [n, classes] of a record batch; a missing value is NaN."""
        columns = [_stored(batch.column(batch.schema.get_field_index(n))) for n in self.matrix]
        if self._is_wide:
            return np.stack([_numbers(column, self._file) for column in columns], axis=1)
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
        codes = column.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
        return Groups(codes.astype(np.int64), [*values, None])

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
        n = len(column)
        if self._pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            values = column.values.slice(column.offset * width, n * width)
        else:
            lengths = np.diff(column.offsets.to_numpy())
            is_null = column.is_null().to_numpy(zero_copy_only=False)
            width = int(lengths[~is_null][0]) if not is_null.all() else self.n_classes or 0
            if (lengths[~is_null] != width).any():
                raise ValueError(
                    f"{self._file}: lists of {width} and of "
                    f"{lengths[~is_null & (lengths != width)][0]} values in {self.matrix[0]!r}"
                )
            if self.n_classes is None:
                self.n_classes = width
            values = column.flatten()
            if is_null.any():
                matrix = np.full((n, width), np.nan, values.to_numpy(zero_copy_only=False).dtype)
                matrix[~is_null] = _numbers(values, self._file).reshape(-1, width)
                return matrix
        matrix = _numbers(values, self._file).reshape(n, width)
        if column.null_count:
            matrix = matrix.copy()
            matrix[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return matrix

    def _from_bytes(self, column: Any) -> torch.Tensor:
        width, n = column.type.byte_width, len(column)
        if column.null_count:
            raise ValueError(f"{self._file}: rows of {self.matrix[0]!r} are missing")
        data = column.buffers()[1]
        if not n:
            return torch.empty((0, self.n_classes or 0), dtype=self._item_dtype())
        raw = np.frombuffer(data, np.uint8, n * width, column.offset * width)
        return as_tensor(raw, str(self._file)).view(self._item_dtype()).reshape(n, -1)


def column_values(column: Any) -> NDArray[Any]:
    """A column as a NumPy array: integers as such, everything else as Python has it."""
    if column.null_count == 0 and str(column.type).startswith(("int", "uint")):
        return np.asarray(column.to_numpy())
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


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
