"""A .npz archive of arrays, read piece by piece, with its checksums.

It is not mapped: np.savez rarely aligns its members, and a slice of an unaligned map is copied too.
"""

import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fastal.sources.archive import check_unique, open_archive
from fastal.sources.array_file import ArrayFile, LazyArrays
from fastal.sources.location import Location
from fastal.sources.npy import StreamedArray, mapped
from fastal.sources.reader import ChecksumError, Columns

_log = logging.getLogger("fastal")
_LOCAL_HEADER = 30  # bytes of a member's header; the last four are lengths of further fields
_LARGEST_RATIO = 1032  # the highest compression ratio of deflate
_BLOCK = 1 << 18  # bytes per read: still in the cache when their checksum is computed


class NpzFile(ArrayFile):
    """The arrays of a .npz archive; see `ArrayFile`.

    Each member that is read is checked against its CRC-32 once. For predictions and groups, this
    happens when their last rows are read; for ids, before the first of them is returned. Reading a
    compressed archive is slow, so it logs a warning.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        self._verified: set[str] = set()  # members whose checksum was right
        super().__init__(file, columns)
        with self._arrays() as arrays:
            is_compressed = self._matrix(arrays).file.is_compressed
        if is_compressed and not file.is_remote:
            _log.warning("%s: compressed, so reading it is slow; np.savez does not compress", file)

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`. The first call reads the whole column, to check its checksum."""
        if not len(rows) or name in self._verified:
            return super().take(name, rows)
        return super().take(name, np.append(rows, self.n_rows - 1))[:-1]

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:
            archive = stack.enter_context(self.file.open())
            size = archive.seek(0, 2)
            members = stack.enter_context(open_archive(archive))
            names = [member.filename.removesuffix(".npy") for member in members.infolist()]
            check_unique(self.file, names)

            def array(name: str, member: zipfile.ZipInfo) -> StreamedArray:
                file = _Member(self.file, name, member, self._verified)
                opened = stack.enter_context(members.open(member))  # also checks its header
                _check(self.file, member, first := _data_offset(archive, member), size)
                if file.is_compressed:
                    file.read_from(cast("BinaryIO", opened), 0)
                else:
                    file.read_from(archive, first)
                can_map = not file.is_compressed and not self.file.is_remote
                found = StreamedArray(
                    cast("BinaryIO", file), 0, member.file_size,
                    mapped=partial(mapped, self.file, first, member.file_size) if can_map else None,
                )  # fmt: skip
                if found.end != member.file_size:
                    raise ValueError(
                        f"the header of {name!r} says {found.end:,} bytes, "
                        f"{member.file_size:,} are there"
                    )
                return found

            arrays = zip(names, members.infolist(), strict=True)
            yield LazyArrays({name: partial(array, name, member) for name, member in arrays})


class _Member:
    """A member of an archive as a file, whose checksum is computed while it is read.

    Until the checksum was right once, `seek` reads the bytes that it passes over.

    Args:
        file: the archive, for errors.
        name: the member's name.
        member: the member's entry in the archive's directory.
        verified: the names of the members whose checksum was right; this one is added in its turn.
    """

    def __init__(
        self, file: Location, name: str, member: zipfile.ZipInfo, verified: set[str]
    ) -> None:
        self.is_compressed = member.compress_type != zipfile.ZIP_STORED
        self._archive = file
        self._name = name
        self._size, self._expected = member.file_size, member.CRC
        self._verified = verified
        self._at = self._crc = 0

    def read_from(self, file: BinaryIO, first: int) -> None:
        """Sets the file that holds the bytes, from `first` on. Others may read it in between."""
        self._file, self._first = file, first

    def seek(self, offset: int) -> None:
        """Moves to a byte."""
        if self._name in self._verified and not self.is_compressed:
            self._at = offset
            return
        if offset < self._at:
            self._at = self._crc = 0
        while self._at < offset and self.readinto(bytearray(min(_BLOCK, offset - self._at))):
            pass

    def read(self, n: int) -> bytes:
        """The next n bytes, fewer at the end."""
        found = bytearray(n)
        return bytes(found[: self.readinto(found)])

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer with the next bytes, and returns their number.

        Raises:
            ChecksumError: these were the last bytes, and the checksum is wrong; or the compressed
                bytes cannot be decoded.
        """
        left = memoryview(buffer)[: self._size - self._at]
        before = self._at
        while left:
            block = left[:_BLOCK]
            self._file.seek(self._first + self._at)
            try:
                n = self._file.readinto(block)  # type: ignore[attr-defined]
            except (zipfile.BadZipFile, zlib.error):
                raise self._damaged() from None
            if not n:
                break
            if self._name not in self._verified:
                self._crc = zlib.crc32(block[:n], self._crc)
            self._at += n
            left = left[n:]
        if self._at == self._size and self._name not in self._verified:
            if self._crc != self._expected:
                raise self._damaged()
            self._verified.add(self._name)
        return self._at - before

    def _damaged(self) -> ChecksumError:
        return ChecksumError(
            f"{self._archive}: {self._name!r} is damaged: its checksum (CRC-32) does not match"
        )


def _check(file: Location, member: zipfile.ZipInfo, first: int, n_bytes: int) -> None:
    """ValueError if NumPy does not write such a member, or the file is too short to hold it.

    Args:
        file: the archive, for errors.
        member: the member's entry in the archive's directory.
        first: the byte where the member's data begin.
        n_bytes: the size of the archive.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The decoders of other methods return a whole block at once, which may be of any size.
        raise ValueError(
            f"{file}: {member.filename!r} is compressed by bzip2 or LZMA, which is not read; "
            "np.savez_compressed uses deflate"
        )
    most = member.compress_size
    if member.compress_type == zipfile.ZIP_DEFLATED:
        most *= _LARGEST_RATIO
    if first + member.compress_size > n_bytes or member.file_size > most:
        raise ValueError(
            f"{member.filename!r}: {member.file_size:,} bytes cannot be stored in "
            f"{member.compress_size:,} of the file's {n_bytes:,} bytes"
        )


def _data_offset(archive: BinaryIO, member: zipfile.ZipInfo) -> int:
    """The byte of the archive where a member's data begin."""
    archive.seek(member.header_offset)
    header = archive.read(_LOCAL_HEADER)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    return member.header_offset + _LOCAL_HEADER + name + extra
