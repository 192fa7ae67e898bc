"""Labels: ids and groups, in every format integers of at most 64 bits, or text.

Groups may also be bools. A label may be missing (None) if the format has nulls. Everything else is
refused when the file is opened: floats, which may be NaN or rounded; bytes; times; decimals; UUIDs;
lists. If a column holds integers in one file and text in another, it is read as text in all files.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.groups import Groups

INTEGERS, TEXT, BOOLS = "integers", "text", "bools"
_KINDS = {"i": INTEGERS, "u": INTEGERS, "b": BOOLS, "U": TEXT, "S": TEXT, "T": TEXT, "O": TEXT}
_LAST_CODE_POINT, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)


def kind_of_array(name: str, dtype: Any, *, are_groups: bool) -> str:
    """The kind of labels that an array holds.

    Args:
        name: of the file and the array, for errors.
        dtype: a dtype of NumPy or torch.
        are_groups: whether the labels are groups, which may be bools.

    Raises:
        TypeError: the dtype is not one of labels.
    """
    found = _KINDS.get(_dtype_kind(dtype))
    return _checked(name, found, dtype, are_groups)


def kind_of_arrow(name: str, kind: Any, *, are_groups: bool) -> str | None:
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
    return _checked(name, found, kind, are_groups)


def of_array(name: str, stored: Any) -> NDArray[Any]:
    """Stored labels as an array of integers, bools or str.

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
            raise TypeError(_refusal(name, type(other).__name__, are_groups=False))
    return values


def of_arrow(column: Any) -> NDArray[Any]:
    """An Arrow column of labels as an array: of integers if none is missing, else of objects."""
    from pyarrow import types

    if types.is_integer(column.type) and not column.null_count:
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


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _dtype_kind(dtype: Any) -> str:
    """NumPy's `dtype.kind`, also for torch dtypes; "?" for dtypes that are not of labels."""
    if isinstance(dtype, torch.dtype):
        is_number = dtype.is_floating_point or dtype.is_complex
        return "?" if is_number else "b" if dtype == torch.bool else "i"
    metadata = dtype.metadata or {}
    if "stands for" in metadata:  # the bits of bfloat16
        return "?"
    if dtype.kind == "O" and metadata and metadata.get("vlen") not in (str, bytes):
        return "?"  # lists or references of HDF5
    return str(dtype.kind)


def _checked(name: str, found: str | None, kind: Any, are_groups: bool) -> str:
    if found is None or (found == BOOLS and not are_groups):
        raise TypeError(_refusal(name, kind, are_groups=are_groups))
    return found


def _refusal(name: str, kind: Any, *, are_groups: bool) -> str:
    wanted = "integers, bools or text as groups" if are_groups else "integers or text as ids"
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
