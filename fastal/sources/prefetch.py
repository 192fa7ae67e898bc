"""Reads the next chunk while this one is worked on."""

from collections.abc import Generator
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def prefetched(chunks: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same chunks, asked for by a thread of their own, one ahead: two are held at most.

    Where the system has no thread left, they are read when they are asked for.
    """
    # A signal may raise between any two steps of this function. So the generator is only ever
    # touched by one thread, which ends when it is told to, whether this one waits for it or not.
    asked: SimpleQueue[bool] = SimpleQueue()
    found: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def read() -> None:
        while asked.get():
            found.put(_next(chunks))
        chunks.close()

    # A daemon: one that was never told to end would keep the process from ending.
    reader = Thread(target=read, name="fastal-reader", daemon=True)
    try:
        asked.put(True)
        try:
            reader.start()
        except RuntimeError:
            yield from chunks
            return
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
        if reader.is_alive():
            reader.join()


def _next(chunks: Generator[T, None, None]) -> tuple[T | None, BaseException | None]:
    """The next chunk, None after the last; or what went wrong, for the thread that asked."""
    try:
        return next(chunks, None), None
    except BaseException as error:
        return None, error
