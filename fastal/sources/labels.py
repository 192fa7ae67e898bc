"""Labels: ids, groups and carried columns, one plain value for each row.

In every format, ids are integers of at most 64 bits, or text. Groups may also be bools, and carried
columns bools or floats. A label may be missing (None) if the format has nulls. Everything else is
refused when the file is opened: floats as ids, which may be NaN or rounded; bytes; times; decimals;
UUIDs; lists; structs. If a column holds integers in one file and text in another, it is read as
text in all files.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor, is_array
from fastal.base.groups import Groups

IDS, GROUPS, CARRIED = "ids", "groups", "carried values"  # what a column is read for
INTEGERS, TEXT, BOOLS, FLOATS = "integers", "text", "bools", "floats"
_WANTED = {
    IDS: (INTEGERS, TEXT),
    GROUPS: (INTEGERS, BOOLS, TEXT),
    CARRIED: (INTEGERS, FLOATS, BOOLS, TEXT),
}
_KINDS = {"i": INTEGERS, "u": INTEGERS, "b": BOOLS, "f": FLOATS, **dict.fromkeys("USTO", TEXT)}
_TYPES = {int: INTEGERS, float: FLOATS, bool: BOOLS, str: TEXT}
_LAST_CODE_POINT, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)


def kind_of_array(name: str, dtype: Any, purpose: str) -> str:
    """The kind of labels that an array holds.

    Args:
        name: of the file and the array, for errors.
        dtype: a dtype of NumPy or torch.
        purpose: what the labels are read for: `IDS`, `GROUPS` or `CARRIED`.

    Raises:
        TypeError: the dtype is not one of labels.
    """
    found = _KINDS.get(_dtype_kind(dtype))
    return _checked(name, found, dtype, purpose)


def kind_of_arrow(name: str, kind: Any, purpose: str) -> str | None:
    """The kind of labels that an Arrow column of a type holds; None if all are missing.

    Raises:
        TypeError: see `kind_of_array`.
    """
    from pyarrow import types

    of = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_null(of):
        return None
    found = None
    if types.is_integer(of):
        found = INTEGERS
    elif str(of) in ("string", "large_string", "string_view"):
        found = TEXT
    elif types.is_boolean(of):
        found = BOOLS
    elif types.is_floating(of):
        found = FLOATS
    return _checked(name, found, kind, purpose)


def of_array(name: str, stored: Any) -> NDArray[Any]:
    """Stored labels as an array of integers, floats, bools or str.

    Raises:
        ValueError: stored bytes are not UTF-8, or stored code points are not Unicode.
        TypeError: a stored object is not text. Messages begin with `name`.
    """
    values: NDArray[Any] = np.asarray(stored)
    if not values.size:  # its dtype is a library's choice
        return np.empty(values.shape, np.int64)
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} has bytes that are not UTF-8: {error}") from error
    if values.dtype.kind == "U":
        _check_code_points(name, values)
    if values.dtype.kind in "TO":
        values = values.astype(object)
        other = next((v for v in values.ravel() if not isinstance(v, str | None)), None)
        if other is not None:
            raise TypeError(_refusal(name, type(other).__name__, IDS))
    return values


def of_arrow(column: Any) -> NDArray[Any]:
    """An Arrow column of labels as an array: of objects if one is missing or they are text."""
    from pyarrow import types

    is_plain = any(
        of(column.type) for of in (types.is_integer, types.is_floating, types.is_boolean)
    )
    if is_plain and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def differ(kinds: Iterable[str | None]) -> bool:
    """Whether the kinds of a column's labels differ, so that it must be read as text."""
    return len({kind for kind in kinds if kind is not None}) > 1


def as_text(labels: Any) -> Any:
    """Ids or groups as text; missing ones stay None."""
    if isinstance(labels, Groups):
        return labels._replace(values=list(map(_text, labels.values)))
    values = np.empty(len(labels), object)
    values[:] = list(map(_text, np.asarray(labels).tolist()))
    return values


def as_integers(values: Sequence[Any]) -> NDArray[Any] | None:
    """Integers as an int64 array, or uint64 if they need it; None if they are not all integers."""
    if not all(type(value) is int for value in values):
        return None
    low, high = min(values, default=0), max(values, default=0)
    if low >= -(2**63) and high < 2**63:
        return np.array(values, np.int64)
    return np.array(values, np.uint64) if low >= 0 and high < 2**64 else None


def as_column(values: Any) -> NDArray[Any]:
    """Values of any kind of array or list as a NumPy array; text as objects."""
    if is_array(values) and not isinstance(values, np.ndarray):
        is_tensor = isinstance(values, torch.Tensor) or not hasattr(values, "__array__")
        values = as_tensor(values, "column").cpu().numpy() if is_tensor else np.asarray(values)
    if isinstance(values, np.ndarray) and values.dtype.kind not in "UTO":
        return values
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    return joined([_objects(plain)])


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Columns one after the other as one: of floats, bools or integers if all are, else objects.

    Integers become int64, or uint64 if they need it. Text is objects.
    """
    dtypes = {part.dtype for part in parts}
    if len(dtypes) == 1 and dtypes.pop().kind in "fb":
        return np.concatenate(parts)
    values = [value for part in parts for value in part.tolist()]
    integers = as_integers(values)
    if integers is not None:
        return integers
    types = {type(value) for value in values}
    if types in ({float}, {bool}):
        return np.array(values)
    return _objects(values)


def of_memory(name: str, values: Any, n: int, purpose: str) -> NDArray[Any]:
    """Labels in memory, one for each of n rows, as a column.

    Args:
        name: the argument, for errors.
        values: an array of any kind, or a list.
        n: the number of rows.
        purpose: `IDS` or `CARRIED`.

    Raises:
        TypeError: the values are neither, or no such labels.
        ValueError: there are not n.
    """
    if not (is_array(values) or isinstance(values, (list, tuple))):
        raise TypeError(f"{name}: wanted an array or a list, got {type(values).__name__}")
    column = as_column(values)
    if column.shape != (n,):
        raise ValueError(f"{name}: wanted one value for each of {n} rows, got {column.shape}")
    if column.dtype.kind == "S":
        column = as_column([value.decode() for value in column.tolist()])
    if column.dtype.kind in "iuf":  # Arrow has no other byte order, and no larger floats
        column = column.astype(f"={column.dtype.kind}{min(column.dtype.itemsize, 8)}")
    if column.dtype != object:
        _checked(name, _KINDS.get(column.dtype.kind), column.dtype, purpose)
        return column
    for value in column.tolist():
        if value is not None:
            _checked(name, _TYPES.get(type(value)), type(value).__name__, purpose)
    return column


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _dtype_kind(dtype: Any) -> str:
    """NumPy's `dtype.kind`, also for torch dtypes; "?" for dtypes that are not of labels."""
    if isinstance(dtype, torch.dtype):
        if dtype.is_complex or dtype == torch.bfloat16:
            return "?"
        return "f" if dtype.is_floating_point else "b" if dtype == torch.bool else "i"
    metadata = dtype.metadata or {}
    if "stands for" in metadata:  # the bits of bfloat16
        return "?"
    if dtype.kind == "O" and metadata and metadata.get("vlen") not in (str, bytes):
        return "?"  # lists or references of HDF5
    return str(dtype.kind)


def _checked(name: str, found: str | None, kind: Any, purpose: str) -> str:
    if found is None or found not in _WANTED[purpose]:
        raise TypeError(_refusal(name, kind, purpose))
    return found


def _refusal(name: str, kind: Any, purpose: str) -> str:
    *most, last = _WANTED[purpose]
    wanted = f"{', '.join(most)} or {last} as {purpose}"
    return f"{name}: wanted {wanted}, got {kind}; cast it to one of these"


def _check_code_points(name: str, values: NDArray[Any]) -> None:
    """ValueError if text has invalid code points, which NumPy accepts but no output format can."""
    codes = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
    codes = codes.view(np.uint32)
    first, last = _SURROGATES
    if codes.size and (
        codes.max() > _LAST_CODE_POINT or ((codes >= first) & (codes <= last)).any()
    ):
        raise ValueError(f"{name} has invalid Unicode code points: its file is damaged")
