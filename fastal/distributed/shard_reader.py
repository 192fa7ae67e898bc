"""Reads shards of a pool on a worker."""

import logging
import os
import pickle
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch

from fastal.base.row_filter import RowFilter
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
        context: what the part has to know; see `Mergeable.context_for`.
    """

    shard: Shard
    chunk_rows: int
    skipped: list[Skipped]
    context: Any


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


def machine_facts() -> dict[str, str | None]:
    """The name of this machine, and what the last bits of scores may depend on."""
    return {
        "machine": platform.node(),
        "version of fastal": __version__,
        "version of torch": torch.__version__.partition("+")[0],
        "instruction set": instruction_set(),
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
        self._reference: Any = None
        self._part: Any = None

    def describe(self, has_gpu: bool) -> dict[str, str | None]:
        """See `machine_facts`; with the name of the GPU, if the worker has one."""
        return machine_facts() | ({"GPU": torch.cuda.get_device_name()} if has_gpu else {})

    def read(self, part: list[Any], task: Task) -> tuple[Found, bytes]:
        """Reads a shard. Returns what was found, and the pickled state of a part that has read it.

        Args:
            part: Ray's reference to a pickled part that has read no rows; one for each pass. It is
                in a list, since Ray would replace a bare reference by what it refers to, each time.
            task: what to read.
        """
        rows = n_bytes = 0
        state = failure = None
        self._source.skipped = list(task.skipped)
        with _logged() as messages:
            try:
                reducer = self._new_part(part[0])
                reducer.row_filter = self._row_filter
                if task.context is not None:
                    reducer.set_context(task.context)
                for step in read_here(reducer, self._source, task.chunk_rows, *task.shard):
                    rows += step.rows
                    n_bytes += step.n_bytes
                state = reducer.state_dict()
            except Exception as error:
                failure = _portable(error)
        return Found(rows, n_bytes, list(self._source.skipped), messages, failure), pickle.dumps(
            state
        )

    def _new_part(self, reference: Any) -> Any:
        if reference != self._reference:
            try:
                self._part = pickle.loads(self._fetched(reference))
            except ImportError as error:
                raise ModuleNotFoundError(f"engine: on {platform.node()}: {error}") from error
            self._reference = reference
        return self._part.part()

    def _fetched(self, reference: Any) -> bytes:
        """What Ray holds under a reference."""
        import ray

        found: bytes = ray.get(reference)
        return found


def _portable(error: Exception) -> Exception:
    """The error, or one with its message if it cannot be sent to another process."""
    from ray import cloudpickle  # as Ray does it: classes of a script travel with it

    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        for kind in (TypeError, OSError, ValueError):
            if isinstance(error, kind):
                return kind(str(error))
        return RuntimeError(str(error))
    return error


@contextmanager
def _logged() -> Iterator[list[tuple[int, str]]]:
    """Collects what fastal logs in the block, and the warnings of other packages."""
    messages: list[tuple[int, str]] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append((record.levelno, record.getMessage()))

    handler = Collector(logging.WARNING)
    _log.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield messages
    finally:
        _log.removeHandler(handler)
        messages += [(logging.WARNING, f"{w.category.__name__}: {w.message}") for w in caught]
