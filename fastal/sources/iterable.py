"""An iterable of chunks as a pool: a generator over a model's batches, a list of arrays."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastal.arrays import as_sliceable, is_array
from fastal.sources.source import Chunk, Unnamed


class IterableSource(Unnamed):
    """Chunks as they come, whatever their size; a generator can be read once.

    They are asked for by the caller's own thread, when the one before has been dealt with: a model
    may be at work behind them, and knows best how to read ahead.
    """

    n_rows = None
    row_bytes = None
    in_place = False

    def __init__(self, chunks: Iterable[Any]) -> None:
        super().__init__()
        self._chunks = chunks

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
