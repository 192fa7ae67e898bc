"""Drives a reducer over a source; knows no strategy and no format."""

from collections.abc import Callable
from typing import Any

from fastal.errors import InvalidRows
from fastal.reducer import Reducer, Result
from fastal.sources import Source

# Large enough to hide the cost of a call, small enough for steady progress and little memory.
_CHUNK_BYTES = 32 << 20
_CHUNK_ROWS = 1 << 20  # rows of few classes are short, and every row has scores

OnChunk = Callable[[int, int], None]


def run(reducer: Reducer[Result], source: Source, on_chunk: OnChunk | None = None) -> Result:
    """Feeds every chunk of the source to the reducer and returns its result.

    Args:
        reducer: takes the chunks, each with the number of its first row.
        source: the pool.
        on_chunk: called after each chunk with its rows and bytes.

    Raises:
        InvalidRows, ValueError, TypeError: what the reducer or the source found wrong, with the
            file and row where the source has files.
    """
    chunk_rows = min(max(1, _CHUNK_BYTES // (source.row_bytes or 1)), _CHUNK_ROWS)
    for start, chunk in source.chunks(chunk_rows):
        try:
            reducer.update(chunk, start)
        except InvalidRows as error:
            raise error.located(source.locate(error.rows[0])) from None
        except (TypeError, ValueError) as error:
            where = source.locate(start)
            if not where or type(error) not in (TypeError, ValueError):
                raise
            raise type(error)(f"{where}: {error}") from error
        if on_chunk is not None:
            on_chunk(*_size(chunk))
    return reducer.result()


def _size(chunk: Any) -> tuple[int, int]:
    return chunk.shape[0], getattr(chunk, "nbytes", 0)
