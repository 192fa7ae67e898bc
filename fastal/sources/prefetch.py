"""Reads the next chunk, in a thread of its own, while the caller works on this one."""

import atexit
import os
from _thread import start_new_thread
from collections.abc import Generator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
# The running threads: for each, the queue that it reports its end to, and the one of its requests.
_running: dict[SimpleQueue[None], SimpleQueue[bool]] = {}


def prefetched(chunks: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same chunks, read one ahead by a thread: at most two are in memory.

    If the system has no thread left, each chunk is read when it is asked for.
    """
    # A signal may raise between any two steps of Python code, also inside `threading` and
    # `concurrent.futures`, which are written in Python. The functions called here are not. So it is
    # always known whether the thread began. The thread alone uses the generator, until it is asked
    # to end.
    asked: SimpleQueue[bool] = SimpleQueue()  # True: for one more chunk; False: to end
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
        except RuntimeError:  # no thread is left
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
    """The next chunk, None after the last; or the error, which is raised in the caller's thread."""
    try:
        return next(chunks, None), None
    except BaseException as error:
        return None, error


@atexit.register
def _end_all() -> None:
    """Ends the threads before the interpreter does, which would stop them at any place."""
    while _running:
        ended, asked = _running.popitem()
        asked.put(False)
        ended.get()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)  # a forked process has none of the threads
