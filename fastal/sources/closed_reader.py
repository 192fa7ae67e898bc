"""A file of a pool that another process reads: its facts travel, and its first use opens it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.location import Location
from fastal.sources.reader import Reader

_log = logging.getLogger("fastal")
_FACTS = ("file", "names", "n_rows", "row_shape", "row_bytes", "in_place", "kinds")


class ClosedReader:
    """A reader that opens its file when it is first used; it can be pickled.

    The files of a pool may be many, and a process that reads a few of them opens these alone.

    Args:
        reader: the open reader, whose attributes it has.
    """

    file: Location
    names: tuple[str, ...] | None
    n_rows: int
    row_shape: tuple[int, ...] | None
    row_bytes: int
    in_place: bool
    kinds: dict[str, str | None]

    def __init__(self, reader: Reader) -> None:
        for name in _FACTS:
            setattr(self, name, getattr(reader, name))
        self.open: Callable[[ClosedReader], Reader] | None = None
        self._reader: Reader | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The facts."""
        return {**vars(self), "open": None, "_reader": None}

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        return self._opened().chunks(rows, start)

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`."""
        return self._opened().take(name, rows)

    def _opened(self) -> Reader:
        if self._reader is None:
            assert self.open is not None
            with _unlogged():  # the process that opened the pool has warned of the file
                self._reader = self.open(self)
        return self._reader


@contextmanager
def _unlogged() -> Iterator[None]:
    """Has this thread log nothing in the block."""
    thread = get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    _log.addFilter(others)
    try:
        yield
    finally:
        _log.removeFilter(others)
