"""A pass over a pool that workers read in shards; this process merges what they find."""

import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from fastal.base.errors import InvalidRows
from fastal.base.reducer import Reducer
from fastal.distributed.in_order import Readers, in_order
from fastal.distributed.shard_reader import Found, Task
from fastal.distributed.shards import Shard, shards_of
from fastal.pipeline.drive import Step
from fastal.sources import Skipped, Source
from fastal.sources.reader import FileChangedError

_log = logging.getLogger("fastal")
_TRIES = 3  # of a shard that fails: what fails once, such as a network, may work
_CERTAIN = InvalidRows, FileChangedError, TypeError  # errors that another try cannot change


class DividedPass:
    """A pass over the pool: its shards are read by workers, and merged in row order.

    So the state is at any time that of the rows before a certain one, as in one process.

    Args:
        workers: read the shards with parts of the reducer.
        reducer: merges the parts.
        source: the pool.
        chunk_rows: the most rows per chunk.
    """

    def __init__(
        self, workers: Readers, reducer: Reducer[Any], source: Source, chunk_rows: int
    ) -> None:
        self._workers = workers
        self._reducer: Any = reducer
        self._source = source
        self._chunk_rows = chunk_rows
        self._logged: set[str] = set()

    def steps(self, start: int) -> Iterator[Step]:
        """Merges the rows from `start` on. Yields a step for each shard; without rows, to wait."""
        reducer, source = self._reducer, self._source
        part = reducer.part()
        part.row_filter = None  # the workers have it
        self._workers.begin(part)
        row = start
        # Formats that are decoded may have other chunks if they are read from the middle on.
        has_whole_files = reducer.chunks_matter and not source.in_place
        shards = shards_of(
            source, self._chunk_rows, self._workers.n, start, has_whole_files=has_whole_files
        )
        for settled in in_order(
            self._workers, shards, self._task, is_settled=self._is_settled, is_stale=self._is_stale
        ):
            if settled is None:
                yield Step(row, 0, 0)
                continue
            task, found, state = settled
            for level, message in found.messages:
                if message not in self._logged:
                    self._logged.add(message)
                    _log.log(level, "%s", message)
            if found.error is not None:
                raise found.error
            source.skipped = _joined(source.skipped, found.skipped)
            read = reducer.part()
            read.load_state_dict(state)
            reducer.merge(read)
            row = task.shard.stop
            yield Step(row, found.rows, found.n_bytes)

    def _task(self, shard: Shard) -> Task:
        context = self._reducer.context_for(*shard)
        return Task(shard, self._chunk_rows, list(self._source.skipped), context)

    def _is_settled(self, task: Task, found: Found, n_tries: int) -> bool:
        """Whether a shard need not be read again."""
        if n_tries >= _TRIES or isinstance(found.error, _CERTAIN):
            return True
        return found.error is None and len(found.skipped) == len(task.skipped)

    def _is_stale(self, task: Task) -> bool:
        """Whether a file of the shard was found to be bad in an earlier shard."""
        new = {skipped.file for skipped in self._source.skipped}
        new -= {skipped.file for skipped in task.skipped}
        return bool(new) and not new.isdisjoint(_files_of(self._source, task.shard))


def _files_of(source: Source, shard: Shard) -> set[str]:
    """The names of the files that have rows of a shard; of items, of all files."""
    readers, bounds = getattr(source, "files", ()), getattr(source, "chunk_bounds", ())
    if len(bounds) != len(readers) + 1:
        return {str(reader.file) for reader in readers}
    return {
        str(reader.file)
        for reader, (start, stop) in zip(readers, pairwise(bounds), strict=True)
        if start < shard.stop and shard.start < stop
    }


def _joined(skipped: list[Skipped], more: list[Skipped]) -> list[Skipped]:
    """The skipped files of both, each as it was reported first."""
    joined = {of_file.file: of_file for of_file in skipped}
    for of_file in more:
        joined.setdefault(of_file.file, of_file)
    return list(joined.values())
