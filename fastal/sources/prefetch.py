"""Reads the next chunk while this one is worked on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(chunks: Iterator[T]) -> Iterator[T]:
    """The same chunks, asked for by a thread of their own, one ahead: two are held at most."""
    with ThreadPoolExecutor(1, "fastal-reader") as reader:
        ahead = reader.submit(next, chunks, None)
        while (chunk := ahead.result()) is not None:
            ahead = reader.submit(next, chunks, None)
            yield chunk
