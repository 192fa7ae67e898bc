"""The chunks of a pool that stay in memory after its first pass."""

from collections.abc import Iterable, Iterator

from fastal.base.arrays import memory_of
from fastal.sources.source import Chunk, Source


class KeptChunks:
    """The chunks of a whole pass, from which later passes are read.

    Nothing is kept of a pass in which a file was skipped, of one that was left early, of one over
    part of the rows, or if the rows take more memory than is allowed.

    Args:
        memory_bytes: the most bytes of rows that are kept.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._kept: list[Chunk] | None = None

    def kept_or(
        self, chunks: Iterable[Chunk], source: Source, *, is_whole: bool
    ) -> Iterator[Chunk]:
        """Yields the chunks that are kept; if there are none, others, which it then keeps.

        Args:
            chunks: the chunks of a new pass, whose arrays own their memory.
            source: the source of the pass, which knows the skipped files.
            is_whole: whether the pass is of all rows.
        """
        if self._kept is not None and is_whole:
            yield from self._kept
            return
        found: list[Chunk] = []
        n_bytes, skipped = 0, list(source.skipped)
        for chunk in chunks:
            n_bytes += memory_of(chunk.x, "pool").nbytes
            if n_bytes <= self._memory_bytes:
                found.append(chunk)
            else:
                found = []
            yield chunk
        if is_whole and n_bytes <= self._memory_bytes and source.skipped == skipped:
            self._kept = found
