"""Rows of two tables that are matched by their ids."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources import labels
from fastal.sources.source import Source


def ids_of(pool: Source) -> NDArray[Any] | None:
    """The ids of all rows of a pool; None if it has no ids."""
    if pool.n_rows is None or pool.ids(np.arange(0)) is None:
        return None
    return np.asarray(pool.ids(np.arange(pool.n_rows)))


def places(wanted: NDArray[Any], among: NDArray[Any], name: str, what: str = "id") -> Any:
    """The place of each id among other ids, in any order.

    If one of the two holds integers and the other text, they are compared as text.

    Args:
        wanted: [n] integers or text.
        among: [m] integers or text.
        name: what the other ids belong to, for errors.
        what: what the ids are, for errors.

    Returns:
        [n] int64, from 0 to m - 1.

    Raises:
        ValueError: an id is not among the others, or is there twice; the message names the first.

    Example:
        >>> places(np.array([7, 5]), np.array([5, 6, 7]), "beside")
        array([2, 0])
    """
    wanted, among = _comparable(wanted, among)
    if wanted.dtype == object:
        return _places_of_text(wanted.tolist(), among.tolist(), name, what)
    order = np.argsort(among, kind="stable")
    ascending = among[order]
    again = np.flatnonzero(ascending[1:] == ascending[:-1])
    if len(again):
        raise _twice(ascending[again[order[again + 1].argmin()]], name, what)
    found = np.searchsorted(ascending, wanted)
    is_there = found < len(ascending)
    is_there[is_there] = ascending[found[is_there]] == wanted[is_there]
    if not is_there.all():
        raise _missing(wanted[is_there.argmin()], name, what)
    return order[found]


def _places_of_text(wanted: list[Any], among: list[Any], name: str, what: str) -> Any:
    place_of: dict[Any, int] = {}
    for place, key in enumerate(among):
        if place_of.setdefault(key, place) != place:
            raise _twice(key, name, what)
    found = np.empty(len(wanted), np.int64)
    for row, key in enumerate(wanted):
        if key not in place_of:
            raise _missing(key, name, what)
        found[row] = place_of[key]
    return found


def _comparable(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as integers of one dtype, else both as text; None stays None."""
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        dtype = np.result_type(a, b)
        if dtype.kind != "f":  # NumPy has no integers for both uint64 and int64
            return a.astype(dtype), b.astype(dtype)
    return labels.as_text(a), labels.as_text(b)


def _missing(key: Any, name: str, what: str) -> ValueError:
    return ValueError(f"{name}: has no row with the {what} {_shown(key)}")


def _twice(key: Any, name: str, what: str) -> ValueError:
    return ValueError(f"{name}: has several rows with the {what} {_shown(key)}")


def _shown(key: Any) -> str:
    return repr(key.item() if isinstance(key, np.generic) else key)
