"""The files that a command writes, checked before the pool is read and again before they appear."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastal.output.atomic import naming_path_in_errors, writable_path, written_whole
from fastal.output.packages import check_writable
from fastal.sources.files import Files

# The record of a command: in a folder that it writes, and beside a file, after its stem.
RECORD, _SUFFIX = "run.json", ".run.json"
_BEGINNING = b'{\n  "command": '  # the first bytes of every record


class Target:
    """A file that a command writes, and its record. Neither may be a file that the command reads.

    Args:
        out: the file to write; None for standard output.
        suffixes: the suffixes that the file may have.
        reads: the pool first, then the other pools that the command reads.
        name: the name of the option, for messages.
        has_record: whether a record is written, too.

    Attributes:
        record: the path of the record, picks.run.json beside picks.csv; None if none is written.

    Raises:
        ValueError, OSError, ModuleNotFoundError: see `check`.
    """

    def __init__(
        self,
        out: Path | None,
        suffixes: Sequence[str],
        *reads: Files | None,
        name: str = "out",
        has_record: bool = True,
    ) -> None:
        self.out = out
        self.record = None
        if has_record and out is not None:
            self.record = out.with_name(out.stem + _SUFFIX)
        self._suffixes = suffixes
        self._reads = reads
        self._name = name
        self.check()

    def check(self) -> None:
        """Checks that file and record can be written, and are not read under any name.

        Raises:
            ValueError: the file has another suffix, or is a link to the record; one of the two is
                not a regular file, or is read; or another file has the name of the record.
            OSError: the folder is missing or cannot be written to.
            ModuleNotFoundError: the package that writes the format is not installed.
        """
        if self.out is None:
            if sys.stdout is None:
                raise ValueError(f"{self._name}: standard output is closed")
            return
        if self.out.suffix not in self._suffixes:
            wanted = " or ".join(self._suffixes)
            raise ValueError(f"{self._name}: wanted a {wanted} file, got {self.out}")
        self.check_not_read(self.out)
        writable_path(self.out)
        check_writable(self._name, self.out.suffix)
        self.check_record()

    def recheck(self) -> None:
        """Checks again, after the pool was read, that the file can still be written."""
        if self.out is not None:
            self.check_not_read(self.out)
            writable_path(self.out)

    def check_not_read(self, path: Path, name: str | None = None) -> None:
        """ValueError if a path is a file that is read, or in a folder that is.

        Args:
            path: the path to write to.
            name: its option, for the message; None for the target's own.
        """
        real = Path(os.path.realpath(path))
        for number, files in enumerate(self._reads):
            # A path that does not exist is no input, but it may be in a folder that is.
            found = () if files is None else files.inputs() if real.exists() else files.folders()
            if is_among(real, found):
                what = "a file of the pool" if number == 0 else "one of the files to read"
                raise ValueError(f"{name or self._name}: {path} is {what}, or in one")

    @contextmanager
    def written(self) -> Iterator[BinaryIO]:
        """The file, which appears when the block ends; or standard output."""
        if self.out is None:
            with standard_output() as file:
                yield file
        else:
            with written_whole(self.out, self.recheck) as file:
                yield file

    def check_record(self) -> None:
        """ValueError if the record cannot be written, is read, or would replace another file."""
        out, record = self.out, self.record
        if out is None or record is None:
            return
        self.check_not_read(record)
        if os.path.realpath(out) == os.path.realpath(record):
            raise ValueError(
                f"{self._name}: wanted another file than {record}: the record of the run goes there"
            )
        try:
            exists = writable_path(record).exists()
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._name}: its record, {record}: {error}") from error
        if exists:
            with record.open("rb") as file:
                if file.read(len(_BEGINNING)) != _BEGINNING:
                    raise ValueError(
                        f"{self._name}: the record of the run would replace {record}, which fastal "
                        "did not write; move it away, or write to another folder"
                    )


class FolderTarget(Target):
    """A folder that a command writes, with its record in it.

    Args:
        out: the folder to make, which must not exist.
        pool: the pool that the command reads.
    """

    def __init__(self, out: Path, pool: Files) -> None:
        self.out = out
        self.record = out / RECORD
        self._reads = (pool,)
        self._name = "out"

    def check(self) -> None:
        """Checks that the folder can be made.

        Raises:
            ValueError: the path exists, even as a broken link; or it is in a folder that is read.
            OSError: its parent folder is missing or cannot be written to.
        """
        assert self.out is not None
        if os.path.lexists(self.out):
            what = "exists" if self.out.exists() else "is a broken link"
            raise ValueError(f"{self._name}: {self.out} {what}")
        self.check_not_read(self.out)
        writable_path(self.out)

    recheck = check

    def check_record(self) -> None:
        """Nothing to check: the folder is new, so it has no record yet."""


def is_among(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path, or a folder that it is in, is one of others. Device and inode decide."""
    places = {found for place in (path, *path.parents) if (found := _identity(place))}
    return any(_identity(other) in places for other in others)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output, for bytes."""
    with naming_path_in_errors("standard output"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
