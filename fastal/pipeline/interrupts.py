"""Signals that ask a run to end. It ends between two chunks, so that its state can be saved."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastal.base.errors import Interrupted

_AGAIN = 0.01  # seconds until a signal is sent again, after Python swallowed what it raised
_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def raising() -> Iterator[None]:
    """In the block, SIGINT and SIGTERM raise `Interrupted`.

    Once `Interrupted` is on its way, further signals are ignored, and they stay so after the block:
    the process is about to end, and they must not interrupt its last output. A signal may arrive in
    the first or last steps of the block itself, so the caller catches `Interrupted` around it.
    """
    ends = False

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        error = sys.exc_info()[1]
        while error is not None and not isinstance(error, Interrupted):
            error = error.__context__  # it may be an error of what cleans up
        if not (ends or error):
            raise Interrupted(number)

    with _handling(stop, lambda: ends):
        try:
            yield
        except Interrupted:
            ends = True
            raise


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """In the block, a first SIGINT or SIGTERM is only noted; a second one raises `Interrupted`.

    Signals after the second change nothing, since the run is ending. Outside of the main thread,
    which alone receives signals, nothing is noted.

    Yields:
        A function that raises `Interrupted` if a signal was noted. It is called between two chunks.
        After it has raised, further signals change nothing either.
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

    with _handling(note, forget=received.pop):
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
def _handling(
    handler: _Handler,
    ends: Callable[[], bool] = lambda: False,
    forget: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Sets the handler of the signals for the block. Signals that are ignored (nohup) stay so.

    After the block, the signals are handled as before; or ignored, if `ends` returns True.
    If Python swallowed what the handler raised, `forget` is called and the signal is sent again.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            # None: the handler was not set by Python, and could not be restored.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    reports = sys.unraisablehook

    def send_again(swallowed: "sys.UnraisableHookArgs") -> None:
        if isinstance(swallowed.exc_value, Interrupted):
            forget()
            again = threading.Timer(_AGAIN, os.kill, (os.getpid(), swallowed.exc_value.signal))
            again.daemon = True
            again.start()
        else:
            reports(swallowed)

    # Python swallows what a handler raises in the callback of a weak reference or in `__del__`.
    if before:
        sys.unraisablehook = send_again
    try:
        yield
    finally:
        if before:
            sys.unraisablehook = reports
        for number, previous in before.items():
            signal.signal(number, signal.SIG_IGN if ends() else previous)
