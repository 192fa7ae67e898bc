"""Drives a reducer over a source; knows no strategy and no format."""

from collections.abc import Callable
from typing import Any

from fastal.errors import InvalidRows
from fastal.reducer import Reducer, Result
from fastal.sources import Source
from fastal.staging import ALIKE

# Large enough to hide the cost of a call, small enough for steady progress and little memory.
_CHUNK_BYTES = 32 << 20
_LEAST_ROW_BYTES = 32  # what a row counts for at least: rows may be short, and each has scores

OnChunk = Callable[[int, int], None]


def run(
    reducer: Reducer[Result],
    source: Source,
    on_chunk: OnChunk | None = None,
    chunk_bytes: int | None = None,
) -> Result:
    """Feeds every chunk of the source to the reducer and returns its result.

    Args:
        reducer: takes the chunks, each with the number of its first row.
        source: the pool.
        on_chunk: called after each chunk with its rows and bytes.
        chunk_bytes: how much of the pool to look at in one go; None: as much as suits a CPU.

    Raises:
        InvalidRows, ValueError, TypeError: what the reducer or the source found wrong, with the
            file and row where the source has files.
    """
    chunk_rows = max(
        1, (chunk_bytes or _CHUNK_BYTES) // max(source.row_bytes or 0, _LEAST_ROW_BYTES)
    )
    if chunk_rows > ALIKE:
        chunk_rows -= chunk_rows % ALIKE
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
