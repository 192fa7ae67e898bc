"""An iterable of chunks as a pool: a generator over a model's batches, a list of arrays."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastal.arrays import as_sliceable, is_array


class IterableSource:
    """Chunks as they come, whatever their size; a generator can be read once."""

    n_rows = None
    row_bytes = None

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks = chunks

    def chunks(self, rows: int) -> Iterator[tuple[int, Any]]:  # noqa: ARG002
        """See `Source.chunks`; the chunks keep the size that they come in."""
        start = 0
        for number, given in enumerate(self._chunks):
            if not is_array(given):
                kind = type(given).__name__
                raise TypeError(f"pool: chunk {number} is a {kind}, wanted an array [rows, ...]")
            chunk = as_sliceable(given, f"pool: chunk {number}")
            if not len(chunk.shape):
                raise ValueError(f"pool: chunk {number} is a single number, wanted [rows, ...]")
            yield start, chunk
            start += chunk.shape[0]

    def locate(self, row: int) -> str:  # noqa: ARG002
        """Nothing to add: rows are counted over the chunks."""
        return ""
