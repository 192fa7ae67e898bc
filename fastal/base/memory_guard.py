"""Memory that may vanish while it is read: a mapped file that another program cuts short."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

from torch import Tensor

from fastal.base.arrays import is_array, memory_of
from fastal.base.items import Items


def guarded(x: Tensor) -> AbstractContextManager[Any]:
    """A guard over the memory of `x`; its attribute `broken` says whether pages of it were lost.

    Lost pages read as NaN within the guard; without a guard the process would die. Where the
    native kernels were not compiled, nothing is watched and `broken` stays False.
    """
    from fastal_kernels import native

    return native.guarded(x)


class Guards:
    """The guards over several arrays."""

    def __init__(self, guards: list[Any]) -> None:
        self._guards = guards

    def check(self, name: str = "") -> None:
        """OSError, which begins with `name`, if memory of one of the arrays was lost."""
        if any(guard.broken for guard in self._guards):
            where = f"{name}: " if name else ""
            raise OSError(f"{where}the rows vanished: a mapped file that was cut short?")


@contextmanager
def guarded_arrays(*values: Any) -> Iterator[Guards]:
    """Guards over those of the values that are arrays or items."""
    with ExitStack() as stack:
        guards = []
        for x in values:
            if not (is_array(x) or isinstance(x, Items)):
                continue
            with suppress(TypeError):  # reading the array raises it too, with the argument's name
                guards.append(stack.enter_context(guarded(memory_of(x, "chunk"))))
        yield Guards(guards)
