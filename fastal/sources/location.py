"""The location of a file of a pool: on this machine, or behind a URL that fsspec knows."""

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from fastal.sources.walk import walk

ZARR = ".zarr"  # the suffix of a folder that is one array
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"  # Hive's name of the partition without a value
_MANY = 100  # with more files, their stamps take longer than reading a chunk


class Location:
    """One file, or a folder that is one array (zarr).

    Args:
        name: a path or a URL, as the user wrote it; messages use it.
        columns: the locations of further arrays of the same rows, by the arrays' names.
        dtype: "bfloat16" if the file holds the bits of such numbers, which it cannot say itself.

    Attributes:
        parts: further files that hold its rows, as virtual datasets have them. The reader adds
            those that it finds.
    """

    def __init__(
        self, name: str, columns: Mapping[str, "Location"] | None = None, dtype: str | None = None
    ) -> None:
        self.name = name
        self.columns = columns or {}
        self.dtype = dtype
        self.parts: list[Path] = []

    def __str__(self) -> str:
        return self.name

    @property
    def is_remote(self) -> bool:
        """Whether the name is a URL."""
        return is_url(self.name)

    @cached_property
    def suffix(self) -> str:
        """The suffix of the name in lower case, which determines the format."""
        return PurePosixPath(self.name).suffix.lower()

    @cached_property
    def path(self) -> Path:
        """The path on this machine; ValueError if there is none."""
        if self.is_remote:
            raise ValueError(f"{self}: wanted a file on this machine, since it is mapped")
        return Path(self.name)

    @cached_property
    def key(self) -> str:
        """The absolute path, or the URL. Files are ordered by it, and it is unique in a pool."""
        # Links are not resolved: the order is that of the paths as they are named.
        return self.name if self.is_remote else os.path.abspath(self.name)  # noqa: PTH100

    def real(self) -> str:
        """The path with all links resolved: equal for two names of one file."""
        return self.name if self.is_remote else os.path.realpath(self.name)

    def open(self) -> BinaryIO:
        """Opens the file for reading."""
        if self.is_remote:
            fs, path = self.remote
            return cast("BinaryIO", fs.open(path, "rb"))
        return self.path.open("rb")

    @cached_property
    def partitions(self) -> dict[str, str | None]:
        """The values that its folders give to all its rows, in Hive's manner.

        The path country=de/0.npy gives {"country": "de"}.
        """
        pairs = [name.partition("=") for name in PurePosixPath(self.key).parts[:-1]]
        values = {name: unquote(value) for name, is_one, value in pairs if is_one}
        return {n: None if value == _HIVE_NULL else value for n, value in values.items()}

    def check(self) -> None:
        """Checks that there is a file to read, and one for each column.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: it is a folder or a device, or a column is bad.
        """
        if self.is_remote:
            fs, path = self.remote
            if not fs.exists(path):
                raise FileNotFoundError(f"{self}: no such file")
        elif not self.path.exists():
            raise FileNotFoundError(f"{self}: no such file")
        elif self.path.is_dir() and self.suffix != ZARR:
            raise ValueError(f"{self}: wanted a file, got a folder")
        elif not (self.path.is_file() or self.path.is_dir()):
            raise ValueError(f"{self}: not a regular file")
        for name, column in self.columns.items():
            try:
                column.check()
            except (OSError, ValueError) as error:  # noqa: PERF203 (of one or two)
                raise ValueError(f"{self}: its column {name!r}: {error}") from error

    def paths(self) -> list[Path]:
        """All local files that it is read from, in a fixed order."""
        columns = [column.path for column in self.columns.values() if not column.is_remote]
        if self.is_remote:
            return columns
        folders = walk(self.path) if self.path.is_dir() else ()
        inside = [here / name for here, _, names in folders for name in names]
        return [self.path, *columns, *self.parts, *inside]

    @property
    def is_slow_to_stamp(self) -> bool:
        """Whether `stamp` asks another machine, or for the status of many files."""
        is_remote = any(file.is_remote for file in (self, *self.columns.values()))
        return is_remote or self.suffix == ZARR or len(self.parts) > _MANY

    def stamp(self) -> list[Any]:
        """Values that change whenever the file does, or a file that belongs to it.

        The digest covers the name, size and times of every file. One of these times is that of the
        last change of status (ctime), which no program can set. So the digest also changes if a
        file is replaced by one of the same size and time (cp -p, rsync -t, tar), or if its mode,
        owner, name or number of hard links changes. Inode and device are left out: network and
        user-space file systems (sshfs, s3fs, gcsfuse) may number files anew at any time.

        Returns:
            The size of all files in bytes, the newest modification time in ns, and the digest.

        Raises:
            OSError: one of the files is gone.
            ValueError: one of them is not regular: reading a pipe would never end.
        """
        n_bytes, newest = 0, 0
        digest = hashlib.sha256()
        for path in self.paths():
            try:
                stat = path.stat()
            except FileNotFoundError:
                if path.is_symlink() and path != self.path:
                    continue  # a broken link in a folder
                raise
            if not S_ISREG(stat.st_mode) and path != self.path:
                raise ValueError(f"{self}: {path}: not a regular file")
            n_bytes += stat.st_size
            newest = max(newest, stat.st_mtime_ns)
            name = os.fsencode(os.path.abspath(path))  # noqa: PTH100 (links are not resolved)
            digest.update(
                b"%b\0%d %d %d\0" % (name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            )
        for file in (self, *self.columns.values()):
            if file.is_remote:
                fs, url_path = file.remote
                digest.update(os.fsencode(f"{file}\0{fs.ukey(url_path)}\0"))
        return [n_bytes, newest, digest.hexdigest()[:16]]

    @cached_property
    def remote(self) -> tuple[Any, str]:
        """The fsspec file system of the URL, and the file's path in it."""
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(self.name)
        return fs, path


def is_url(name: str) -> bool:
    """Whether a name is a URL, which fsspec opens."""
    return "://" in name
