"""Where a file of a pool is: on this machine, or behind a URL that fsspec knows."""

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
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_MANY = 100  # files that take longer to look at than a chunk to read


class Location:
    """One file, or a folder that is one array (zarr).

    Args:
        name: a path or a URL, as the user has it; messages name it so.
        columns: further arrays of the same rows, by name: where each of them is.
        dtype: what the bytes are to be taken for, where the file cannot say: "bfloat16".

    Attributes:
        parts: further files that hold its rows, as virtual datasets have them; a reader that finds
            some adds them.
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
        """Whether it is behind a URL."""
        return is_url(self.name)

    @cached_property
    def suffix(self) -> str:
        """The end of its name, which tells the format."""
        return PurePosixPath(self.name).suffix.lower()

    @cached_property
    def path(self) -> Path:
        """Where it is on this machine; ValueError if it is not."""
        if self.is_remote:
            raise ValueError(f"{self}: wanted a file on this machine: it is mapped")
        return Path(self.name)

    @cached_property
    def key(self) -> str:
        """What orders files, and tells whether two are one."""
        # Not resolved: files are numbered by the places that they are named at.
        return self.name if self.is_remote else os.path.abspath(self.name)  # noqa: PTH100

    def real(self) -> str:
        """The same for two names of one file."""
        return self.name if self.is_remote else os.path.realpath(self.name)

    def open(self) -> BinaryIO:
        """The file, to be read."""
        if self.is_remote:
            fs, path = self.remote
            return cast("BinaryIO", fs.open(path, "rb"))
        return self.path.open("rb")

    @cached_property
    def partitions(self) -> dict[str, str | None]:
        """What its folders say of all its rows, as Hive has it: country, in country=de/0.npy."""
        pairs = [name.partition("=") for name in PurePosixPath(self.key).parts[:-1]]
        values = {name: unquote(value) for name, is_one, value in pairs if is_one}
        return {n: None if value == _HIVE_NULL else value for n, value in values.items()}

    def check(self) -> None:
        """Raises an OSError or ValueError where there is nothing to read."""
        if self.is_remote:
            fs, path = self.remote
            if not fs.exists(path):
                raise FileNotFoundError(f"{self}: no such file")
        elif not self.path.exists():
            raise FileNotFoundError(f"{self}: no such file")
        elif self.path.is_dir() and self.suffix != ZARR:
            raise ValueError(f"{self}: a folder, wanted a file")
        elif not (self.path.is_file() or self.path.is_dir()):
            raise ValueError(f"{self}: not a regular file")
        for name, column in self.columns.items():
            try:
                column.check()
            except (OSError, ValueError) as error:  # noqa: PERF203 (of one or two)
                raise ValueError(f"{self}: its column {name!r}: {error}") from error

    def paths(self) -> list[Path]:
        """All files on this machine that it is read from, in a fixed order."""
        columns = [column.path for column in self.columns.values() if not column.is_remote]
        if self.is_remote:
            return columns
        folders = walk(self.path) if self.path.is_dir() else ()
        inside = [here / name for here, _, names in folders for name in names]
        return [self.path, *columns, *self.parts, *inside]

    @property
    def is_slow_to_stamp(self) -> bool:
        """Whether `stamp` asks another machine, or looks at many files."""
        is_remote = any(file.is_remote for file in (self, *self.columns.values()))
        return is_remote or self.suffix == ZARR or len(self.parts) > _MANY

    def stamp(self) -> list[Any]:
        """What changes when the file does, or what belongs to it: bytes, newest time, a digest.

        The digest is of every file's name, size and times. Among these is the time of the last
        change of its status (ctime), which nobody can set: a file that is replaced by one of the
        same size and time (cp -p, rsync -t, tar) has another, as has one whose mode, owner, name or
        number of hard links was changed. Inode and device are left out: file systems of networks
        and of user space (sshfs, s3fs, gcsfuse) may number them anew at any time.

        Raises:
            OSError: one of the files is gone.
            ValueError: one of them is not regular: a pipe would be read for ever.
        """
        n_bytes, newest = 0, 0
        digest = hashlib.sha256()
        for path in self.paths():
            try:
                stat = path.stat()
            except FileNotFoundError:
                if path.is_symlink() and path != self.path:
                    continue  # to nothing, in a folder
                raise
            if not S_ISREG(stat.st_mode) and path != self.path:
                raise ValueError(f"{self}: {path}: not a regular file")
            n_bytes += stat.st_size
            newest = max(newest, stat.st_mtime_ns)
            name = os.fsencode(os.path.abspath(path))  # noqa: PTH100 (links are names, too)
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
        """The file system of fsspec behind the URL, and its path there."""
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(self.name)
        return fs, path


def is_url(name: str) -> bool:
    """Whether fsspec is to be asked for it."""
    return "://" in name
