"""The workers of a Ray cluster, and the order in which their results are used."""

import logging
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fastal.base.reducer import Reducer
from fastal.base.row_filter import RowFilter
from fastal.distributed.shard_reader import Found, ShardReader, Task
from fastal.distributed.shards import Shard
from fastal.pipeline.progress import Reporter
from fastal.sources import Source

_log = logging.getLogger("fastal")
_PATIENCE = 30  # seconds until a warning that no worker has started
_SECONDS = 0.2  # between two looks at signals and at progress
_QUEUED = 2  # shards that a worker has at a time: it need not wait for the next
_AHEAD = 4  # shards for each worker that are read before their turn to be merged
_DEATHS = 3  # of workers that read the same shard, or that do not start one after the other


class Workers:
    """Processes on a Ray cluster, each of which reads shards of a pool.

    A worker that dies is replaced, and its shards are read again.

    Args:
        source: the pool.
        row_filter: which of its rows are read.
        n: how many workers there are.
        resources: what Ray reserves for each: `num_cpus`, `num_gpus`.
    """

    def __init__(
        self, source: Source, row_filter: RowFilter | None, n: int, resources: dict[str, int]
    ) -> None:
        import ray

        self.n = n
        self._ray = ray
        self._actor = ray.remote(ShardReader).options(max_restarts=0, **resources)
        self._given = ray.put(source), ray.put(row_filter), os.getcwd()  # noqa: PTH109
        self._starting: dict[Any, Any] = {}  # by what describes it when it has started
        self._queued: dict[Any, list[Any]] = {}  # by worker: what it is to return
        self._description: dict[str, Any] | None = None
        self._n_failed = 0  # workers in a row that did not start
        self._began = time.monotonic()
        self._has_warned = False
        self._resources = resources
        self._part: Any = None
        for _ in range(n):
            self._start()

    @classmethod
    @contextmanager
    def started(
        cls, source: Source, row_filter: RowFilter | None, n: int | None, cpus: int | None
    ) -> Iterator["Workers"]:
        """Workers that end with the block.

        Args:
            source: as for `Workers`.
            row_filter: as for `Workers`.
            n: how many; None: as many as there are GPUs, or as the CPUs allow.
            cpus: how many CPUs each takes; None: 1 beside a GPU, else 2.
        """
        import ray

        held = ray.cluster_resources()
        n_gpus, n_cpus = int(held.get("GPU", 0)), int(held.get("CPU", 1))
        cpus = min(cpus or (1 if n_gpus else 2), max(1, n_cpus))
        n = n or n_gpus or max(1, n_cpus // cpus)
        resources = {"num_cpus": cpus, **({"num_gpus": 1} if n_gpus else {})}
        workers = cls(source, row_filter, n, resources)
        try:
            yield workers
        finally:
            workers.end()

    def end(self) -> None:
        """Ends all workers."""
        for worker in (*self._queued, *self._starting.values()):
            self._ray.kill(worker)

    def report(self, reporter: Reporter, dashboard: str) -> None:
        """Says how many workers and machines there are, and where the dashboard is."""
        n_machines = sum(node["Alive"] for node in self._ray.nodes())
        url = f", dashboard: http://{dashboard}" if dashboard else ""
        line = f"Ray: workers: {self.n}, machines: {n_machines}{url}"
        values = {"workers": self.n, "machines": n_machines, "dashboard": dashboard or None}
        reporter.say(line, "engine", **values)

    def begin(self, part: Reducer[Any]) -> None:
        """Begins a pass.

        Args:
            part: has read no rows. All workers get it.
        """
        # As bytes: arrays that Ray shares between processes cannot be written to.
        self._part = self._ray.put(self._ray.cloudpickle.dumps(part))

    def in_order(
        self,
        shards: Iterable[Shard],
        task_of: Callable[[Shard], Task],
        is_settled: Callable[[Task, Found, int], bool],
        is_stale: Callable[[Task], bool],
    ) -> Iterator[tuple[Task, Found, Any] | None]:
        """What was found in each shard, in the order of the shards, with the state of its part.

        Args:
            shards: what to read.
            task_of: makes the task of a shard, when a worker can read it.
            is_settled: whether what was found counts. If not, the shard is read again. It gets the
                number of tries too.
            is_stale: whether a task has to be made anew when its turn has come.

        Yields:
            The findings of the next shard; None now and then, while they are not there.

        Raises:
            OSError: workers die again and again.
        """
        left = iter(shards)
        held: dict[int, _Reading] = {}  # from the first try until the turn, by place
        again: deque[_Reading] = deque()
        turn, n_begun, is_all = 0, 0, False
        while True:
            while not is_all or again:
                worker = min(self._queued, key=lambda one: len(self._queued[one]), default=None)
                if worker is None or len(self._queued[worker]) == _QUEUED:
                    break
                if again:
                    reading = again.popleft()
                elif n_begun >= turn + _AHEAD * self.n:
                    break
                elif (shard := next(left, None)) is None:
                    is_all = True
                    break
                else:
                    reading = held[n_begun] = _Reading(shard)
                    n_begun += 1
                reading.task = task_of(reading.shard)
                self._submit(reading, worker)
            if is_all and not held:
                return
            again.extend(self._wait(is_settled))
            while turn in held and (found := held[turn].found) is not None:
                reading = held[turn]
                if is_stale(reading.task) or (state := self._state_of(reading)) is None:
                    reading.found = None
                    again.appendleft(reading)
                    break
                del held[turn]
                turn += 1
                yield reading.task, found, state[0]
            yield None

    def _submit(self, reading: "_Reading", worker: Any) -> None:
        reading.summary, reading.state = worker.read.options(num_returns=2).remote(
            [self._part], reading.task
        )
        self._queued[worker].append(reading)

    def _wait(self, is_settled: Callable[[Task, Found, int], bool]) -> Iterator["_Reading"]:
        """Waits for workers. Yields the shards that have to be read again."""
        of = {
            reading.summary: worker for worker in self._queued for reading in self._queued[worker]
        }
        if not of and not self._queued:
            self._warn_if_none_starts()
        ready, _ = self._ray.wait(
            [*self._starting, *of], num_returns=1, timeout=_SECONDS, fetch_local=False
        )
        for ref in ready:
            if ref in self._starting:
                self._started(ref)
                continue
            worker = of[ref]
            reading = next(one for one in self._queued[worker] if one.summary == ref)
            try:
                reading.found = self._ray.get(ref)
            except self._ray.exceptions.RayActorError as error:
                yield from self._replace(worker, error)
                continue
            self._queued[worker].remove(reading)
            reading.n_tries += 1
            if not is_settled(reading.task, reading.found, reading.n_tries):
                reading.found = None
                yield reading

    def _state_of(self, reading: "_Reading") -> tuple[Any] | None:
        """The state of the part that has read a shard; None if its machine is gone."""
        try:
            return (pickle.loads(self._ray.get(reading.state)),)
        except self._ray.exceptions.RayError:
            return None

    def _start(self) -> None:
        worker = self._actor.remote(*self._given)
        self._starting[worker.describe.remote()] = worker

    def _started(self, ref: Any) -> None:
        """Adds a worker that has started, or failed to."""
        worker = self._starting.pop(ref)
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._n_failed += 1
            if self._n_failed == _DEATHS:
                raise OSError(f"engine: workers do not start: {_in_one_line(error)}") from error
            self._start()
            return
        self._n_failed = 0
        self._description = self._description or found
        for name, ours in self._description.items():
            if name != "machine" and found[name] != ours:
                raise ValueError(
                    f"engine: wanted workers alike, since the last bits of scores depend on it: "
                    f"{name} is {ours} on {self._description['machine']}, {found[name]} on "
                    f"{found['machine']}"
                )
        self._queued[worker] = []

    def _replace(self, worker: Any, error: Exception) -> list["_Reading"]:
        """Starts another worker in the place of one that died; returns what it was to read."""
        readings = self._queued.pop(worker)
        readings[0].n_deaths += 1  # the one that it was reading
        if readings[0].n_deaths == _DEATHS:
            start, stop = readings[0].shard
            raise OSError(
                f"engine: {_DEATHS} workers died while they read rows {start} to {stop - 1}: "
                f"{_in_one_line(error)}"
            ) from error
        self._start()
        return readings

    def _warn_if_none_starts(self) -> None:
        if not self._has_warned and time.monotonic() - self._began > _PATIENCE:
            self._has_warned = True
            _log.warning(
                "engine: no worker has started in %d s; each takes %s, and the cluster has %s free",
                _PATIENCE, self._resources, self._ray.available_resources(),
            )  # fmt: skip


class _Reading:
    """A shard that is being read.

    Attributes:
        shard: the shard.
        task: what a worker was asked to do.
        summary: stands for what is found.
        state: stands for the state of the part.
        found: what was found; None: not yet.
        n_tries: how often it was read to its end.
        n_deaths: how many workers died while they read it.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.task: Any = None
        self.summary: Any = None
        self.state: Any = None
        self.found: Found | None = None
        self.n_tries = 0
        self.n_deaths = 0


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
