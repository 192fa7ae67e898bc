"""The workers of a Ray cluster."""

import logging
import os
import pickle
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastal.base.reducer import Reducer
from fastal.base.row_filter import RowFilter
from fastal.distributed.shard_reader import Found, ShardReader, Task, machine_facts
from fastal.distributed.shards import Shard
from fastal.pipeline.progress import Reporter
from fastal.sources import Source

_log = logging.getLogger("fastal")
_PATIENCE = 60  # seconds until a warning that no worker has started
_SECONDS = 0.2  # between two looks at signals and at progress
_QUEUED = 2  # shards that a worker has at a time: it need not wait for the next
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
        self._deaths: Counter[int] = Counter()  # of workers, by the first row of the shard
        self._n_failed = 0  # workers in a row that did not start
        self._began = time.monotonic()
        self._has_warned = False
        self._resources = resources
        self._part: Any = None

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

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        n_gpus = int(sum(held.get("GPU", 0) for held in machines))
        n_cpus = [int(held.get("CPU", 0)) for held in machines]
        cpus = min(cpus or (1 if n_gpus else 2), max([1, *n_cpus]))
        n = n or n_gpus or max(1, sum(held // cpus for held in n_cpus))
        resources = {"num_cpus": cpus, **({"num_gpus": 1} if n_gpus else {})}
        workers = cls(source, row_filter, n, resources)
        try:
            for _ in range(n):
                workers._start()
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
        self._deaths.clear()

    @property
    def has_room(self) -> bool:
        """Whether a worker can be given a shard."""
        return any(len(given) < _QUEUED for given in self._queued.values())

    def submit(self, place: int, task: Task) -> None:
        """Gives a shard to the worker that has the fewest.

        Args:
            place: the place of the shard.
            task: what to read.
        """
        worker = min(self._queued, key=lambda one: len(self._queued[one]))
        of_shard = worker.read.options(num_returns=2).remote([self._part], task)
        self._queued[worker].append(_Reading(self._ray, place, task.shard, *of_shard))

    def wait(self) -> list["_Reading"]:
        """The shards that were finished, or whose worker died; none after a short time.

        Raises:
            ValueError: the workers are not alike.
            OSError: workers die again and again.
        """
        of = {
            reading.summary: worker for worker in self._queued for reading in self._queued[worker]
        }
        if not self._queued:
            self._warn_if_none_starts()
        waited_for = [*self._starting, *of]
        ready, _ = self._ray.wait(waited_for, timeout=_SECONDS, fetch_local=False)
        if ready:  # and all others that are ready by now
            ready, _ = self._ray.wait(
                waited_for, num_returns=len(waited_for), timeout=0, fetch_local=False
            )
        finished: list[_Reading] = []
        for ref in ready:
            if ref in self._starting:
                self._welcome(ref)
            elif of[ref] in self._queued:  # else it died, and was replaced
                finished += self._finish(of[ref], ref)
        return finished

    def _finish(self, worker: Any, summary: Any) -> list["_Reading"]:
        """What a worker is done with: a shard, or all of its shards if it died."""
        reading = next(one for one in self._queued[worker] if one.summary == summary)
        try:
            reading.found = self._ray.get(summary)
        except self._ray.exceptions.RayTaskError as error:  # it could not even begin
            raise OSError(f"engine: a worker failed: {_in_one_line(error.cause)}") from None
        except self._ray.exceptions.RayError as error:
            return self._replace(worker, error)
        self._queued[worker].remove(reading)
        return [reading]

    def _start(self) -> None:
        worker = self._actor.remote(*self._given)
        self._starting[worker.describe.remote()] = worker

    def _welcome(self, ref: Any) -> None:
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
        if self._description is None:
            self._description = found
            _compare_with_this_machine(found)
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
        start, stop = readings[0].shard  # the one that it was reading
        self._deaths[start] += 1
        if self._deaths[start] == _DEATHS:
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
    """A shard that a worker reads; an `Outcome`.

    Args:
        ray: the module.
        place: the place of the shard.
        shard: the shard.
        summary: Ray's reference to what is found.
        state: Ray's reference to the pickled state of the part.
    """

    def __init__(self, ray: Any, place: int, shard: Shard, summary: Any, state: Any) -> None:
        self.place = place
        self.shard = shard
        self.summary = summary
        self.found: Found | None = None
        self._ray = ray
        self._state = state

    def state(self) -> Any:
        """See `Outcome.state`."""
        try:
            return pickle.loads(self._ray.get(self._state))
        except self._ray.exceptions.RayError as error:  # its machine is gone
            raise LookupError("the state is lost") from error


def _compare_with_this_machine(worker: dict[str, Any]) -> None:
    """Warns if scores of a worker may differ from those of this machine.

    Raises:
        ValueError: the worker has another version of fastal.
    """
    for name, here in machine_facts().items():
        there = worker[name]
        if name == "fastal" and there != here:
            raise ValueError(
                f"engine: wanted fastal {here} on all machines, got {there} on {worker['machine']}"
            )
        if name not in ("fastal", "machine") and there != here:
            _log.warning(
                "engine: %s is %s on the workers, %s on this machine: the last bits of scores may "
                "differ from those of a run here; do not resume a run of one on the other",
                name, there, here,
            )  # fmt: skip


def _in_one_line(error: Exception) -> str:
    """What went wrong in a worker, without the traceback there."""
    return " ".join(str(getattr(error, "cause", None) or error).split())
