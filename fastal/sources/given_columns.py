"""Ids and carried columns that a caller gives for the rows of a pool in memory."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources import labels


class GivenColumns:
    """Labels of rows, in memory.

    Args:
        n_rows: how many rows there are.
        ids: an id for each row; None if there are none.
        carry: the columns that the picks carry, by name, with a value for each row.

    Raises:
        TypeError: ids or carried values are of another kind, see `labels`.
        ValueError: ids or a column have another length, or an id is there twice.
    """

    def __init__(
        self, n_rows: int, ids: Any = None, carry: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._ids = None if ids is None else labels.of_memory("ids", ids, n_rows, labels.IDS)
        if self._ids is not None:
            _check_unique(self._ids.tolist())
        self._carried = {
            name: labels.of_memory(f"carry: {name!r}", values, n_rows, labels.CARRIED)
            for name, values in carry.items()
        }

    def ids(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """See `Source.ids`."""
        return None if self._ids is None else self._ids[rows]

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See `Source.carried`."""
        return {name: values[rows] for name, values in self._carried.items()}


def _check_unique(ids: list[Any]) -> None:
    """ValueError if an id is there twice: later rounds could not tell its rows apart."""
    seen: set[Any] = set()
    for one in ids:
        if one is not None and one in seen:
            raise ValueError(f"ids: {one!r} is there twice")
        seen.add(one)
