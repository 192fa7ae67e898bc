"""Picks as a table of NumPy columns, and as plain values."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor

if TYPE_CHECKING:
    from fastal.picks.picks import Picks

Table = dict[str, NDArray[Any]]
_LARGEST = 2**53  # beyond it, float64 does not have every integer


def table_of(picks: "Picks") -> Table:
    """The columns row, score, id and group, if the picks have them, then the carried columns."""
    rows, scores = (as_tensor(x, "picks").cpu().numpy() for x in (picks.rows, picks.scores))
    table = {"row": rows, "score": scores, "id": picks.ids, "group": picks.groups}
    return {name: values for name, values in table.items() if values is not None} | picks.columns


def ranked(picks: "Picks") -> Table:
    """The table of picks with the column rank before it, which counts from 1."""
    return {"rank": np.arange(1, len(picks) + 1), **table_of(picks)}


def records(table: Table) -> Iterator[dict[str, Any]]:
    """A dictionary of plain values per pick."""
    for values in zip(*table.values(), strict=True):
        yield dict(zip(table, map(plain, values), strict=True))


def plain(value: Any) -> Any:
    """A plain value; of a float32, the double with the fewest digits that identifies it."""
    if isinstance(value, np.float32):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def with_large_integers_as_text(table: Table) -> Table:
    """The table, with columns as text that have integers which a browser would round."""
    return {name: _as_text(x) if _is_large(x) else x for name, x in table.items()}


def _is_large(values: NDArray[Any]) -> bool:
    """Whether a column has integers beyond float64, which are all the numbers of a browser."""
    if values.dtype.kind not in "iuO":
        return False
    return any(type(value) is int and abs(value) > _LARGEST for value in values.tolist())


def _as_text(values: NDArray[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = [None if value is None else str(value) for value in values.tolist()]
    return found
