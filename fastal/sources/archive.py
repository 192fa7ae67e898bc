"""Lists of what a file holds: the directory of a zip archive, a header, the keys of JSON.

.npz and .pt files are zip archives. A list that is ambiguous or too long is refused.
"""

import zipfile
from collections import Counter
from collections.abc import Iterable
from typing import Any, BinaryIO, cast

from fastal.sources.location import Location

# The longest list, in bytes. It is held in memory, where it takes up to 65 times as much.
LONGEST_LIST = 8 << 20


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Opens a zip archive. It may hold several members of one name; see `check_unique`.

    Raises:
        ValueError: its directory is too long, or other bytes come before its members.
        zipfile.BadZipFile: it is not a zip archive.
    """
    archive = zipfile.ZipFile(cast("BinaryIO", _Bounded(file)))
    first = min((member.header_offset for member in archive.infolist()), default=0)
    if first:
        raise ValueError(f"{first:,} bytes come before its members: several archives in one file?")
    return archive


def check_length(what: str, n_bytes: int) -> None:
    """ValueError if a list of what a file holds is too long to be read."""
    if n_bytes > LONGEST_LIST:
        raise ValueError(f"{what} has {n_bytes:,} bytes, at most {LONGEST_LIST:,} are read")


def check_unique(file: Location, names: Iterable[str]) -> None:
    """ValueError if a file holds several arrays of one name: it is not clear which one is meant."""
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(f"{file}: it holds {name!r} {count} times: which is meant is not clear")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` for `json.loads`; ValueError if an object has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {twice!r} twice")
    return found


class _Bounded:
    """A file that refuses long reads: zipfile reads an archive's directory in one piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, n: int = -1) -> bytes:
        check_length("the directory of its members", n)
        return self._file.read(n)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
