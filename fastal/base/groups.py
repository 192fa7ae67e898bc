"""The groups that rows belong to: labels of any kind in, codes and plain values out."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_tensor, is_array

_MOST_RANGE, _INT64_MAX = 1 << 16, 2**63 - 1
_PLAIN = (bool, int, str, bytes, type(None))


class Groups(NamedTuple):
    """The groups of n rows.

    Attributes:
        codes: [n] integers, the position of each row's group in `values`.
        values: the groups: int, str, bool, bytes or None each. A value without rows is ignored.
    """

    codes: Any
    values: Sequence[Any]


def as_groups(labels: Any, n: int, name: str) -> Groups:
    """The groups of n rows, with codes in int64 and plain Python values of these rows alone.

    Args:
        labels: `Groups`; or n labels, one for each row: a list, a tuple or an array of integers,
            bools, strings, bytes or None.
        n: how many rows there are.
        name: the argument that the labels came in, for errors.

    Raises:
        TypeError: labels of another kind, such as floats, which are no groups.
        ValueError: there are not n labels, or a code is no position in the values.
    """
    if isinstance(labels, Groups):
        return _checked(labels, n, name)
    if is_array(labels):
        array = _as_numpy(labels, name)
        if array.ndim != 1 or array.dtype.kind not in "biuUSO":
            raise TypeError(
                f"{name}: wanted integers or strings, one for each row, got {_kind(array)}"
            )
        if array.dtype.kind in "biu":
            _check_length(array, n, name)
            return _of_integers(array)
        labels = array.tolist()
    if not isinstance(labels, (list, tuple)):
        raise TypeError(f"{name}: wanted an array or a list of labels, got {_kind(labels)}")
    _check_length(labels, n, name)
    return _encoded(labels, name)


def identity(value: Any) -> Hashable:
    """The key of a group in a dictionary: 1 and True are two groups."""
    return type(value), value


def _of_integers(array: NDArray[Any]) -> Groups:
    """The groups of rows whose labels are integers or bools, in ascending order of the labels."""
    low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
    if high - low > _MOST_RANGE or high > _INT64_MAX:
        values, codes = np.unique(array, return_inverse=True)
        return Groups(codes, values.tolist())
    # Sorting would take several copies of the labels.
    codes = array.astype(np.int64)
    codes -= low
    used = np.flatnonzero(np.bincount(codes))
    if len(used) and len(used) <= used[-1]:  # some numbers between them are no labels
        places = np.zeros(used[-1] + 1, np.int64)
        places[used] = np.arange(len(used))
        codes = places[codes]
    return Groups(codes, (used + low).astype(array.dtype).tolist())


def _as_numpy(labels: Any, name: str) -> NDArray[Any]:
    if isinstance(labels, np.ma.MaskedArray):
        raise TypeError(f"{name}: masked arrays are ambiguous here; fill them first")
    if hasattr(labels, "__array__") and not isinstance(labels, Tensor):
        return np.asarray(labels)
    codes = as_tensor(labels, name)
    if codes.is_floating_point() or codes.is_complex():  # NumPy lacks some of these
        raise TypeError(f"{name}: wanted integers or strings, one for each row, got {_kind(codes)}")
    return codes.cpu().numpy()


def _checked(groups: Groups, n: int, name: str) -> Groups:
    codes = _as_numpy(groups.codes, name) if is_array(groups.codes) else np.array(groups.codes)
    if n == 0 == codes.size:  # an empty list has no integers in it
        codes = codes.astype(np.int64)
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise TypeError(f"{name}: wanted integer codes, one for each row, got {_kind(codes)}")
    _check_length(codes, n, name)
    n_values = len(groups.values)
    outside = np.flatnonzero((codes < 0) | (codes >= n_values))
    if len(outside):
        code = codes[outside[0]]
        raise ValueError(f"{name}: code {code} is no position in the {n_values} values")
    codes = codes.astype(np.int64)
    # The values may be those of a whole pool: only the values of these rows are checked.
    used = np.flatnonzero(np.bincount(codes, minlength=n_values))
    places = np.zeros(n_values, np.int64)
    places[used] = np.arange(len(used))
    return Groups(places[codes], [_plain(groups.values[place], name) for place in used.tolist()])


def _encoded(labels: Sequence[Any], name: str) -> Groups:
    codes: dict[tuple[type, Any], int] = {}
    try:
        of_rows = [codes.setdefault((type(label), label), len(codes)) for label in labels]
    except TypeError:  # a label has no hash
        for label in labels:
            _plain(label, name)
        raise
    return Groups(np.array(of_rows, np.int64), [_plain(value, name) for _, value in codes])


def _plain(value: Any, name: str) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if type(plain) not in _PLAIN:
        raise TypeError(
            f"{name}: wanted int, str, bool, bytes or None as a row's group, got {value!r}"
        )
    return plain


def _check_length(labels: Any, n: int, name: str) -> None:
    if len(labels) != n:
        raise ValueError(f"{name}: wanted {n} labels, one for each row, got {len(labels)}")


def _kind(labels: Any) -> str:
    if hasattr(labels, "dtype"):
        return f"{labels.dtype}, shape {tuple(labels.shape)}"
    return type(labels).__name__
