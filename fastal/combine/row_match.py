"""Which row of one pool is which row of another, where both have the same rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.errors import prefixing_errors
from fastal.sources import Source, open_pool
from fastal.sources.beside import check_in_order
from fastal.sources.matching import ids_of, places

_CHUNK_ROWS = 1 << 14


def opened(pool: Any, name: str) -> Source:
    """A pool that can be read again.

    Args:
        pool: any pool that `fastal.select` takes.
        name: the argument that it came in, for errors.

    Raises:
        ValueError, TypeError, OSError: it cannot be opened, or can be read only once.
    """
    if isinstance(pool, Iterator):
        raise ValueError(
            f"{name}: wanted a pool that can be read again, such as a list of arrays or files, "
            f"got {type(pool).__name__}"
        )
    with prefixing_errors(name):
        return open_pool(pool)


def counted(source: Source) -> int:
    """The number of rows of a pool, which is read if it does not know it."""
    if source.n_rows is not None:
        return source.n_rows
    n_rows: int = sum(chunk.x.shape[0] for chunk in source.chunks(_CHUNK_ROWS))
    return n_rows


class RowMatch:
    """Which row of another pool is the same as a row of a pool.

    If both pools have ids, rows with the same id are the same. Else rows with the same number are.

    Args:
        pool: the pool.
        other: the other pool, which has equally many rows.
        name: the argument that the other came in, for errors.
        of: the argument that the pool came in, for errors.

    Raises:
        ValueError: the pools do not have the same rows.
    """

    def __init__(self, pool: Source, other: Source, name: str, of: str) -> None:
        n_rows, n_other = counted(pool), counted(other)
        if n_rows != n_other:
            raise ValueError(f"{name}: wanted {n_rows:,} rows, as {of} has, got {n_other:,}")
        ids, others = ids_of(pool), ids_of(other)
        self._places: NDArray[np.int64] | None = None
        if ids is None or others is None:
            check_in_order(pool, of)
            check_in_order(other, name)
        else:
            self._places = places(ids, others, name)

    def in_other(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row numbers in the other pool of rows [m] of the pool."""
        return rows if self._places is None else self._places[rows]

    def column(self, of_other: NDArray[Any]) -> NDArray[Any]:
        """A column [N] of the other pool in the order of the rows of the pool."""
        return of_other if self._places is None else of_other[self._places]

    def to_other(self, of_pool: NDArray[Any]) -> NDArray[Any]:
        """A column [N] of the pool in the order of the rows of the other pool."""
        if self._places is None:
            return of_pool
        found = np.empty_like(of_pool)
        found[self._places] = of_pool
        return found

    def in_pool(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row numbers in the pool of rows [m] of the other pool."""
        if self._places is None:
            return rows
        return self.to_other(np.arange(len(self._places)))[rows]
