"""Reads the next chunk while this one is worked on."""

import atexit
import os
from _thread import start_new_thread
from collections.abc import Generator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_running: dict[
    SimpleQueue[None], SimpleQueue[bool]
] = {}  # threads: what says it ended, and ends it


def prefetched(chunks: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same chunks, asked for by a thread of their own, one ahead: two are held at most.

    Where the system has no thread left, they are read when they are asked for.
    """
    # A signal may raise between any two steps of this function, and did within those of `threading`
    # and `concurrent.futures`, which are in Python: what is called here is not. So it is always
    # known whether the thread began. It alone touches the generator, and ends when it is told to.
    asked: SimpleQueue[bool] = SimpleQueue()
    found: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    ended: SimpleQueue[None] = SimpleQueue()

    def read() -> None:
        try:
            while asked.get():
                found.put(_next(chunks))
            chunks.close()
        finally:
            ended.put(None)

    try:
        asked.put(True)
        try:
            start_new_thread(read, ())
        except RuntimeError:  # there is none left
            yield from chunks
            return
        _running[ended] = asked
        while True:
            chunk, error = found.get()
            if error is not None:
                raise error
            if chunk is None:
                return
            asked.put(True)
            yield chunk
    finally:
        asked.put(False)
        if _running.pop(ended, None) is not None:
            ended.get()


def _next(chunks: Generator[T, None, None]) -> tuple[T | None, BaseException | None]:
    """The next chunk, None after the last; or what went wrong, for the thread that asked."""
    try:
        return next(chunks, None), None
    except BaseException as error:
        return None, error


@atexit.register
def _end_all() -> None:
    """Ends the threads while they can still run: later, one that returns to Python is torn down."""
    while _running:
        ended, asked = _running.popitem()
        asked.put(False)
        ended.get()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)  # where they are not
