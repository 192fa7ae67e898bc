"""Which columns of an Arrow schema hold predictions, ids and groups, and the shape of a row.

Parquet and Arrow IPC files share it.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import torch

from fastal.sources import labels
from fastal.sources.location import Location
from fastal.sources.reader import Columns, import_optional
from fastal.sources.text import first_names

Shape = tuple[int, ...]


def pyarrow_for(file: Location) -> Any:
    """The package pyarrow; ModuleNotFoundError if it is not installed."""
    return import_optional(file, "pyarrow", "arrow")


class Layout:
    """Where in a schema the predictions, ids and groups are.

    Predictions are one column of vectors, or one column of numbers per class. A column of vectors
    holds fixed-size lists, lists, fixed-shape tensors, or plain bytes of a given dtype. Lists of
    lists and tensors are rows of more than one dimension. The axes of a permuted tensor are read
    in their logical order.

    Args:
        file: the file, for messages.
        schema: a pyarrow schema.
        columns: which columns to read.
        row_shape: the shape of rows of lists, if it is known already.

    Raises:
        ValueError: a column is missing, is there twice, or it is not clear which one is meant.
        TypeError: a column holds something else than floating-point numbers or, for ids and groups,
            labels.

    Attributes:
        file: the file, for messages.
        matrix: the names of the columns of predictions, in the order asked for. The columns that
            match one pattern are in the order of the schema or, if they differ in numbers only, of
            these numbers. None if all columns that could hold predictions are columns of nulls.
        groups: the name of the column of groups; None if they are not read.
        names: the names of all columns that are read chunk by chunk.
        kind: the type of the columns of predictions.
        is_wide: whether there is one column per class.
        is_ragged: whether rows are lists of lists with lengths of their own.
        row_shape: the shape of a row; None if the type does not fix it: the first list then does.
            If ragged, the shape of the inner lists.
        dtype: the torch dtype of values in plain bytes, and of rows that are all missing.
        item_bytes: bytes per value.
        kinds: the kind of label in each column of labels; see `labels`.
    """

    def __init__(
        self, file: Location, schema: Any, columns: Columns, row_shape: Shape | None = None
    ) -> None:
        self._pa = pyarrow_for(file)
        self.file = file
        self._dtype_name = columns.dtype
        self.dtype: torch.dtype = getattr(torch, columns.dtype or "float32")
        self.groups = columns.groups
        for name in columns.label_columns:
            if name not in schema.names:
                raise self._no_column(name, schema)
        self.kinds = {
            name: labels.kind_of_arrow(
                f"{file}: {name!r}", schema.field(name).type, columns.purpose_of(name)
            )
            for name in columns.label_columns
            if schema.names.count(name) == 1  # if it is there several times, it is refused below
        }
        counts = Counter(schema.names)
        self.matrix = self._matrix_columns(schema, columns)
        matrix = self.matrix or []
        self.names = [*matrix, *([] if columns.groups is None else [columns.groups])]
        for name in {*self.names, *columns.label_columns}:
            if counts[name] > 1:
                raise ValueError(f"{file}: {counts[name]} columns are named {name!r}")
        fields = [schema.field(name) for name in matrix]
        self.kind = fields[0].type if fields else self._pa.null()
        self.is_wide = len(fields) > 1 or self._is_number(self.kind)
        for field in fields:
            self._check_type(field)
        self.is_ragged = columns.ragged
        if self.is_ragged:
            self._check_ragged()
        shape_of_type = (len(fields),) if self.is_wide else self._shape_of_type()
        if self.is_ragged:
            shape_of_type = None if shape_of_type is None else shape_of_type[1:]
        self.row_shape = row_shape if shape_of_type is None else shape_of_type
        self.item_bytes = self._item_bytes()

    def bytes_of(self, row_shape: Shape | None) -> int:
        """Bytes per row of that shape; 0 if the shape is not known."""
        return 0 if row_shape is None else math.prod(row_shape) * self.item_bytes

    def _matrix_columns(self, schema: Any, columns: Columns) -> list[str] | None:
        labels_only = {columns.ids, columns.groups}  # a carried column may be one of the classes
        names = [name for name in schema.names if name not in labels_only]
        if not columns.matrix:
            vectors = [n for n in names if self._is_vector(schema.field(n).type)]
            nulls = [n for n in names if self._pa.types.is_null(item_type(schema.field(n).type))]
            if len(vectors or nulls) == 1:
                return vectors or nulls
            if nulls and not vectors:
                return None
            ragged = [n for n in names if _is_ragged(schema.field(n))]
            if len(ragged) == 1 and not vectors:
                return ragged  # `_check_type` refuses it, and says why
            raise ValueError(
                f"{self.file}: column: wanted the name of the column of predictions, or columns, "
                f"one per class; it has {_columns_of(schema)}"
            )
        found: dict[str, None] = {}  # an ordered set
        available = {*names}
        for wanted in columns.matrix:
            matching: Sequence[str] = [wanted]
            if wanted not in available:
                matching = _by_number(tuple(n for n in names if fnmatchcase(n, wanted)))
            if not matching:
                raise self._no_column(wanted, schema)
            found |= dict.fromkeys(matching)
        return list(found)

    def _no_column(self, name: str, schema: Any) -> ValueError:
        return ValueError(f"{self.file}: no column {name!r}; it has {_columns_of(schema)}")

    def _is_vector(self, kind: Any) -> bool:
        types, stored = self._pa.types, storage_type(kind)
        is_bytes = types.is_fixed_size_binary(stored) and self._dtype_name is not None
        return is_bytes or (is_list(stored) and types.is_floating(item_type(stored)))

    def _is_number(self, kind: Any) -> bool:
        types, stored = self._pa.types, storage_type(kind)
        return not (is_list(stored) or types.is_fixed_size_binary(stored) or types.is_null(stored))

    def _check_type(self, field: Any) -> None:
        """TypeError unless a column is, or has lists of, floating-point numbers, or nulls."""
        types = self._pa.types
        if types.is_floating(field.type):
            return
        if types.is_fixed_size_binary(storage_type(field.type)) and not self.is_wide:
            if self._dtype_name is None:
                raise ValueError(
                    f"{self.file}: dtype: wanted float16, bfloat16, float32 or float64, since "
                    f"{field.name!r} holds plain bytes"
                )
            return
        item = storage_type(field.type) if self.is_wide else item_type(field.type)
        if types.is_floating(item) or types.is_null(item):
            return
        got = "tensors of different shapes" if _is_ragged(field) else str(field.type)
        remedy = "; convert them to float first" if types.is_integer(item) else ""
        raise TypeError(
            f"{self.file}: wanted floating-point numbers or lists of them, all of one shape, "
            f"got {got} in {field.name!r}{remedy}"
        )

    def _check_ragged(self) -> None:
        """TypeError unless the one column holds lists of lists, or nulls."""
        kind = storage_type(self.kind)
        if self._pa.types.is_null(kind) or (is_list(kind) and is_list(kind.value_type)):
            return
        raise TypeError(
            f"{self.file}: ragged: wanted lists of lists, [rows of the item, classes], got "
            f"{self.kind} in {self.names[0]!r}"
        )

    def _shape_of_type(self) -> Shape | None:
        """The shape of a row, if the type of the one column fixes it."""
        kind = self.kind
        if is_tensor(kind):
            return tuple(kind.shape[axis] for axis in kind.permutation or range(len(kind.shape)))
        kind = storage_type(kind)
        if self._pa.types.is_fixed_size_binary(kind):
            if kind.byte_width % self.dtype.itemsize:
                raise ValueError(
                    f"{self.file}: rows of {kind.byte_width} bytes are no whole number of "
                    f"{self._dtype_name} values"
                )
            return (kind.byte_width // self.dtype.itemsize,)
        shape: Shape = ()
        while self._pa.types.is_fixed_size_list(kind):
            shape, kind = (*shape, kind.list_size), kind.value_type
        if self.is_ragged and is_list(kind) and not shape:  # the outer list; the inner may be fixed
            inner: Shape = ()
            kind = kind.value_type
            while self._pa.types.is_fixed_size_list(kind):
                inner, kind = (*inner, kind.list_size), kind.value_type
            shape = (0, *inner) if inner else ()
        return None if is_list(kind) or self._pa.types.is_null(kind) else shape

    def _item_bytes(self) -> int:
        item = item_type(self.kind)
        if self._pa.types.is_fixed_size_binary(item) or self._pa.types.is_null(item):
            return int(self.dtype.itemsize)
        return int(item.bit_width) // 8


def is_list(kind: Any) -> bool:
    """Whether a type is one of lists."""
    from pyarrow import types

    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def is_tensor(kind: Any) -> bool:
    """Whether a type is one of tensors of one shape."""
    from pyarrow import FixedShapeTensorType

    return isinstance(kind, FixedShapeTensorType)


def item_type(kind: Any) -> Any:
    """The type of the innermost values of lists, of lists of lists; other types unchanged."""
    kind = storage_type(kind)
    while is_list(kind):
        kind = kind.value_type
    return kind


def storage_type(kind: Any) -> Any:
    """The type that an extension type is stored as; other types unchanged."""
    return getattr(kind, "storage_type", kind)


@lru_cache(maxsize=8)  # the files of a pool have the same columns
def _by_number(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names in the order of the numbers in them, if they differ in these only."""
    if len({re.sub(r"\d+", "0", name) for name in names}) != 1:
        return names
    return tuple(sorted(names, key=lambda name: ([*map(int, re.findall(r"\d+", name))], name)))


def _is_ragged(field: Any) -> bool:
    """Whether the rows of a column are tensors of different shapes."""
    name = getattr(field.type, "extension_name", None)
    return "arrow.variable_shape_tensor" in (
        name, ((field.metadata or {}).get(b"ARROW:extension:name", b"")).decode()
    )  # fmt: skip


def _columns_of(schema: Any) -> str:
    return first_names(schema.names) or "no columns"
