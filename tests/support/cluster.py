"""A stand-in for Ray: its actors run in this process, in an order that a seed decides, and die."""

import logging
import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import cloudpickle

from fastal.distributed import ray_engine, shard_reader
from fastal.distributed.ray_engine import Ray

_log = logging.getLogger("fastal")
MOST_FAULTS = 2  # of what the engine tries three times


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayActorError(RayError):
    """As `ray.exceptions.RayActorError`."""


class RayTaskError(RayError):
    """As `ray.exceptions.RayTaskError`."""


class Network(OSError):
    """What a shard raises that may be read on the second try."""


@dataclass(frozen=True)
class Ref:
    """What stands for a value that is or will be there."""

    number: int


@dataclass
class Faults:
    """What goes wrong, as probabilities.

    Attributes:
        death: a worker dies while it starts, or while it reads a shard.
        error: a shard raises.
        loss: the state of a shard is gone when its turn has come.
    """

    death: float = 0.0
    error: float = 0.0
    loss: float = 0.0


@dataclass
class Cluster:
    """The module `ray`, as far as `fastal.distributed` uses it.

    Whatever travels is pickled and unpickled, as often as Ray does it.

    Args:
        seed: of the order in which calls end, and of the faults.
        faults: what goes wrong.
        cpus: the CPUs that the cluster has.

    Attributes:
        n_deaths: how many workers have died.
        read: the shards that were read, in the order of the reading.
    """

    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    cpus: int = 6

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._refs = map(Ref, count())
        self._values: dict[Ref, Any] = {}  # bytes, or an error
        self._actors: list[_Actor] = []
        self._suffered: dict[Any, int] = {}  # how many faults, by what suffers them
        self.n_deaths = 0
        self.read: list[Any] = []
        self.cloudpickle = cloudpickle
        self.exceptions = SimpleNamespace(
            RayError=RayError, RayActorError=RayActorError, RayTaskError=RayTaskError
        )

    # What `ray` offers.

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(self.cpus)}}]

    def put(self, value):
        return self._kept(cloudpickle.dumps(value))

    def get(self, ref):
        value = self._values[ref]
        if isinstance(value, Exception):
            raise value
        return cloudpickle.loads(value)

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=partial(self._new, kind)))

    def kill(self, actor):
        actor.die("was killed")

    def wait(self, refs, *, num_returns=1, timeout, fetch_local):
        assert not fetch_local
        for _ in range(self._random.randrange(1, 4) if timeout else 0):
            busy = [actor for actor in self._actors if actor.calls]
            if busy:
                self._random.choice(busy).run_next()
        ready = [ref for ref in refs if ref in self._values][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    # What tests use.

    @contextmanager
    def installed(self):
        """The cluster takes the place of Ray, to which this process then is connected."""
        with (
            patch.dict(sys.modules, ray=self),
            patch.object(ray_engine, "connect", lambda address: ""),
        ):
            yield self
        assert not [actor for actor in self._actors if not actor.is_dead], "workers go on"

    # The rest.

    def _kept(self, value):
        ref = next(self._refs)
        self._values[ref] = value
        return ref

    def _new(self, kind, *arguments):
        actor = _Actor(self, kind, arguments)
        self._actors.append(actor)
        return actor

    def suffers(self, fault, what):
        """Whether a fault happens now; not more often than the engine bears."""
        before = self._suffered.get((fault, what), 0)
        is_now = before < MOST_FAULTS and self._random.random() < getattr(self.faults, fault)
        is_counted = is_now or fault != "error"  # errors in a row are counted
        self._suffered[fault, what] = before + is_now if is_counted else 0
        return is_now


class _Actor:
    """A worker: its calls end one after the other."""

    def __init__(self, cluster: Cluster, kind: type, arguments: tuple[Any, ...]) -> None:
        self._cluster = cluster
        self._kind = kind
        self._arguments = arguments
        self._object: Any = None
        self.calls: deque[tuple[str, Any, tuple[Ref, ...]]] = deque()
        self.is_dead = False

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        one = partial(self._asked, name)
        return SimpleNamespace(
            remote=lambda *arguments: one(1, arguments)[0],
            options=lambda num_returns: SimpleNamespace(
                remote=lambda *arguments: one(num_returns, arguments)
            ),
        )

    def _asked(self, name, n, arguments):
        refs = tuple(islice(self._cluster._refs, n))
        self.calls.append((name, cloudpickle.dumps(arguments), refs))
        if self.is_dead:
            self.die("is dead")
        return refs

    def run_next(self):
        cluster, (name, arguments, refs) = self._cluster, self.calls[0]
        arguments = cloudpickle.loads(arguments)
        shard = arguments[1].shard if name == "read" else None
        if cluster.suffers("death", shard):
            cluster.n_deaths += 1
            self.die("died")
            return
        with _apart():
            if self._object is None:
                self._object = self._kind(*map(self._resolved, self._arguments))
            if shard is None:
                found = getattr(self._object, name)(*arguments)
            else:
                cluster.read.append(shard)
                with self._failing(cluster.suffers("error", shard)):
                    found = self._object.read(*arguments)
        self.calls.popleft()
        values = (found,) if len(refs) == 1 else found
        cluster._values |= {
            ref: cloudpickle.dumps(value) for ref, value in zip(refs, values, strict=True)
        }
        if shard is not None and found[0].error is None and cluster.suffers("loss", shard):
            cluster._values[refs[1]] = RayError("the state is gone")

    def _resolved(self, argument):
        return self._cluster.get(argument) if isinstance(argument, Ref) else argument

    @contextmanager
    def _failing(self, fails):
        def reading(*arguments):
            for number, step in enumerate(read_here(*arguments)):
                yield step
                if not number and fails:
                    raise Network("the connection was reset")
            if fails:
                raise Network("the connection was reset")

        read_here = shard_reader.read_here
        with patch.object(shard_reader, "read_here", reading):
            yield

    def die(self, how):
        self.is_dead = True
        for _, _, refs in self.calls:
            self._cluster._values |= dict.fromkeys(refs, RayActorError(f"the worker {how}"))
        self.calls.clear()


@contextmanager
def _apart():
    """The block logs as in another process: no handler of this process gets it."""
    handlers, propagates = _log.handlers, _log.propagate
    _log.handlers, _log.propagate = [], False
    try:
        yield
    finally:
        _log.handlers, _log.propagate = handlers, propagates


@dataclass
class InProcess:
    """The engine `Ray` on a `Cluster`.

    Args:
        workers: how many there are.
        seed: as for `Cluster`.
        faults: as for `Cluster`.

    Attributes:
        cluster: of the last run; None: there was none.
    """

    workers: int = 3
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    cluster: Cluster | None = None

    @contextmanager
    def opened(self, reducer, source, reporter):
        self.cluster = Cluster(self.seed, self.faults)
        with (
            self.cluster.installed(),
            Ray(workers=self.workers).opened(reducer, source, reporter) as read,
        ):
            yield read
