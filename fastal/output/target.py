"""What a command writes: checked before the work, and again when it is to take its place."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastal.output.atomic import checked, naming, written_whole
from fastal.output.picks_files import check_writable
from fastal.sources.files import Files

RECORD = "run.json"  # beside what a command writes
_BEGINNING = b'{\n  "command": '  # of a record


class Target:
    """A file that a command writes, and its record; neither may be what is read.

    Args:
        out: the file to be; None: standard output.
        suffixes: one of which it is to have.
        reads: the pool, and what else is read.
        name: of the option, for messages.
        has_record: whether a record stands beside it.

    Attributes:
        record: where the record is to be, None if there is none.

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
        self.record = out.parent / RECORD if has_record and out is not None else None
        self._suffixes = suffixes
        self._reads = reads
        self._name = name
        self.check()

    def check(self) -> None:
        """Raises where one of them cannot be written, or is read, by whatever name.

        Raises:
            ValueError: the file has another suffix or the record's name; one of them is no regular
                file, or is read; or what stands in the record's place is none.
            OSError: the folder is missing or cannot be written to.
            ModuleNotFoundError: a package is missing that writes it.
        """
        if self.out is None:
            if sys.stdout is None:
                raise ValueError(f"{self._name}: standard output is closed")
            return
        if self.out.suffix not in self._suffixes:
            wanted = " or ".join(self._suffixes)
            raise ValueError(f"{self._name}: wanted a {wanted} file, got {self.out}")
        self.spare(self.out)
        checked(self.out)
        check_writable(self._name, self.out.suffix)
        self.check_record()

    def confirm(self) -> None:
        """Raises where the file cannot take its place any more: it is read, or is no file."""
        if self.out is not None:
            self.spare(self.out)
            checked(self.out)

    def spare(self, path: Path, name: str | None = None) -> None:
        """ValueError, naming the option, where a path is read, or is in a folder that is."""
        real = Path(os.path.realpath(path))
        for number, files in enumerate(self._reads):
            # What is not there yet can only be in a folder.
            found = () if files is None else files.inputs() if real.exists() else files.folders()
            if is_among(real, found):
                what = "a file of the pool" if number == 0 else "one of the files to read"
                raise ValueError(f"{name or self._name}: {path} is {what}, or in one")

    @contextmanager
    def written(self) -> Iterator[BinaryIO]:
        """The file, which appears whole when the block ends; or standard output."""
        if self.out is None:
            with standard_output() as file:
                yield file
        else:
            with written_whole(self.out, self.confirm) as file:
                yield file

    def check_record(self) -> None:
        """ValueError where the record cannot be written, is read, or is another tool's file."""
        out, record = self.out, self.record
        if out is None or record is None:
            return
        self.spare(record)
        if os.path.realpath(out) == os.path.realpath(record):
            raise ValueError(
                f"{self._name}: wanted another name than {RECORD}, which is that of the record"
            )
        try:
            is_there = checked(record).exists()
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._name}: its record, {record}: {error}") from error
        if is_there:
            with record.open("rb") as file:
                if file.read(len(_BEGINNING)) != _BEGINNING:
                    raise ValueError(
                        f"{self._name}: {record} is there, and no record of fastal, which would "
                        "take its place; move it away, or write to another folder"
                    )


class FolderTarget(Target):
    """A folder that a command writes, with its record in it.

    Args:
        out: the folder to be, which must not be there.
        pool: what is read.
    """

    def __init__(self, out: Path, pool: Files) -> None:
        self.out = out
        self.record = out / RECORD
        self._reads = (pool,)
        self._name = "out"

    def check(self) -> None:
        """Raises where no folder can be made.

        Raises:
            ValueError: something is there, if only a link to nothing; or it is in what is read.
            OSError: its parent is missing or cannot be written to.
        """
        assert self.out is not None
        if os.path.lexists(self.out):
            what = "exists" if self.out.exists() else "is a link to nothing"
            raise ValueError(f"{self._name}: {self.out} {what}")
        self.spare(self.out)
        checked(self.out)

    confirm = check

    def check_record(self) -> None:
        """The folder is new, and so is its record."""


def is_among(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path, or a folder that it is in, is one of others: by device and inode."""
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
    with naming("standard output"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
