"""Signals that ask a run to end: it ends between two chunks, when its state can be saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastal.errors import Interrupted

_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def raising() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise `Interrupted`."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise Interrupted(number)

    with _handling(stop):
        yield


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

    with _handling(note):
        yield check


@contextmanager
def _handling(handler: _Handler) -> Iterator[None]:
    """Has a function handle the signals, but those that are ignored, as under nohup."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
