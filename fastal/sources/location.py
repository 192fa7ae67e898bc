"""Where a file of a pool is: on this machine, or behind a URL that fsspec knows."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

ZARR = ".zarr"  # the suffix of a folder that is one array

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

    @property
    def suffix(self) -> str:
        """The end of its name, which tells the format."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def path(self) -> Path:
        """Where it is on this machine; ValueError if it is not."""
        if self.is_remote:
            raise ValueError(f"{self}: wanted a file on this machine: it is mapped")
        return Path(self.name)

    @property
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

    def check(self) -> None:
        """Raises an OSError or ValueError where there is nothing to read."""
        if self.is_remote:
            fs, path = self.remote
            if not fs.exists(path):
                raise FileNotFoundError(f"{self}: no such file")
            return
        if not self.path.exists():
            raise FileNotFoundError(f"{self}: no such file")
        if not (self.path.is_file() or (self.path.is_dir() and self.suffix == ZARR)):
            raise ValueError(f"{self}: not a regular file")

    def paths(self) -> list[Path]:
        """All files on this machine that it is read from, in a fixed order."""
        columns = [column.path for column in self.columns.values() if not column.is_remote]
        if self.is_remote:
            return columns
        inside = self.path.rglob("*") if self.path.is_dir() else ()
        return [self.path, *columns, *self.parts, *sorted(p for p in inside if p.is_file())]

    @property
    def is_slow_to_stamp(self) -> bool:
        """Whether `stamp` asks another machine, or looks at many files."""
        return self.is_remote or self.suffix == ZARR or len(self.parts) > _MANY

    def stamp(self) -> list[Any]:
        """What changes when the file does, or what belongs to it: sizes and times.

        Of all files where it is a folder.
        """
        if self.is_remote:
            fs, path = self.remote
            return [fs.ukey(path)]
        found = [path.stat() for path in self.paths()]
        return [sum(s.st_size for s in found), max(s.st_mtime_ns for s in found), len(found)]

    @cached_property
    def remote(self) -> tuple[Any, str]:
        """The file system of fsspec behind the URL, and its path there."""
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(self.name)
        return fs, path


def is_url(name: str) -> bool:
    """Whether fsspec is to be asked for it."""
    return "://" in name
