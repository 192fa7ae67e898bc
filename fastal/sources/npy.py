"""One .npy file: memory-mapped, or read piece by piece if it cannot be mapped."""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.sources.array_file import BFLOAT16, ArrayFile, LazyArrays
from fastal.sources.location import Location

_LONGEST_HEADER = 10_000  # NumPy's own limit
_MOST_IN_MEMORY = 1 << 28  # bytes of an array that has to be read whole


class NpyFile(ArrayFile):
    """A .npy file [rows, ...] of numbers; see `ArrayFile`."""

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:

            def streamed(location: Location) -> StreamedArray:
                return StreamedArray(stack.enter_context(location.open()), dtype=location.dtype)

            # Columns of labels are not mapped: no guard would notice a lost page of theirs.
            files = {name: partial(streamed, file) for name, file in self.file.columns.items()}
            read = streamed if self.file.is_remote else mapped
            yield LazyArrays({"": partial(read, self.file), **files})


class Header(NamedTuple):
    """The header of a .npy array.

    Attributes:
        shape: the shape.
        is_fortran: whether the order is Fortran's.
        dtype: the dtype; `BFLOAT16` for the bits of such numbers.
        offset: the length of the header in bytes.
    """

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int


def header_of(file: BinaryIO, stands_for: str | None = None) -> Header:
    """Reads the header of an array.

    Args:
        file: the file, at the array's first byte.
        stands_for: "bfloat16" if the array holds the bits of such numbers.

    Raises:
        TypeError: the array holds Python objects, or values that cannot be the bits of bfloat16.
        ValueError: there is no header, or no array can have the shape in it.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"wanted version 1 or 2 of the format, got {version}")
    length = file.read(2 * version[0])
    n_header = int.from_bytes(length, "little")
    if n_header > _LONGEST_HEADER:  # checked before it is read
        raise ValueError(
            f"it says that its header has {n_header:,} bytes, at most {_LONGEST_HEADER:,} are read"
        )
    header = io.BytesIO(length + file.read(n_header))
    read = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)
    shape, is_fortran, dtype = read[version[0] - 1](header)
    if dtype.hasobject:
        raise TypeError("wanted numbers, got dtype object")
    if dtype.shape or any(isinstance(n, bool) or not 0 <= n < 2**63 for n in shape):
        raise ValueError(f"no array can have shape {shape} and dtype {dtype}")
    if stands_for is not None:
        if dtype.itemsize != 2:
            raise TypeError(f"wanted the bits of {stands_for}, two bytes per value, got {dtype}")
        dtype = BFLOAT16
    offset = np.lib.format.MAGIC_LEN + len(length) + n_header
    return Header(shape, is_fortran, dtype, offset)


def mapped(location: Location, first: int = 0, n_bytes: int | None = None) -> NDArray[Any]:
    """Maps the .npy array that begins at a byte of a file.

    Args:
        location: the file.
        first: the byte where the array's header begins.
        n_bytes: the most bytes of header and array; None: all bytes to the end of the file.

    Raises:
        TypeError, ValueError: see `header_of`; or the file is too short, or too long.
    """
    # Read-only, since systems refuse private writable maps of files larger than memory.
    with location.path.open("rb") as file:
        file.seek(first)
        header = header_of(file, location.dtype)
        size = math.prod(header.shape) * header.dtype.itemsize
        if n_bytes is None:
            n_bytes = file.seek(0, 2) - first
            _check_is_last(header.offset + size, n_bytes)
        if header.offset + size > n_bytes:
            raise ValueError(
                f"the header says {size:,} bytes of {header.dtype} {header.shape}, "
                f"{max(0, n_bytes - header.offset):,} are there"
            )
        if not size:  # no bytes can be mapped
            return np.empty(header.shape, header.dtype)
        order: Literal["F", "C"] = "F" if header.is_fortran else "C"
        offset = first + header.offset
        return np.memmap(location.path, header.dtype, "r", offset, header.shape, order)


class StreamedArray:
    """A .npy array behind a file object. Each slice is read when it is asked for.

    The values of a row of an array in Fortran order are not adjacent. Such an array is mapped or,
    if it cannot be, read whole into memory with its first row.

    Args:
        file: the file.
        first: the byte where the array's header begins.
        n_bytes: the most bytes of header and array; None: all bytes to the end of the file.
        dtype: "bfloat16" if the values are the bits of such numbers.
        mapped: returns a map of the array; None if it cannot be mapped.

    Raises:
        TypeError, ValueError: see `header_of`; or the file is too short, or too long; or an array
            that has to be read whole is too large.

    Attributes:
        end: the length of header and array in bytes.
    """

    def __init__(
        self,
        file: BinaryIO,
        first: int = 0,
        n_bytes: int | None = None,
        dtype: str | None = None,
        mapped: Callable[[], NDArray[Any]] | None = None,
    ) -> None:
        self.file = file
        is_last = n_bytes is None
        if n_bytes is None:
            n_bytes = file.seek(0, 2) - first
        file.seek(first)
        header = header_of(file, dtype)
        self.shape, self.dtype, self._offset = header.shape, header.dtype, first + header.offset
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._mapped = mapped
        self._has_split_rows = header.is_fortran and len(header.shape) > 1
        size = math.prod(self.shape) * self.dtype.itemsize
        self.end = header.offset + size
        if self.end > n_bytes:
            raise ValueError(f"the header says {self.end:,} bytes, {n_bytes:,} are there")
        if is_last:
            _check_is_last(self.end, n_bytes)
        if self._has_split_rows and mapped is None and size > _MOST_IN_MEMORY:
            raise ValueError(
                f"an array in Fortran order that is compressed or behind a URL is read into "
                f"memory: wanted at most {_MOST_IN_MEMORY:,} bytes, got {size:,}; "
                "numpy.ascontiguousarray gives the order that is read piece by piece"
            )

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Rows as a new array; ValueError if the file ends before their end."""
        start, stop, _ = rows.indices(self.shape[0])
        if self._has_split_rows and start < stop:
            return self._whole[start:stop]
        return self._read(self._offset + start * self._row_bytes, (stop - start, *self.shape[1:]))

    @cached_property
    def _whole(self) -> NDArray[Any]:
        if self._mapped is None:
            whole: NDArray[Any] = self._read(self._offset, self.shape[::-1]).T
            return whole
        self.file.seek(self.end)  # a file with a checksum then reads all bytes and checks them
        return self._mapped()

    def _read(self, first: int, shape: tuple[int, ...]) -> NDArray[Any]:
        self.file.seek(first)
        found = np.empty(shape, self.dtype)
        if self.file.readinto(found.reshape(-1).view(np.uint8)) != found.nbytes:  # type: ignore[attr-defined]
            raise ValueError(f"it ends before byte {first + found.nbytes:,}")
        return found


def _check_is_last(end: int, n_bytes: int) -> None:
    """ValueError if bytes follow an array, for example those of a second np.save to the file."""
    if end < n_bytes:
        raise ValueError(
            f"{n_bytes - end:,} bytes follow its array: wanted one array per file; np.savez stores "
            "several"
        )
