"""What ids and groups may be, whatever the format: integers of 64 bits at most, or text.

Both may be missing (None) where the format has nulls. Groups may be bools as well. Everything else
is refused when the file is opened: floats, which may be NaN or rounded; bytes; times; decimals;
UUIDs; lists. Columns whose files differ are text in all of them.
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
        dtype: NumPy's or torch's.
        are_groups: which may be bools.

    Raises:
        TypeError: it holds no labels.
    """
    found = _KINDS.get(_character(dtype))
    return _checked(name, found, dtype, are_groups)


def kind_of_arrow(name: str, kind: Any, *, are_groups: bool) -> str | None:
    """The kind of labels that an Arrow column of a type holds; None: all are missing.

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
    """Labels as integers, bools or str, whatever they are stored as.

    Raises:
        ValueError: what is stored as text is none; the message begins with `name`.
    """
    values: NDArray[Any] = np.asarray(stored)
    if not values.size:  # of a dtype that a library chose
        return np.empty(values.shape, np.int64)
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} has bytes that are no UTF-8 text: {error}") from error
    if values.dtype.kind == "U":
        _check_code_points(name, values)
    if values.dtype.kind in "TO":
        values = values.astype(object)
        other = next((v for v in values.ravel() if not isinstance(v, str | None)), None)
        if other is not None:
            raise TypeError(_refusal(name, type(other).__name__, are_groups=False))
    return values


def of_arrow(column: Any) -> NDArray[Any]:
    """An Arrow column of labels: integers as such where none is missing, else as Python has it."""
    from pyarrow import types

    if types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def differ(kinds: Iterable[str | None]) -> bool:
    """Whether columns of such kinds are text only together."""
    return len({kind for kind in kinds if kind is not None}) > 1


def as_text(labels: Any) -> Any:
    """Ids or groups as text, but for those that are missing."""
    if isinstance(labels, Groups):
        return labels._replace(values=list(map(_text, labels.values)))
    values = np.empty(len(labels), object)
    values[:] = list(map(_text, np.asarray(labels).tolist()))
    return values


def as_integers(values: Sequence[Any]) -> NDArray[Any] | None:
    """Integers as an array of 64 bits, signed where all of them fit; None: they are none."""
    if not all(type(value) is int for value in values):
        return None
    low, high = min(values, default=0), max(values, default=0)
    if low >= -(2**63) and high < 2**63:
        return np.array(values, np.int64)
    return np.array(values, np.uint64) if low >= 0 and high < 2**64 else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _character(dtype: Any) -> str:
    """NumPy's character for a kind of dtype; "?" for what is no label."""
    if isinstance(dtype, torch.dtype):
        is_number = dtype.is_floating_point or dtype.is_complex
        return "?" if is_number else "b" if dtype == torch.bool else "i"
    metadata = dtype.metadata or {}
    if "stands for" in metadata:  # bits of floats
        return "?"
    if dtype.kind == "O" and metadata and metadata.get("vlen") not in (str, bytes):
        return "?"  # what HDF5 has: lists, references
    return str(dtype.kind)


def _checked(name: str, found: str | None, kind: Any, are_groups: bool) -> str:
    if found is None or (found == BOOLS and not are_groups):
        raise TypeError(_refusal(name, kind, are_groups=are_groups))
    return found


def _refusal(name: str, kind: Any, *, are_groups: bool) -> str:
    wanted = "integers, bools or text as groups" if are_groups else "integers or text as ids"
    return f"{name}: wanted {wanted}, got {kind}; cast it to one of these"


def _check_code_points(name: str, values: NDArray[Any]) -> None:
    """NumPy keeps whatever numbers a file has; no output can."""
    codes = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
    codes = codes.view(np.uint32)
    first, last = _SURROGATES
    if codes.size and (
        codes.max() > _LAST_CODE_POINT or ((codes >= first) & (codes <= last)).any()
    ):
        raise ValueError(f"{name} has code points that are none: its file is damaged")
