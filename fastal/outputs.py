"""Output files that appear whole or not at all, and the form of numbers in them."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

_CSV_ROWS = 1 << 14  # text is some twenty times the size of the numbers: a little at a time


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends, on disk by then.

    If the block raises, or the process dies in it, `path` is what it was.

    Raises:
        ValueError, OSError: see `checked`.
    """
    path = checked(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with naming(path), cast("BinaryIO", aside.open("xb")) as file:
            yield file
            _put(file, aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def written_in_parts(path: Path, *, go_on: bool, keeps: Callable[[], bool]) -> Iterator[BinaryIO]:
    """The same, but what was written may stay beside `path` where the block raises.

    Args:
        path: the file to be.
        go_on: open what an earlier block left, which must be there (`partial`), at its beginning.
        keeps: whether it is to stay.

    Raises:
        ValueError, OSError: see `checked`; or another process is writing it.
    """
    path = checked(path)
    aside = partial(path)
    with naming(path), _alone(aside) as file:
        try:
            if not go_on:
                file.truncate()
            yield file
            _put(file, aside, path)
        except BaseException:
            if not keeps():
                aside.unlink(missing_ok=True)
            raise


def partial(path: Path) -> Path:
    """Where `written_in_parts` keeps what is not whole yet."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.partial")


def checked(path: Path) -> Path:
    """What `path` stands for, where a file can be put there.

    Raises:
        ValueError: it exists and is no regular file.
        OSError: the folder is missing or cannot be written to.
    """
    path = Path(os.path.realpath(path))  # what a link stands for; unlike resolve, never raises
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent}: cannot be written to")
    return path


def lock(file: int) -> bool:
    """Locks an open file or folder until it is closed; False: another process holds it."""
    import fcntl  # there is none on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """A file, made if missing, that no other process has open so."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    with os.fdopen(file, "r+b") as opened:
        # Whoever held it may have given it its name meanwhile.
        if not lock(file) or not (path.exists() and os.path.samestat(os.fstat(file), path.stat())):
            raise ValueError(f"{path}: another run is writing it")
        yield opened


def to_disk(file: IO[Any]) -> None:
    """Waits until what was written is on disk."""
    file.flush()
    os.fsync(file.fileno())


def to_disk_folder(path: Path) -> None:
    """Waits until the names in a folder are on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _put(file: BinaryIO, aside: Path, path: Path) -> None:
    """Gives a file that is open under the name `aside` its name, on disk."""
    to_disk(file)
    aside.replace(path)
    to_disk_folder(path.parent)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Has an OSError of a file that is written name it, where none is named."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:  # a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def csv_lines(*columns: NDArray[Any]) -> Iterator[bytes]:
    """Columns of numbers as CSV, some lines at a time; floats read back to the same bits."""
    for first in range(0, len(columns[0]), _CSV_ROWS):
        # NumPy's own text of a float is the shortest that does.
        texts = [column[first : first + _CSV_ROWS].astype(np.str_).tolist() for column in columns]
        yield "".join(",".join(line) + "\n" for line in zip(*texts, strict=True)).encode()
