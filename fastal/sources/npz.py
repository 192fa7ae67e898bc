"""A .npz archive of arrays, read piece by piece, each member up to its checksum.

What np.savez writes is rarely aligned: a map of it would be copied, too.
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

from fastal.sources.archive import check_once, members_of
from fastal.sources.array_file import ArrayFile, LazyArrays
from fastal.sources.location import Location
from fastal.sources.npy import StreamedArray, mapped
from fastal.sources.reader import Columns, Damaged

_log = logging.getLogger("fastal")
_LOCAL_HEADER = 30  # bytes before the name; lengths of the name and of the extra field end it
_LARGEST_RATIO = 1032  # that deflate can reach
_BLOCK = 1 << 18  # read in one go: still in the cache when its checksum is computed


class NpzFile(ArrayFile):
    """Arrays of a .npz archive; see `ArrayFile`. A compressed one is warned of: it is slow.

    Each member that is read is checked against its CRC-32 once: the matrix and the groups when the
    last of their rows are read, the ids before the first of them is given.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        self._sound: set[str] = set()  # members whose checksum was found to be right
        super().__init__(file, columns)
        with self._arrays() as arrays:
            is_compressed = self._matrix(arrays).file.is_compressed
        if is_compressed and not file.is_remote:
            _log.warning("%s: compressed, so reading it is slow; np.savez stores as it is", file)

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`. The first time, the column is read to its end, the checksum."""
        if not len(rows) or name in self._sound:
            return super().take(name, rows)
        return super().take(name, np.append(rows, self.n_rows - 1))[:-1]

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:
            archive = stack.enter_context(self.file.open())
            size = archive.seek(0, 2)
            members = stack.enter_context(members_of(archive))
            names = [member.filename.removesuffix(".npy") for member in members.infolist()]
            check_once(self.file, names)

            def array(name: str, member: zipfile.ZipInfo) -> StreamedArray:
                file = _Member(self.file, name, member, self._sound)
                opened = stack.enter_context(members.open(member))  # which checks its header, too
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
    """A member of an archive as a file that is read in order, up to its checksum.

    Until that was found to be right, bytes that are skipped are read as well.

    Args:
        file: the archive's place, for errors.
        name: the member's.
        member: what the archive says of it.
        sound: names of the members that were checked; it is added when it is.
    """

    def __init__(self, file: Location, name: str, member: zipfile.ZipInfo, sound: set[str]) -> None:
        self.is_compressed = member.compress_type != zipfile.ZIP_STORED
        self._place = file
        self._name = name
        self._size, self._expected = member.file_size, member.CRC
        self._sound = sound
        self._at = self._crc = 0

    def read_from(self, file: BinaryIO, first: int) -> None:
        """Has its bytes come from a byte of a file on, which others may read in between."""
        self._file, self._first = file, first

    def seek(self, offset: int) -> None:
        """Goes to a byte."""
        if self._name in self._sound and not self.is_compressed:
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
        """Fills the buffer with the next bytes; how many there were.

        Raises:
            Damaged: the bytes up to the end are not those that the archive was made of.
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
            if self._name not in self._sound:
                self._crc = zlib.crc32(block[:n], self._crc)
            self._at += n
            left = left[n:]
        if self._at == self._size and self._name not in self._sound:
            if self._crc != self._expected:
                raise self._damaged()
            self._sound.add(self._name)
        return self._at - before

    def _damaged(self) -> Damaged:
        return Damaged(
            f"{self._place}: {self._name!r} is damaged: it is not what its checksum (CRC-32) says"
        )


def _check(file: Location, member: zipfile.ZipInfo, first: int, n_bytes: int) -> None:
    """ValueError for a member that NumPy does not write, or that cannot be in so large a file."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Their decoders give a whole block at once, which may be of any size.
        raise ValueError(
            f"{file}: {member.filename!r} is compressed by bzip2 or LZMA, which is not read: "
            "np.savez_compressed deflates"
        )
    most = member.compress_size
    if member.compress_type == zipfile.ZIP_DEFLATED:
        most *= _LARGEST_RATIO
    if first + member.compress_size > n_bytes or member.file_size > most:
        raise ValueError(
            f"{member.filename!r} is said to have {member.file_size:,} bytes, "
            f"in {member.compress_size:,} of the file's {n_bytes:,}"
        )


def _data_offset(archive: BinaryIO, member: zipfile.ZipInfo) -> int:
    archive.seek(member.header_offset)
    header = archive.read(_LOCAL_HEADER)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    return member.header_offset + _LOCAL_HEADER + name + extra
