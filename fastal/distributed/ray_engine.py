"""The engine on a Ray cluster: workers read shards of the pool, this process merges them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastal.base.checks import checked_count
from fastal.base.reducer import Reducer
from fastal.distributed.divided_pass import DividedPass
from fastal.distributed.ray_connection import connect
from fastal.distributed.ray_workers import RayWorkers
from fastal.pipeline.drive import ReadPass, Step
from fastal.pipeline.progress import Reporter
from fastal.sources import Source


@dataclass(frozen=True)
class Ray:
    """The engine that runs strategies on a Ray cluster (extra `ray`).

    Every worker opens the files of the pool itself, so all machines need the same paths, or URLs.
    The results are those of one machine, bit for bit. All workers must have this machine's versions
    of fastal and torch, and its instruction set; otherwise the run stops.

    The workers end with the run. The process stays connected to the cluster until `ray.shutdown()`.

    Args:
        address: of the cluster, such as "head:6379", or "auto" for the one in RAY_ADDRESS or of
            this machine; None: the cluster that this process is connected to, else that of "auto",
            else a new one on this machine.
        workers: how many processes read shards; None: as many as the machines of the cluster have
            room for when the run starts.
        cpus: how many CPUs a worker takes; None: 2, or 1 if no machine has more.
        gpus: how many GPUs a worker takes; None: 1 with backend="triton", else 0, since other
            backends score rows of files on CPUs.

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
    gpus: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.address, str | None):
            raise TypeError(f"address: wanted text, got {type(self.address).__name__}")
        for name, least in (("workers", 1), ("cpus", 1), ("gpus", 0)):
            if getattr(self, name) is not None:
                count = checked_count(name, getattr(self, name), least=least)
                object.__setattr__(self, name, count)  # as frozen dataclasses set it

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
        uses_gpus = reducer.arguments().get("backend") == "triton"
        with RayWorkers.started(
            source, reducer.row_filter, self.workers, self.cpus, self.gpus, uses_gpus=uses_gpus
        ) as workers:
            workers.report(reporter, dashboard)

            def read(
                reducer: Reducer[Any], source: Source, chunk_rows: int, start: int
            ) -> Iterator[Step]:
                if reducer.undividable:  # a later stage
                    raise ValueError(f"engine: {reducer.undividable}")
                return DividedPass(workers, reducer, source, chunk_rows).steps(start)

            yield read
