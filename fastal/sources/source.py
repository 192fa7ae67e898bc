"""What the pipeline asks of a pool."""

from collections.abc import Iterator
from typing import Any, Protocol


class Source(Protocol):
    """A pool as a sequence of chunks: arrays of consecutive rows, in row order.

    Attributes:
        n_rows: rows of the pool, None if only reading it tells.
        row_bytes: bytes of a row, None if only reading tells.
    """

    n_rows: int | None
    row_bytes: int | None

    def chunks(self, rows: int) -> Iterator[tuple[int, Any]]:
        """Pairs of first row number and array [n, ...], n at most `rows` where it can be."""

    def locate(self, row: int) -> str:
        """Where a row is to be found, for messages: file and row in it. Empty if `row` says it."""
