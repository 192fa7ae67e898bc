"""Signals that ask a run to end: it ends between two chunks, when its state can be saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastal.errors import Interrupted


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """A function that raises `Interrupted` if SIGINT or SIGTERM has come; a second raises at once.

    Outside of the main thread, which alone receives signals, the function does nothing.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(number)
        if len(received) > 1:
            raise Interrupted(number)

    def check() -> None:
        if received:
            raise Interrupted(received[0])

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
