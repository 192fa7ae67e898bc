"""What the pipeline asks of a pool."""

from collections.abc import Iterator
from typing import Any, Protocol


class Source(Protocol):
    """A pool as a sequence of chunks: arrays of consecutive rows, in row order."""

    @property
    def n_rows(self) -> int | None:
        """Rows of the pool, None if only reading it tells."""

    @property
    def row_bytes(self) -> int | None:
        """Bytes of a row, None if only reading tells."""

    def chunks(self, rows: int) -> Iterator[tuple[int, Any]]:
        """Pairs of first row number and array [n, ...], n at most `rows` where it can be."""

    def locate(self, row: int) -> str:
        """Where a row is to be found, for messages: file and row in it. Empty if `row` says it."""
