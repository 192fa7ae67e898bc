"""A .npz archive of arrays: stored ones are mapped where aligned, others read piece by piece.

What np.savez writes is not aligned, and a map of it would be copied.
"""

import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, BinaryIO, cast

from fastal.sources.array_file import ArrayFile, LazyArrays
from fastal.sources.location import Location
from fastal.sources.npy import StreamedArray, mapped
from fastal.sources.reader import Columns

_log = logging.getLogger("fastal")
_LOCAL_HEADER = 30  # bytes before the name; lengths of the name and of the extra field end it


class NpzFile(ArrayFile):
    """Arrays of a .npz archive; see `ArrayFile`. A compressed one is warned of: it is slow."""

    def __init__(self, file: Location, columns: Columns) -> None:
        super().__init__(file, columns)
        with self._arrays() as arrays:
            streamed = getattr(self._matrix(arrays), "file", None)
        if isinstance(streamed, zipfile.ZipExtFile) and not file.is_remote:
            _log.warning("%s: compressed, so reading it is slow; np.savez stores as it is", file)

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:
            archive = stack.enter_context(self.file.open())
            members = stack.enter_context(zipfile.ZipFile(archive))

            def array(member: zipfile.ZipInfo) -> Any:
                if member.compress_type != zipfile.ZIP_STORED or self.file.is_remote:
                    file = cast("BinaryIO", stack.enter_context(members.open(member)))
                    return StreamedArray(file, 0, member.file_size)
                first = _data_offset(archive, member)
                found = mapped(self.file, first, member.file_size)
                if found.flags.aligned or not found.flags.c_contiguous:
                    return found
                file = stack.enter_context(self.file.open())  # to be copied anyway
                return StreamedArray(file, first, member.file_size)

            names = {m.filename.removesuffix(".npy"): m for m in members.infolist()}
            yield LazyArrays({name: partial(array, member) for name, member in names.items()})


def _data_offset(archive: BinaryIO, member: zipfile.ZipInfo) -> int:
    archive.seek(member.header_offset)
    header = archive.read(_LOCAL_HEADER)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    return member.header_offset + _LOCAL_HEADER + name + extra
