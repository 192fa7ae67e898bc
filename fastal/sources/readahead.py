"""Brings the next rows of a mapped file into memory, on the thread that reads ahead.

The file is read through a small buffer. This reaches the sequential rate of a disk, which page
faults on a map do not, and errors of the disk become errors here. The system also keeps a file that
is read like this in large pages, which are mapped sooner. Parts that are in memory are not read.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_BLOCK = 4 << 20  # bytes per read: few calls, and a buffer that stays in the cache
# Bytes between two probes of whether the file is in memory. A probe of a page that is not makes the
# system read a little there, in small pages. The first such probe is therefore the last.
_SPACING = 16 << 20
_NOWAIT = getattr(os, "RWF_NOWAIT", None)


class ReadAhead:
    """Reads parts of a file, so that the system has them in memory.

    Args:
        file: a file descriptor.
        probe: another descriptor of the same file, for the probes: if they used `file`, they would
            disturb the system's own reading ahead.
    """

    def __init__(self, file: int, probe: int) -> None:
        self._file = file
        self._probe = probe
        self._buffer = bytearray(_BLOCK)

    @staticmethod
    @contextmanager
    def for_array(array: Any) -> Iterator[Callable[[slice], None]]:
        """A function that fetches rows of a mapped array; for other arrays, it does nothing."""
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
            OSError: the disk cannot read them.
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
        except OSError:  # reading it would take a disk, or the file system does not say
            return False
