"""Reads shards of a pool on a worker."""

import logging
import os
import pickle
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch

from fastal.base.row_filter import RowFilter
from fastal.base.row_values import RowValues
from fastal.distributed.shards import Shard
from fastal.ops import instruction_set
from fastal.pipeline.drive import read_here
from fastal.sources import Skipped, Source
from fastal.version import __version__

_log = logging.getLogger("fastal")


class Task(NamedTuple):
    """What to read, and what is known beforehand.

    Attributes:
        shard: the rows.
        chunk_rows: the most rows per chunk.
        skipped: the files that are skipped so far.
        row_values: `Reducer.row_values` of the rows; None: the reducer has none.
        threshold: `Reducer.threshold` after the shards that are merged; None: unknown.
    """

    shard: Shard
    chunk_rows: int
    skipped: list[Skipped]
    row_values: RowValues | None
    threshold: Any


class Found(NamedTuple):
    """What a worker found in a shard, without the state.

    Attributes:
        rows: how many rows were read.
        n_bytes: their bytes.
        skipped: the files that are skipped after the shard was read.
        messages: what was logged: levels and messages.
        error: what the reducer or the source raised; None: nothing.
    """

    rows: int
    n_bytes: int
    skipped: list[Skipped]
    messages: list[tuple[int, str]]
    error: Exception | None


def machine_facts() -> dict[str, Any]:
    """The name of this machine, and what the last bits of scores may depend on."""
    gpus = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    return {
        "machine": platform.node(),
        "fastal": __version__,
        "torch": torch.__version__,
        "instructions": instruction_set(),
        "GPUs": sorted(gpus),
    }


class ShardReader:
    """Reads shards of a pool with parts of a reducer.

    Args:
        source: the pool.
        row_filter: which of its rows the reducer reads; None: all.
        folder: the working directory of the driver, for paths that are relative.
    """

    def __init__(self, source: Source, row_filter: RowFilter | None, folder: str) -> None:
        with suppress(OSError):  # of another machine: absolute paths need none
            os.chdir(folder)
        self._source = source
        self._row_filter = row_filter
        self._given: Any = None
        self._part: Any = None

    def describe(self) -> dict[str, Any]:
        """See `machine_facts`."""
        return machine_facts()

    def read(self, given: list[Any], task: Task) -> tuple[Found, bytes]:
        """Reads a shard. Returns what was found, and the pickled state of a part that has read it.

        Args:
            given: Ray's reference to a pickled part that has read no rows; one for each pass.
            task: what to read.
        """
        rows = n_bytes = 0
        state = failure = None
        self._source.skipped = list(task.skipped)
        with _logged() as messages:
            try:
                part = self._new_part(given)
                part.row_filter = self._row_filter
                if task.row_values is not None:
                    part.row_values = task.row_values
                if task.threshold is not None:
                    part.threshold = task.threshold
                for step in read_here(part, self._source, task.chunk_rows, *task.shard):
                    rows += step.rows
                    n_bytes += step.n_bytes
                state = part.state_dict()
            except Exception as error:
                failure = _portable(error)
        return Found(rows, n_bytes, list(self._source.skipped), messages, failure), pickle.dumps(
            state
        )

    def _new_part(self, given: list[Any]) -> Any:
        if given != self._given:
            self._given, self._part = given, pickle.loads(self._fetched(given[0]))
        return self._part.part()

    def _fetched(self, reference: Any) -> bytes:
        """What Ray holds under a reference."""
        import ray

        found: bytes = ray.get(reference)
        return found


def _portable(error: Exception) -> Exception:
    """The error, or one with its message if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        for kind in (TypeError, OSError, ValueError):
            if isinstance(error, kind):
                return kind(str(error))
        return RuntimeError(str(error))
    return error


@contextmanager
def _logged() -> Iterator[list[tuple[int, str]]]:
    """Collects what fastal logs in the block."""
    messages: list[tuple[int, str]] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append((record.levelno, record.getMessage()))

    handler = Collector(logging.WARNING)
    _log.addHandler(handler)
    try:
        yield messages
    finally:
        _log.removeHandler(handler)
