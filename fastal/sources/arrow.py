"""Arrow columns to arrays: what Parquet and Arrow IPC files have in common."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.groups import Groups
from fastal.sources import labels
from fastal.sources.location import Location
from fastal.sources.reader import Columns, optional

Shape = tuple[int, ...]


def pyarrow_for(file: Location) -> Any:
    """The package pyarrow."""
    return optional(file, "pyarrow", "arrow")


class Layout:
    """Where in a schema the predictions, ids and groups are.

    Predictions are one column of vectors (fixed-size list, list, fixed-shape tensor, or plain bytes
    of a dtype given), or one column a class. Lists of lists and tensors are rows of more than one
    dimension; of a permuted tensor, the logical layout is read.

    Args:
        file: the file, for messages.
        schema: its columns.
        columns: what was asked for.
        row_shape: what shape rows of lists have, where that is known already.

    Attributes:
        matrix: the columns of the predictions: in the order asked for, of those that match one
            pattern in the schema's order, or by number where they differ in numbers alone. None:
            this file does not tell, since all that could hold predictions are columns of nulls.
        names: all columns to read.
        row_shape: the shape of a row; None: the first list tells, if there is one.
        item_bytes: how many bytes one of its values has.
        kinds: of the columns of ids and groups; see `labels`.
    """

    def __init__(
        self, file: Location, schema: Any, columns: Columns, row_shape: Shape | None = None
    ) -> None:
        self._pa = pyarrow_for(file)
        self._file = file
        self._dtype = columns.dtype
        self.groups = columns.groups
        for name in columns.beside:
            if name not in schema.names:
                raise ValueError(f"{file}: no column {name!r}; it has {_some(schema.names)}")
        self.kinds = {
            name: labels.kind_of_arrow(
                f"{file}: {name!r}", schema.field(name).type, are_groups=name != columns.ids
            )
            for name in columns.beside
            if schema.names.count(name) == 1  # several: refused below
        }
        counts = Counter(schema.names)
        self.matrix = self._of_matrix(schema, columns)
        matrix = self.matrix or []
        self.names = [*matrix, *([] if columns.groups is None else [columns.groups])]
        for name in {*self.names, *columns.beside}:
            if counts[name] > 1:
                raise ValueError(f"{file}: {counts[name]} columns are named {name!r}")
        fields = [schema.field(name) for name in matrix]
        self._kind = fields[0].type if fields else self._pa.null()
        self._is_wide = len(fields) > 1 or self._is_number(self._kind)
        for field in fields:
            self._check(field)
        said = (len(fields),) if self._is_wide else self._row_shape()
        self.row_shape = row_shape if said is None else said
        self.item_bytes = self._item_bytes()

    def bytes_of(self, row_shape: Shape | None) -> int:
        """How many bytes a row of that shape has; 0 where the shape is not known."""
        return 0 if row_shape is None else math.prod(row_shape) * self.item_bytes

    def shape_of(self, batch: Any) -> Shape | None:
        """The shape of the first list of a record batch, None if there is none."""
        return self._shape_in(_stored(self._column(batch, (self.matrix or [""])[0])))

    def matrix_of(self, batch: Any) -> Any:
        """The predictions [n, ...] of a record batch; a missing value is NaN."""
        columns = [_stored(self._column(batch, name)) for name in self.matrix or []]
        if self._is_wide:
            by_class = np.stack([_numbers(column) for column in columns])
            return torch.from_numpy(by_class).T.contiguous().numpy()  # in tiles, unlike NumPy
        shape = (0,) if self.row_shape is None else self.row_shape
        if not columns or self._pa.types.is_null(columns[0].type):
            dtype = getattr(torch, self._dtype or "float32")
            missing = torch.full((len(batch), *shape), torch.nan, dtype=dtype, device="cpu")
            return _plain(missing)
        if self._pa.types.is_fixed_size_binary(columns[0].type):
            return self._from_bytes(columns[0])
        if not self._is_tensor(self._kind):
            return self._from_lists(columns[0], shape)
        rows = self._from_lists(columns[0], (math.prod(shape),))
        order = self._kind.permutation or range(len(shape))
        return rows.reshape(len(rows), *self._kind.shape).transpose(
            0, *(1 + axis for axis in order)
        )

    def groups_of(self, batch: Any) -> Groups | None:
        """The groups of the rows of a record batch, None if they were not asked for."""
        if self.groups is None:
            return None
        column = self._column(batch, self.groups)
        if not self._pa.types.is_dictionary(column.type):
            column = column.dictionary_encode(null_encoding="encode")
        values = column.dictionary.to_pylist()
        # Cast first: indices may be too narrow for one value more.
        codes = column.indices.cast(self._pa.int64()).fill_null(len(values))
        return Groups(codes.to_numpy(zero_copy_only=False), [*values, None])

    def _column(self, batch: Any, name: str) -> Any:
        return batch.column(batch.schema.get_field_index(name))

    def _of_matrix(self, schema: Any, columns: Columns) -> list[str] | None:
        names = [name for name in schema.names if name not in columns.beside]
        if not columns.matrix:
            vectors = [n for n in names if self._is_vector(schema.field(n).type)]
            nulls = [n for n in names if self._pa.types.is_null(self._item(schema.field(n).type))]
            if len(vectors or nulls) == 1:
                return vectors or nulls
            if nulls and not vectors:
                return None
            ragged = [n for n in names if _is_ragged(schema.field(n))]
            if len(ragged) == 1 and not vectors:
                return ragged  # which is refused
            raise ValueError(
                f"{self._file}: column: wanted the name of the column of predictions, or columns, "
                f"one a class; it has {_some(schema.names)}"
            )
        found: dict[str, None] = {}  # in order
        held = {*names}
        for wanted in columns.matrix:
            matching: Sequence[str] = [wanted]
            if wanted not in held:
                matching = _by_number(tuple(n for n in names if fnmatchcase(n, wanted)))
            if not matching:
                raise ValueError(
                    f"{self._file}: no column {wanted!r}; it has {_some(schema.names)}"
                )
            found |= dict.fromkeys(matching)
        return list(found)

    def _is_vector(self, kind: Any) -> bool:
        types, stored = self._pa.types, _storage(kind)
        is_bytes = types.is_fixed_size_binary(stored) and self._dtype is not None
        return is_bytes or (self._is_list(stored) and types.is_floating(self._item(stored)))

    def _is_list(self, kind: Any) -> bool:
        types = self._pa.types
        return bool(
            types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
        )

    def _is_number(self, kind: Any) -> bool:
        types, stored = self._pa.types, _storage(kind)
        return not (
            self._is_list(stored) or types.is_fixed_size_binary(stored) or types.is_null(stored)
        )

    def _is_tensor(self, kind: Any) -> bool:
        return isinstance(kind, self._pa.FixedShapeTensorType)

    def _item(self, kind: Any) -> Any:
        """What lists, of lists or not, are lists of in the end; other types as they are."""
        kind = _storage(kind)
        while self._is_list(kind):
            kind = kind.value_type
        return kind

    def _check(self, field: Any) -> None:
        """TypeError unless a column is, or has lists of, floating-point numbers, or nulls."""
        types = self._pa.types
        if types.is_floating(field.type):
            return
        if types.is_fixed_size_binary(_storage(field.type)) and not self._is_wide:
            if self._dtype is None:
                raise ValueError(
                    f"{self._file}: dtype: wanted what the bytes of {field.name!r} are"
                )
            return
        item = _storage(field.type) if self._is_wide else self._item(field.type)
        if types.is_floating(item) or types.is_null(item):
            return
        got = "tensors of different shapes" if _is_ragged(field) else str(field.type)
        remedy = "; convert them to float first" if types.is_integer(item) else ""
        raise TypeError(
            f"{self._file}: wanted floating-point numbers or lists of them, all of one shape, "
            f"got {got} in {field.name!r}{remedy}"
        )

    def _row_shape(self) -> Shape | None:
        """The shape that the type of the one column says."""
        kind = self._kind
        if self._is_tensor(kind):
            return tuple(kind.shape[axis] for axis in kind.permutation or range(len(kind.shape)))
        kind = _storage(kind)
        if self._pa.types.is_fixed_size_binary(kind):
            item_bytes = self._item_dtype().itemsize
            if kind.byte_width % item_bytes:
                raise ValueError(
                    f"{self._file}: {kind.byte_width} bytes are no row of {self._dtype}"
                )
            return (kind.byte_width // item_bytes,)
        shape: Shape = ()
        while self._pa.types.is_fixed_size_list(kind):
            shape, kind = (*shape, kind.list_size), kind.value_type
        return None if self._is_list(kind) or self._pa.types.is_null(kind) else shape

    def _item_dtype(self) -> Any:
        return getattr(torch, self._dtype or "float32")

    def _item_bytes(self) -> int:
        item = self._item(self._kind)
        if self._pa.types.is_fixed_size_binary(item) or self._pa.types.is_null(item):
            return int(self._item_dtype().itemsize)
        return int(item.bit_width) // 8

    def _shape_in(self, column: Any) -> Shape | None:
        """The shape of the first row of a column that tells it, None if there is none."""
        if not self._is_list(column.type):
            return None if self._pa.types.is_null(column.type) else ()
        bounds = self._bounds(column)
        for row in np.flatnonzero(_has_row(column)).tolist():
            first, last = map(int, bounds[row : row + 2])
            inner = self._shape_in(column.values.slice(first, last - first))
            if inner is not None:
                return last - first, *inner
        return None

    def _from_lists(self, column: Any, shape: Shape) -> NDArray[Any]:
        """The rows [n, *shape] of a column of lists, of lists or not; missing ones are NaN."""
        if not shape:
            return _numbers(column)
        if self._pa.types.is_null(column.type):
            return np.full((len(column), *shape), np.nan, np.float32)
        n, (width, *inner) = len(column), shape

        def rows_from(first: int, n_rows: int) -> NDArray[Any]:
            part = column.values.slice(first, n_rows * width)
            return self._from_lists(part, tuple(inner)).reshape(n_rows, *shape)

        if self._pa.types.is_fixed_size_list(column.type):
            rows = rows_from(column.offset * width, n)
            if column.null_count:
                rows = rows.copy()
                rows[~_has_row(column)] = np.nan
            return rows
        bounds, has_row = self._bounds(column), _has_row(column)
        starts, lengths = bounds[:-1][has_row], np.diff(bounds)[has_row]
        if (lengths != width).any():
            raise ValueError(
                f"{self._file}: lists of {width} and of {lengths[lengths != width][0]} values in "
                f"{self.names[0]!r}"
            )
        if not len(starts) or starts[-1] - starts[0] == (len(starts) - 1) * width:
            rows = rows_from(int(starts[0]) if len(starts) else 0, len(starts))
        else:  # between them are values of missing ones
            rows = np.concatenate([rows_from(first, 1) for first in starts.tolist()])
        if len(rows) == n:
            return rows
        matrix = np.full((n, *shape), np.nan, rows.dtype)
        matrix[has_row] = rows
        return matrix

    def _bounds(self, column: Any) -> NDArray[np.int64]:
        """Where in its values each list of a column begins, and the last one ends.

        A copy, so that what was checked stays: of a map, a page may be lost at any moment.
        """
        n, n_values = len(column), len(column.values)
        if self._pa.types.is_fixed_size_list(column.type):
            return np.arange(column.offset, column.offset + n + 1) * int(column.type.list_size)
        bounds: NDArray[np.int64]
        bounds = column.offsets.to_numpy().astype(np.int64) if n else np.zeros(1, np.int64)
        if bounds[0] < 0 or bounds[-1] > n_values or (np.diff(bounds) < 0).any():
            raise ValueError(f"{self._file}: lists that reach beyond the {n_values} values there")
        return bounds

    def _from_bytes(self, column: Any) -> Any:
        width, n = column.type.byte_width, len(column)
        if not n:
            return torch.empty((0, *(self.row_shape or ())), dtype=self._item_dtype(), device="cpu")
        raw = np.frombuffer(column.buffers()[1], np.uint8, n * width, column.offset * width)
        matrix = as_tensor(raw, str(self._file)).view(self._item_dtype()).reshape(n, -1)
        if column.null_count:
            matrix = matrix.clone()
            matrix[torch.from_numpy(column.is_null().to_numpy(zero_copy_only=False))] = torch.nan
        return _plain(matrix)


def _numbers(column: Any) -> NDArray[Any]:
    """The values of a column of floating-point numbers, or of nulls."""
    found = np.asarray(column.to_numpy(zero_copy_only=False))
    return found if found.dtype.kind == "f" else np.full(len(found), np.nan, np.float32)


def _has_row(column: Any) -> NDArray[np.bool_]:
    """Which rows of a column are there."""
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False))


def _plain(matrix: torch.Tensor) -> Any:
    """A NumPy array, but of what NumPy lacks."""
    return matrix if matrix.dtype == torch.bfloat16 else matrix.numpy()


def first_shape(layout: Layout, batches: Iterable[Any]) -> Shape | None:
    """The shape of the first list that tells it; None if there is none."""
    return next((shape for b in batches if (shape := layout.shape_of(b)) is not None), None)


def copied(batch: Any) -> Any:
    """A record batch in memory of its own, checked: Arrow follows offsets that it holds."""
    import pyarrow as pa

    batch = batch.copy_to(pa.default_cpu_memory_manager())
    batch.validate(full=True)
    return batch


def taken(name: str, rows: NDArray[np.int64], batches: Iterable[tuple[int, Any]]) -> NDArray[Any]:
    """The values of a column in these rows, of record batches with their first row's number."""
    found = []
    for row, batch in batches:
        here = rows[slice(*np.searchsorted(rows, (row, row + len(batch))))] - row
        if len(here):
            column = copied(batch.select([name])).column(0)
            if str(column.type).endswith("_view"):  # which cannot be taken from
                column = column.cast("large_" + str(column.type).removesuffix("_view"))
            found.append(labels.of_arrow(column.take(here)))
    if sum(map(len, found)) != len(rows):
        raise ValueError(f"{name!r} has fewer rows than the file says")
    return np.concatenate(found)


def empty_batch(schema: Any) -> Any:
    """A record batch without rows."""
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], schema=schema)


@lru_cache(maxsize=8)  # of many files, with the same columns
def _by_number(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that differ in numbers alone, by these; others as they are."""
    if len({re.sub(r"\d+", "0", name) for name in names}) != 1:
        return names
    return tuple(sorted(names, key=lambda name: ([*map(int, re.findall(r"\d+", name))], name)))


def _is_ragged(field: Any) -> bool:
    """Whether a column has tensors of shapes of their own."""
    name = getattr(field.type, "extension_name", None)
    return "arrow.variable_shape_tensor" in (
        name, ((field.metadata or {}).get(b"ARROW:extension:name", b"")).decode()
    )  # fmt: skip


def _storage(kind: Any) -> Any:
    """What an extension type is stored as; other types as they are."""
    return getattr(kind, "storage_type", kind)


def _stored(column: Any) -> Any:
    return getattr(column, "storage", column)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown}, ..." if len(names) > 10 else shown or "no columns"
