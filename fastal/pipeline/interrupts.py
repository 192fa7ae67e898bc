"""Signals that ask a run to end: it ends between two chunks, when its state can be saved."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastal.base.errors import Interrupted

_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def raising() -> Iterator[Callable[[], None]]:
    """Within, SIGINT and SIGTERM raise `Interrupted`, until the function is called: the process
    ends, and its last words are not to be cut short.
    """
    ends = False

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if not ends:
            raise Interrupted(number)

    def end() -> None:
        nonlocal ends
        ends = True

    with _handling(stop, lambda: ends):
        yield end


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """A function that raises `Interrupted` if SIGINT or SIGTERM has come; a second raises at once.

    What comes after that changes nothing: the run ends. Outside of the main thread, which alone
    receives signals, the function does nothing.
    """
    received: list[int] = []
    ends = False

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(number)
        if len(received) == 2 and not ends:
            raise Interrupted(number)

    def check() -> None:
        nonlocal ends
        if received:
            ends = True
            raise Interrupted(received[0])

    with _handling(note):
        yield check


@contextmanager
def exiting(report: Callable[[str], None]) -> Iterator[None]:
    """Within, SIGINT or SIGTERM reports one line and ends the process, with 128 + its number.

    For imports, which leave nothing to save or to clean up. An exception that is raised in an
    import may be swallowed there, or end in a crash of compiled code.
    """

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        report(str(Interrupted(number)))
        os._exit(128 + number)

    with _handling(stop):
        yield


@contextmanager
def _handling(handler: _Handler, ends: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Has a function handle the signals, but those that are ignored, as under nohup.

    Afterwards they are handled as before, or ignored where the process ends.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not of Python's
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_IGN if ends() else previous)
