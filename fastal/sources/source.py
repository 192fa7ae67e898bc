"""The protocol of a pool: what the pipeline needs from every source of rows."""

import hashlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fastal.base.text import as_json


class Chunk(NamedTuple):
    """Rows of a pool.

    Attributes:
        start: the number of the first row, counted over the whole pool.
        x: the rows, an array [n, ...].
        groups: a group label per row; None if the pool has no groups.
        numbers: the number of each row, in ascending order; None: start, start + 1, ...
    """

    start: int
    x: Any
    groups: Any = None
    numbers: NDArray[np.int64] | None = None


class Skipped(NamedTuple):
    """A file of which rows were left out.

    Attributes:
        file: its name.
        from_row: the first row that was left out, counted within the file; 0 if the whole file was.
        reason: what is wrong with the file.
    """

    file: str
    from_row: int
    reason: str


class SourceWithoutFiles:
    """The part of `Source` that all sources without files share: rows are known by number only."""

    on_gpu = False
    beside: "Source | None" = None  # a pool of the same rows; see `open_pool`

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []

    def locate(self, row: int) -> str:  # noqa: ARG002
        """Empty: the row number says everything."""
        return ""

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source.check`. The array may be a map of the caller's own file, which can vanish."""
        if lost:
            raise OSError(f"pool: rows from {start} on vanished: a mapped file that was cut short?")
        return True

    def fingerprint(self) -> None:
        """None: such a pool has no cheap fingerprint, so it cannot be resumed."""

    def ids(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:  # noqa: ARG002
        """None: there are no ids."""
        return None

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """None are carried."""
        return {}


@runtime_checkable
class Source(Protocol):
    """A pool as a sequence of chunks, in row order. `open_pool` makes one.

    A class with these members is a pool of its own kind: `fastal.select` reads it like any other.

    Attributes:
        skipped: the files left out so far, whole or in part.

    Example:
        >>> import numpy as np, fastal
        >>> source = fastal.open_pool(np.zeros((5, 2), np.float32))
        >>> source.n_rows, source.row_bytes
        (5, 8)
        >>> [(chunk.start, chunk.x.shape) for chunk in source.chunks(rows=3)]
        [(0, (3, 2)), (3, (2, 2))]
    """

    skipped: list[Skipped]

    @property
    def n_rows(self) -> int | None:
        """The number of rows; None if it is known only after all of them are read."""

    @property
    def row_bytes(self) -> int | None:
        """Bytes per row; None if they are known only after a row is read."""

    @property
    def in_place(self) -> bool:
        """Whether chunks are views of existing memory, so that large chunks cost no memory."""

    @property
    def on_gpu(self) -> bool:
        """Whether chunks are in the memory of a GPU."""

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yields the rows from `start` on, in order.

        Args:
            rows: the most rows per chunk. A source that cannot choose the size ignores it.
            start: the first row.
            stop: the row after the last one that is needed; None: all rows are. A chunk may hold
                further rows.
        """

    def locate(self, row: int) -> str:
        """The file and the row in that file, for messages; empty if the pool has no files."""

    def check(self, start: int, *, lost: bool) -> bool:
        """Checks, after a chunk was read, that the pool still holds it unchanged.

        Args:
            start: the chunk's first row.
            lost: part of the chunk's mapped memory vanished while it was read, and read as NaN.

        Returns:
            False if the chunk must be discarded, since its file is now skipped.

        Raises:
            ValueError, OSError: the file changed while it was being read.
        """

    def fingerprint(self) -> list[Any] | None:
        """Plain values that change whenever the pool does; None if there are no such values."""

    def ids(self, rows: NDArray[np.int64]) -> Any:
        """The ids of these rows as a NumPy array [n]; None if the pool has no ids."""

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The carried columns of these rows by name, NumPy arrays [n]; empty if there are none.

        Args:
            rows: row numbers, in any order.
        """


class SourceOver:
    """A source over another. All that a subclass does not define is as in the other.

    The members of `Source` are written out: from Python 3.12 on, `isinstance` does not see what
    `__getattr__` returns, which are the members that only some sources have.

    Args:
        source: the other source.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_source":  # `pickle` asks before there is a source
            raise AttributeError(name)
        return getattr(self._source, name)

    @property
    def n_rows(self) -> int | None:
        """See `Source`."""
        return self._source.n_rows

    @property
    def row_bytes(self) -> int | None:
        """See `Source`."""
        return self._source.row_bytes

    @property
    def in_place(self) -> bool:
        """See `Source`."""
        return self._source.in_place

    @property
    def on_gpu(self) -> bool:
        """See `Source`."""
        return self._source.on_gpu

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `Source`."""
        return chunks_of(self._source, rows, start, stop)

    def locate(self, row: int) -> str:
        """See `Source`."""
        return self._source.locate(row)

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source`."""
        return self._source.check(start, lost=lost)

    def fingerprint(self) -> list[Any] | None:
        """See `Source`."""
        return self._source.fingerprint()

    def ids(self, rows: NDArray[np.int64]) -> Any:
        """See `Source`."""
        return self._source.ids(rows)

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See `Source`."""
        return self._source.carried(rows)

    @property
    def skipped(self) -> list[Skipped]:
        """See `Source`."""
        return self._source.skipped

    @skipped.setter
    def skipped(self, skipped: list[Skipped]) -> None:
        self._source.skipped = skipped


def chunks_of(source: Source, rows: int, start: int, stop: int | None) -> Iterator[Chunk]:
    """The chunks of a source; see `Source.chunks`.

    A class of somebody else, whose `chunks` has no `stop`, is not asked to stop early.
    """
    if stop is None or "stop" not in inspect.signature(source.chunks).parameters:
        return source.chunks(rows, start)
    return source.chunks(rows, start, stop)


def fingerprint_digest(source: Source) -> str | None:
    """A digest of a pool's files, by which a later run recognises them; None if there are none.

    It is of the last part of the fingerprint: which columns are read does not matter.
    """
    fingerprint = source.fingerprint()
    if not fingerprint:
        return None
    return hashlib.sha256(as_json(fingerprint[-1]).encode()).hexdigest()[:16]
