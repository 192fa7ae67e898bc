"""Output files that appear whole or not at all, and the form of numbers in them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

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
    path = Path(os.path.realpath(path))  # what a link stands for; unlike resolve, never raises
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def csv_lines(*columns: NDArray[Any]) -> Iterator[bytes]:
    """Columns of numbers as CSV, some lines at a time; floats read back to the same bits."""
    for first in range(0, len(columns[0]), _CSV_ROWS):
        # NumPy's own text of a float is the shortest that does.
        texts = [column[first : first + _CSV_ROWS].astype(np.str_).tolist() for column in columns]
        yield "".join(",".join(line) + "\n" for line in zip(*texts, strict=True)).encode()
