"""Some rows of a pool, gathered: the other rows are not read."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_tensor, converter_for, memory_of
from fastal.base.groups import as_groups
from fastal.base.items import Items
from fastal.base.memory_guard import guarded
from fastal.sources.kept_chunks import KeptChunks
from fastal.sources.source import Chunk, Source, SourceOver, chunks_of

_WHOLE = 1 << 62  # rows of a chunk of mapped memory, of which only chosen rows are read
_KEPT_BYTES = 1 << 26  # the most bytes of rows that stay in memory after a pass


class ChosenRows(SourceOver):
    """A source of some rows, whose numbers are those of the source.

    A chunk has chosen rows of a chunk of the source, copied. If they are few, they stay in memory
    (see `KeptChunks`): strategies of many passes read them from the source once.

    Args:
        source: the pool.
        rows: [m] int64, the row numbers in ascending order.

    Attributes:
        numbers: the argument `rows`.
    """

    in_place = False

    def __init__(self, source: Source, rows: NDArray[np.int64]) -> None:
        super().__init__(source)
        self.numbers = rows
        self._kept = KeptChunks(_KEPT_BYTES)

    @property
    def n_rows(self) -> int:
        """How many rows are chosen."""
        return len(self.numbers)

    def n_before(self, row: int) -> int:
        """How many chosen rows come before a row of the source."""
        return int(np.searchsorted(self.numbers, row))

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yields the chosen rows from row number `start` on; see `Source.chunks`.

        Rows that stayed in memory are in the chunks of the first pass.
        """
        chunks = self._read(rows, start, stop)
        return self._kept.kept_or(chunks, self, is_whole=not start and stop is None)

    def _read(self, rows: int, start: int, stop: int | None) -> Iterator[Chunk]:
        done = self.n_before(start)
        end = len(self.numbers) if stop is None else self.n_before(stop)
        if done == len(self.numbers):  # an empty chunk, whose shape can be checked
            first = next(iter(self._source.chunks(1)), None)
            if first is not None and not start:
                groups = first.groups
                if groups is not None:
                    groups = as_groups(groups, first.x.shape[0], "groups")
                    groups = groups._replace(codes=groups.codes[:0])
                yield first._replace(x=first.x[:0, ...], groups=groups)
        while done < end:
            of_source = _WHOLE if self._source.in_place else rows
            before = done
            for chunk in chunks_of(self._source, of_source, int(self.numbers[done]), stop):
                # Rows before the chunk are in a file that is now skipped.
                done = max(done, self.n_before(chunk.start))
                for gathered in self._gathered(chunk, done, rows):
                    yield gathered
                    done += gathered.x.shape[0]
                of_chunk = chunk.start + chunk.x.shape[0]
                done = max(done, self.n_before(of_chunk))
                if done >= end or self.numbers[done] > of_chunk + of_source:
                    break  # the source begins again at the next chosen row
            if done == before:
                return  # the pool ends before these rows

    def _gathered(self, chunk: Chunk, done: int, most: int) -> Iterator[Chunk]:
        """The chosen rows of a chunk of the source, at most so many at once."""
        last = self.n_before(chunk.start + chunk.x.shape[0])
        groups = None
        if chunk.groups is not None:
            groups = as_groups(chunk.groups, chunk.x.shape[0], "groups")
        for first in range(done, last, most):
            numbers = self.numbers[first : min(last, first + most)]
            places = numbers - chunk.start
            with guarded(memory_of(chunk.x, "pool")) as guard:
                x = _taken(chunk.x, places)
            if not self._source.check(chunk.start, lost=guard.broken):
                return
            of_rows = None if groups is None else groups._replace(codes=groups.codes[places])
            yield Chunk(int(numbers[0]), x, of_rows, numbers)


def _taken(x: Any, places: NDArray[np.int64]) -> Any:
    """The rows of an array at these places, as an array of the same kind."""
    if isinstance(x, Items):
        return x.taken(places)
    if isinstance(x, np.ndarray):
        return x[places]
    tensor: Tensor = as_tensor(x, "pool")
    return converter_for(x)(tensor[torch.from_numpy(places).to(tensor.device)])
