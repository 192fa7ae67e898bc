"""Zip archives, which .npz and .pt files are, and JSON: what is ambiguous or a bomb is refused."""

import zipfile
from collections import Counter
from collections.abc import Iterable
from typing import Any, BinaryIO, cast

from fastal.sources.location import Location

# Bytes of a list of what a file holds, such as a directory or a header: it is held in memory, where
# it takes up to 65 times as much.
LONGEST_LIST = 8 << 20


def members_of(file: BinaryIO) -> zipfile.ZipFile:
    """The archive in a file. It may hold several members of one name.

    Raises:
        ValueError: its directory is too long; or it is not all of the file.
        zipfile.BadZipFile: it is no archive.
    """
    archive = zipfile.ZipFile(cast("BinaryIO", _Bounded(file)))
    first = min((member.header_offset for member in archive.infolist()), default=0)
    if first:
        raise ValueError(f"{first:,} bytes come before its members: several archives in one file?")
    return archive


def check_once(file: Location, names: Iterable[str]) -> None:
    """ValueError where a file holds several of one name: any of them could be meant."""
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(f"{file}: it holds {name!r} {count} times: which is meant is not clear")


def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `json.loads`; ValueError where it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {twice!r} twice")
    return found


class _Bounded:
    """A file whose reads are bounded: an archive's directory is read in one piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, n: int = -1) -> bytes:
        if n > LONGEST_LIST:
            raise ValueError(
                f"the directory of its members has {n:,} bytes, at most {LONGEST_LIST:,} are read"
            )
        return self._file.read(n)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
