"""An iterable of chunks as a pool: a generator over a model's batches, a list of arrays."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.arrays import as_sliceable, is_array
from fastal.sources.source import Chunk, Skipped


class IterableSource:
    """Chunks as they come, whatever their size; a generator can be read once.

    They are asked for by the caller's own thread, when the one before has been dealt with: a model
    may be at work behind them, and knows best how to read ahead.
    """

    n_rows = None
    row_bytes = None
    in_place = False

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks = chunks
        self.skipped: list[Skipped] = []

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:  # noqa: ARG002
        """See `Source.chunks`; the chunks keep the size that they come in, and begin at row 0."""
        first = 0
        for number, given in enumerate(self._chunks):
            if not is_array(given):
                kind = type(given).__name__
                raise TypeError(f"pool: chunk {number} is a {kind}, wanted an array [rows, ...]")
            chunk = as_sliceable(given, f"pool: chunk {number}")
            if not len(chunk.shape):
                raise ValueError(f"pool: chunk {number} is a single number, wanted [rows, ...]")
            yield Chunk(first, chunk)
            first += chunk.shape[0]

    def locate(self, row: int) -> str:  # noqa: ARG002
        """Nothing to add: rows are counted over the chunks."""
        return ""

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source.check`: a mapped file of the caller's own may vanish."""
        if lost:
            raise OSError(f"pool: rows from {start} on vanished: a mapped file that was cut short?")
        return True

    def fingerprint(self) -> None:
        """None: what comes next cannot be told."""

    def ids(self, rows: NDArray[np.int64]) -> None:
        """The chunks have none."""
