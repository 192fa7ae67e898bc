"""Runs reducers on a Ray cluster: workers read shards of the pool, this process merges them."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastal.base.checks import checked_count
from fastal.base.errors import Interrupted, InvalidRows
from fastal.base.reducer import Reducer
from fastal.distributed.in_order import in_order
from fastal.distributed.shard_reader import Found, Task
from fastal.distributed.shards import Shard, shards_of
from fastal.distributed.workers import Workers
from fastal.pipeline.drive import ReadPass, Step
from fastal.pipeline.progress import Reporter
from fastal.sources import Skipped, Source

_log = logging.getLogger("fastal")
_TRIES = 3  # of a shard that fails
_REACHABLE_SECONDS = 10  # in which the machine of an address answers


@dataclass(frozen=True)
class Ray:
    """The engine that runs strategies on a Ray cluster (extra `ray`).

    Every worker opens the files of the pool itself, so all machines need the same paths, or URLs.
    The results are those of one machine, bit for bit.

    Args:
        address: of the cluster, such as "auto", for the one of this machine, or "head:6379"; None:
            the cluster that this process is connected to, else the one in RAY_ADDRESS, else the one
            that `ray start` has begun on this machine, else a new one here.
        workers: how many processes read shards; None: one for each GPU of the cluster, or, without
            GPUs, as many as its CPUs allow.
        cpus: how many CPUs a worker takes; None: 1 beside a GPU, else 2.

    Raises:
        ValueError, TypeError: a bad argument.

    Example:
        >>> import fastal
        >>> from fastal.distributed import Ray
        >>> fastal.select("preds/", k=1000, engine=Ray("auto", workers=64))  # doctest: +SKIP
    """

    address: str | None = None
    workers: int | None = None
    cpus: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "cpus"):
            if getattr(self, name) is not None:
                checked_count(name, getattr(self, name))

    @contextmanager
    def opened(
        self, reducer: Reducer[Any], source: Source, reporter: Reporter
    ) -> Iterator[ReadPass]:
        """See `fastal.pipeline.engine.Engine.opened`."""
        if reducer.undividable:
            raise ValueError(f"engine: {reducer.undividable}")
        if source.fingerprint() is None or source.n_rows is None:
            raise ValueError(
                "engine: other machines open the pool themselves; wanted files, got a pool in the "
                "memory of this process"
            )
        dashboard = connect(self.address)
        with Workers.started(source, reducer.row_filter, self.workers, self.cpus) as workers:
            workers.report(reporter, dashboard)

            def read(
                reducer: Reducer[Any], source: Source, chunk_rows: int, start: int
            ) -> Iterator[Step]:
                if reducer.undividable:  # a later stage
                    raise ValueError(f"engine: {reducer.undividable}")
                return _Pass(workers, reducer, source, chunk_rows).steps(start)

            yield read


class _Pass:
    """A pass over the pool: its shards are read by workers, and merged in row order.

    So the state is at any time that of the rows before a certain one, as in one process.
    """

    def __init__(
        self, workers: Workers, reducer: Reducer[Any], source: Source, chunk_rows: int
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
        shards = shards_of(source, self._chunk_rows, self._workers.n, start)
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
        values = self._reducer.row_values
        return Task(
            shard, self._chunk_rows, list(self._source.skipped),
            None if values is None else values.part(*shard), self._reducer.threshold,
        )  # fmt: skip

    def _is_settled(self, task: Task, found: Found, n_tries: int) -> bool:
        """Whether a shard need not be read again: what fails once, such as a network, may work."""
        if n_tries >= _TRIES or isinstance(found.error, InvalidRows):
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


def connect(address: str | None) -> str:
    """Connects this process to a Ray cluster, unless it is connected.

    Returns:
        The URL of the cluster's dashboard; empty if it has none.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ValueError: the process is connected to another cluster.
        ConnectionError: there is no cluster at the address.
    """
    # Else Ray writes on standard output, where results go, that a worker has died. This counts if
    # Ray has not been imported yet.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError:
        raise ModuleNotFoundError(
            "engine: 'ray' takes Ray: pip install 'fastal[ray]'", name="ray"
        ) from None
    if ray.is_initialized() and address not in (None, "auto", _address_of(ray)):
        raise ValueError(
            f"address: this process is connected to the Ray cluster at {_address_of(ray)}, wanted "
            f"{address}; ray.shutdown() leaves it"
        )
    if not ray.is_initialized():
        _check_reachable(address)
    with _own_signals():
        try:
            context = ray.init(
                address, ignore_reinit_error=True, logging_level=logging.ERROR, log_to_driver=False
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConnectionError(f"address: {' '.join(str(error).split())}") from error
    return context.dashboard_url or ""


def _check_reachable(address: str | None) -> None:
    """ConnectionError if nothing listens at an address. Ray would try for minutes."""
    if address in (None, "auto"):
        address = os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition(":")
    if "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHABLE_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise ConnectionError(f"address: no Ray cluster at {address}: {reason}") from error


def _address_of(ray: Any) -> str:
    return str(ray.get_runtime_context().gcs_address)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restores the handlers of signals after the block: Ray sets one, which exits on SIGTERM.

    If there was a handler before, as in commands, the run ends as by a signal at other times.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit as ended:
        if not callable(before[signal.SIGTERM]):
            raise
        raise Interrupted(signal.SIGTERM) from ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
