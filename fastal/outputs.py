"""Output files that appear whole or not at all, and the form of numbers in them."""

import os
import secrets
from collections.abc import Iterator
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
        ValueError: `path` exists and is no regular file.
        OSError: the folder is missing or cannot be written to.
    """
    path = _checked(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with _replacing(aside, path, "xb") as file:
            yield file
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def written_in_parts(path: Path, *, go_on: bool) -> Iterator[BinaryIO]:
    """The same, but what was written stays beside `path` until the block ends well.

    Args:
        path: the file to be.
        go_on: open what an earlier block left, which must be there (`partial`), at its beginning.
    """
    path = _checked(path)
    with _replacing(partial(path), path, "r+b" if go_on else "w+b") as file:
        yield file


def partial(path: Path) -> Path:
    """Where `written_in_parts` keeps what is not whole yet."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.partial")


def to_disk(file: IO[Any]) -> None:
    """Waits until what was written is on disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _replacing(aside: Path, path: Path, mode: str) -> Iterator[BinaryIO]:
    try:
        with cast("BinaryIO", aside.open(mode)) as file:
            yield file
            to_disk(file)
        aside.replace(path)
    except OSError as error:
        if error.errno and error.filename is None:  # a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checked(path: Path) -> Path:
    path = Path(os.path.realpath(path))  # what a link stands for; unlike resolve, never raises
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    return path


def csv_lines(*columns: NDArray[Any]) -> Iterator[bytes]:
    """Columns of numbers as CSV, some lines at a time; floats read back to the same bits."""
    for first in range(0, len(columns[0]), _CSV_ROWS):
        # NumPy's own text of a float is the shortest that does.
        texts = [column[first : first + _CSV_ROWS].astype(np.str_).tolist() for column in columns]
        yield "".join(",".join(line) + "\n" for line in zip(*texts, strict=True)).encode()
