"""Brings what is read next of a mapped file into memory, on the reader's thread.

Reading through a small buffer gets a disk's sequential rate, which faults on a map do not, and a
disk's errors come as errors. The system then also keeps a file in large pages, which are soon
mapped. What is in memory already is left alone.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_BLOCK = 4 << 20  # read in one go: few calls, and a buffer that stays in the cache
# Between places where it is looked whether the file is in memory. Each look at one that is not
# makes the system read a little there, in small pages: one such look is enough.
_SPACING = 16 << 20
_NOWAIT = getattr(os, "RWF_NOWAIT", None)


class ReadAhead:
    """Reads parts of a file so that the system has them in memory.

    Args:
        file: a file descriptor.
        probe: another of the same file: looking whether pages are there would disturb the order
            that the system reads ahead by.
    """

    def __init__(self, file: int, probe: int) -> None:
        self._file = file
        self._probe = probe
        self._buffer = bytearray(_BLOCK)

    @staticmethod
    @contextmanager
    def of(array: Any) -> Iterator[Callable[[slice], None]]:
        """The function that fetches rows of a mapped array; of others, one that does nothing."""
        is_mapped = isinstance(array, np.memmap) and array.filename and array.flags.c_contiguous
        if not is_mapped or not hasattr(os, "preadv"):
            yield lambda rows: None  # noqa: ARG005
            return
        files = [os.open(array.filename, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)) for _ in "12"]
        try:
            ahead, row_bytes, offset = ReadAhead(*files), array[:1].nbytes, array.offset
            yield lambda rows: ahead(
                offset + rows.start * row_bytes, offset + rows.stop * row_bytes
            )
        finally:
            for file in files:
                os.close(file)

    def __call__(self, start: int, stop: int) -> None:
        """Fetches the bytes from `start` to `stop`.

        Raises:
            OSError: they cannot be read.
            ValueError: the file has become shorter.
        """
        if all(self._is_cached(byte) for byte in range(stop - 1, start - 1, -_SPACING)):
            return
        for first in range(start, stop, _BLOCK):
            block = memoryview(self._buffer)[: stop - first]
            if not os.preadv(self._file, [block], first):
                raise ValueError("cut short while it was being read")

    def _is_cached(self, byte: int) -> bool:
        if _NOWAIT is None:
            return False
        try:
            return os.preadv(self._probe, [bytearray(1)], byte, _NOWAIT) == 1
        except OSError:  # it would have to be waited for, or the file system cannot tell
            return False
