"""What the pipeline asks of a pool."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Chunk(NamedTuple):
    """Consecutive rows of a pool: the number of the first, an array [n, ...], a label each."""

    start: int
    x: Any
    groups: Any = None


class Skipped(NamedTuple):
    """A file that was left out, from a row of it on: 0 where nothing of it was looked at."""

    file: str
    from_row: int
    reason: str


class SourceWithoutFiles:
    """What sources without files share: rows have no other names than their numbers."""

    on_gpu = False

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []

    def locate(self, row: int) -> str:  # noqa: ARG002
        """Nothing to add to the number."""
        return ""

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source.check`: a mapped file of the caller's own may vanish."""
        if lost:
            raise OSError(f"pool: rows from {start} on vanished: a mapped file that was cut short?")
        return True

    def fingerprint(self) -> None:
        """None: nothing less than all that it holds would tell."""

    def ids(self, rows: NDArray[np.int64]) -> None:
        """There are none."""


@runtime_checkable
class Source(Protocol):
    """A pool as a sequence of chunks, in row order.

    Attributes:
        skipped: the files left out so far.
    """

    skipped: list[Skipped]

    @property
    def n_rows(self) -> int | None:
        """Rows of the pool, None if only reading it tells."""

    @property
    def row_bytes(self) -> int | None:
        """Bytes of a row, None if only reading tells."""

    @property
    def in_place(self) -> bool:
        """Whether chunks are views of memory that is there anyway: large ones then cost nothing."""

    @property
    def on_gpu(self) -> bool:
        """Whether chunks are in the memory of a GPU."""

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:
        """The rows from `start` on, at most `rows` of them a chunk where that can be chosen."""

    def locate(self, row: int) -> str:
        """Where a row is to be found, for messages: file and row in it. Empty if `row` says it."""

    def check(self, start: int, *, lost: bool) -> bool:
        """Whether the chunk from row `start` on, which has been read, is what the pool holds.

        False: it is to be left out.

        Args:
            start: its first row.
            lost: memory of it vanished meanwhile; its rows were NaN.

        Raises:
            ValueError, OSError: what it held was not what the pool holds.
        """

    def fingerprint(self) -> list[Any] | None:
        """What changes whenever the pool does, of plain values; None: that cannot be told."""

    def ids(self, rows: NDArray[np.int64]) -> Any:
        """The ids of these rows as a NumPy array, None if the pool has none."""
