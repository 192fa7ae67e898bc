"""The workers of a Ray cluster."""

import logging
import os
import pickle
import time
from collections import Counter
from collections.abc import Iterator, Mapping
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
_CPUS = 2  # of a worker
_QUEUED = 2  # shards that a worker has at a time: it need not wait for the next
_DEATHS = 3  # of workers that read the same shard, or that do not start one after the other


class RayWorkers:
    """Processes on a Ray cluster, each of which reads shards of a pool.

    A worker that dies is replaced, and its shards are read again.

    Args:
        source: the pool.
        row_filter: which of its rows are read.
        n: how many workers there are.
        cpus: how many CPUs each takes.
        gpus: how many GPUs each takes.
    """

    def __init__(
        self, source: Source, row_filter: RowFilter | None, n: int, cpus: int, gpus: int
    ) -> None:
        import ray

        self.n = n
        self._ray = ray
        self._resources = {"num_cpus": cpus, "num_gpus": gpus}
        self._actor = ray.remote(ShardReader).options(max_restarts=0, **self._resources)
        self._arguments = ray.put(source), ray.put(row_filter), _folder()
        self._starting: dict[Any, Any] = {}  # by what describes it when it has started
        self._queued: dict[Any, list[_Reading]] = {}  # by worker: what it is to return
        # Versions and instructions are to be those of this machine; GPUs those of the first worker.
        facts = machine_facts()
        here = f"{facts.pop('machine')}, this machine"
        self._wanted = {name: (fact, here) for name, fact in facts.items()}
        self._tried: dict[int, Any] = {}  # by the place of a shard: the worker of its last try
        self._deaths: Counter[int] = Counter()  # of workers, by the first row of the shard
        self._n_failed = 0  # workers in a row that did not start
        self._waiting_since: float | None = None  # for workers; None: a warning has been given
        self._part: Any = None

    @classmethod
    @contextmanager
    def started(
        cls,
        source: Source,
        row_filter: RowFilter | None,
        n: int | None,
        cpus: int | None,
        gpus: int | None,
        *,
        uses_gpus: bool,
    ) -> Iterator["RayWorkers"]:
        """Workers that end with the block.

        Args:
            source: as for `RayWorkers`.
            row_filter: as for `RayWorkers`.
            n: how many; None: as many as the machines have room for.
            cpus: how many CPUs each takes; None: 2, or 1 if no machine has more.
            gpus: how many GPUs each takes; None: 1 if they use GPUs and there are any, else 0.
            uses_gpus: whether they score on GPUs.
        """
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if gpus is None:
            gpus = int(uses_gpus and any(held.get("GPU", 0) >= 1 for held in machines))
        if cpus is None:
            cpus = min(_CPUS, max([1, *(int(held.get("CPU", 0)) for held in machines)]))
        if n is None:
            room = [
                min(
                    held.get(name, 0) // each
                    for name, each in (("CPU", cpus), ("GPU", gpus))
                    if each
                )
                for held in machines
            ]
            n = max(1, int(sum(room)))
        workers = cls(source, row_filter, n, cpus, gpus)
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
        try:
            pickled = self._ray.cloudpickle.dumps(part)
        except Exception as error:  # of whatever the caller's own objects raise
            raise TypeError(f"engine: the strategy cannot be sent to workers: {error}") from error
        self._part = self._ray.put(pickled)
        self._deaths.clear()
        self._tried.clear()

    @property
    def has_room(self) -> bool:
        """Whether a worker can be given a shard."""
        return any(len(given) < _QUEUED for given in self._queued.values())

    def submit(self, place: int, task: Task) -> None:
        """Gives a shard to the worker that has the fewest, or to another than at the last try.

        A machine that fails at once, as without a mount, would otherwise get all tries.

        Args:
            place: the place of the shard.
            task: what to read.
        """
        others = [worker for worker in self._queued if worker != self._tried.get(place)]
        worker = min(others or self._queued, key=lambda one: len(self._queued[one]))
        self._tried[place] = worker
        of_shard = worker.read.options(num_returns=2).remote([self._part], task)
        self._queued[worker].append(_Reading(self._ray, place, task.shard, *of_shard))

    def wait(self, seconds: float) -> list["_Reading"]:
        """The shards that were finished, or whose worker died; none if none was in the time.

        Args:
            seconds: the most to wait.

        Raises:
            ValueError: the workers are not alike.
            OSError: workers die again and again.
        """
        self._warn_of_missing_workers()
        of = {
            reading.summary: worker for worker in self._queued for reading in self._queued[worker]
        }
        waited_for = [*self._starting, *of]
        if not waited_for:
            return []
        ready, _ = self._ray.wait(waited_for, timeout=seconds, fetch_local=False)
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
        worker = self._actor.remote(*self._arguments)
        self._starting[worker.describe.remote(bool(self._resources["num_gpus"]))] = worker
        self._waiting_since = time.monotonic()

    def _welcome(self, ref: Any) -> None:
        """Adds a worker that has started, or failed to."""
        worker = self._starting.pop(ref)
        try:
            facts = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._n_failed += 1
            if self._n_failed == _DEATHS:
                raise OSError(f"engine: workers do not start: {_in_one_line(error)}") from error
            self._start()
            return
        self._n_failed = 0
        machine = facts.pop("machine")
        for name, fact in facts.items():
            wanted, of = self._wanted.setdefault(name, (fact, machine))
            if fact != wanted:
                raise ValueError(
                    f"engine: all machines must have the same {name}: it is {wanted} on {of}, "
                    f"{fact} on {machine}; the last bits of scores depend on it"
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

    def _warn_of_missing_workers(self) -> None:
        """Warns if workers have not started for a while, as on a cluster that is full."""
        since = self._waiting_since
        if self._starting and since is not None and time.monotonic() - since > _PATIENCE:
            self._waiting_since = None
            _log.warning(
                "engine: %d of %d workers have not started in %d s; each takes %s, and the cluster "
                "has %s free", len(self._starting), self.n, _PATIENCE,
                _listed(self._resources), _listed(self._ray.available_resources()),
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
        except self._ray.exceptions.RayError as error:  # such as if its machine is gone
            raise LookupError(_in_one_line(error)) from error


def _folder() -> str:
    """The working directory; empty if it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return ""


def _listed(resources: Mapping[str, float]) -> str:
    """The CPUs and GPUs of resources, as Ray names them: num_cpus of an actor, CPU of a cluster."""
    cpus, gpus = (
        resources.get(name, resources.get(f"num_{name.lower()}s", 0)) for name in ("CPU", "GPU")
    )
    return f"{cpus:g} CPUs and {gpus:g} GPUs"


def _in_one_line(error: Exception) -> str:
    """What went wrong in a worker, without the traceback there."""
    return " ".join(str(getattr(error, "cause", None) or error).split())
