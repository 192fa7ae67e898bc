"""One .npy file: memory-mapped, or read piece by piece where it cannot be."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.sources.array_file import BFLOAT16, ArrayFile
from fastal.sources.location import Location
from fastal.sources.reader import Columns


class NpyFile(ArrayFile):
    """A .npy file [rows, ...] of numbers; see `ArrayFile`."""

    def __init__(self, file: Location, columns: Columns) -> None:
        self.in_place = not file.is_remote
        super().__init__(file, columns)

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:

            def streamed(location: Location) -> StreamedArray:
                return StreamedArray(lambda: stack.enter_context(location.open()))

            matrix = streamed(self.file) if self.file.is_remote else mapped(self.file)
            # Labels and ids are not looked at under a guard: of a map, a page may be lost.
            yield {"": matrix, **{name: streamed(c) for name, c in self.file.columns.items()}}


class Header(NamedTuple):
    """What a .npy header says, and where the data begin."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int


def header_of(file: BinaryIO) -> Header:
    """Reads the header of an array from here on.

    Raises:
        TypeError: the array holds Python objects.
        ValueError: this is no header, or no array can be of that shape.
    """
    first = file.tell()
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"wanted version 1 or 2 of the format, got {version}")
    read = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)
    shape, is_fortran, dtype = read[version[0] - 1](file)
    if dtype.hasobject:
        raise TypeError("wanted numbers, got dtype object")
    if any(isinstance(n, bool) or not 0 <= n < 2**63 for n in shape):
        raise ValueError(f"no array is of shape {shape}")
    return Header(shape, is_fortran, dtype, file.tell() - first)


def mapped(location: Location, first: int = 0, n_bytes: int | None = None) -> NDArray[Any]:
    """The .npy array that begins at a byte of a file, mapped.

    Args:
        location: the file.
        first: where the array's header begins.
        n_bytes: how long header and array are at most; None: to the end of the file.
    """
    # Read-only: a private writable map of a file larger than memory is refused by the system.
    with location.path.open("rb") as file:
        file.seek(first)
        header = header_of(file)
        if n_bytes is None:
            n_bytes = file.seek(0, 2) - first
        size = math.prod(header.shape) * header.dtype.itemsize
        if header.offset + size > n_bytes:
            raise ValueError(
                f"the header says {size:,} bytes of {header.dtype} {header.shape}, "
                f"{max(0, n_bytes - header.offset):,} are there"
            )
        if not size:  # which cannot be mapped
            return np.empty(header.shape, header.dtype)
        order: Literal["F", "C"] = "F" if header.is_fortran else "C"
        dtype: np.dtype[Any] = BFLOAT16 if location.dtype == "bfloat16" else header.dtype
        offset = first + header.offset
        return np.memmap(location.path, dtype, "r", offset, header.shape, order)


class StreamedArray:
    """A .npy array behind a file object: slices are read, none is kept.

    Args:
        open_file: opens the file, at the array's header.
    """

    def __init__(self, open_file: Callable[[], BinaryIO]) -> None:
        self._file = open_file()
        header = header_of(self._file)
        if header.is_fortran and len(header.shape) > 1:
            raise ValueError(
                "an array in Fortran order can only be read from a file that is mapped"
            )
        self.shape, self.dtype, self._offset = header.shape, header.dtype, header.offset
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Rows as an array of their own; ValueError where the file ends before them."""
        start, stop, _ = rows.indices(self.shape[0])
        self._file.seek(self._offset + start * self._row_bytes)
        n_bytes = (stop - start) * self._row_bytes
        found = self._file.read(n_bytes)
        if len(found) != n_bytes:
            raise ValueError(f"it ends before row {stop} of {self.shape[0]:,}")
        return np.frombuffer(found, self.dtype).reshape(stop - start, *self.shape[1:])
