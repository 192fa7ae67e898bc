"""Reads the next chunk while this one is worked on."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(chunks: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same chunks, asked for by a thread of their own, one ahead: two are held at most."""
    with ThreadPoolExecutor(1, "fastal-reader") as reader:
        try:
            ahead = reader.submit(next, chunks, None)
            while (chunk := ahead.result()) is not None:
                ahead = reader.submit(next, chunks, None)
                yield chunk
        finally:
            # By the thread that reads them: a signal may have cut the wait for it short, and a
            # generator that runs cannot be closed.
            reader.submit(chunks.close).result()
