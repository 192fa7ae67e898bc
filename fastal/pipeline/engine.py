"""Who reads the passes over a pool: this process, or other machines."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from fastal.base.argument_values import ENGINES
from fastal.base.reducer import Reducer
from fastal.pipeline.drive import ReadPass, read_here
from fastal.pipeline.progress import Reporter
from fastal.sources import Source

# The module and the class of the engine; imported when it is asked for.
_RAY = "fastal.distributed.ray_engine", "Ray"


@runtime_checkable
class Engine(Protocol):
    """Reads the passes over a pool."""

    def opened(
        self, reducer: Reducer[Any], source: Source, reporter: Reporter
    ) -> AbstractContextManager[ReadPass]:
        """Opens the engine for one run. Yields the function that reads a pass.

        Args:
            reducer: reads the pool.
            source: the pool.
            reporter: says which machines there are.

        Raises:
            ValueError: the engine cannot run this reducer over this pool.
        """


class Local:
    """Reads every pass in this process."""

    @contextmanager
    def opened(
        self,
        reducer: Reducer[Any],  # noqa: ARG002
        source: Source,  # noqa: ARG002
        reporter: Reporter,  # noqa: ARG002
    ) -> Iterator[ReadPass]:
        """See `Engine.opened`."""
        yield read_here


def engine_for(engine: "str | Engine") -> Engine:
    """The engine with a name, or the engine itself.

    Raises:
        ValueError: no engine has this name.
        TypeError: it is no engine.
    """
    if not isinstance(engine, str):
        if isinstance(engine, Engine) and not isinstance(engine, type):
            return engine
        is_class = isinstance(engine, type)
        what = f"the class {engine.__name__}" if is_class else type(engine).__name__
        raise TypeError(f"engine: wanted {' or '.join(ENGINES)} or an engine, got {what}")
    if engine not in ENGINES:
        raise ValueError(f"engine: wanted {' or '.join(ENGINES)}, got {engine!r}")
    if engine == "local":
        return Local()
    module, name = _RAY
    found: Engine = getattr(import_module(module), name)()
    return found
