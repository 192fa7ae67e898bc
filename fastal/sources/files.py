"""Files as one pool: paths, folders and globs to sources, one after the other."""

import glob
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from fastal.sources.npy import NpyFile

PathLike = str | os.PathLike[str]

# One reader a format, by suffix.
_READERS: dict[str, Callable[[Path], NpyFile]] = {".npy": NpyFile}


class Files:
    """Files with rows of one shape as one pool; rows are numbered across them in path order.

    Raises:
        FileNotFoundError: nothing is there under one of the paths.
        ValueError: a file is named twice, or its rows have another shape than the first file's.
    """

    def __init__(self, paths: Sequence[PathLike]) -> None:
        expanded = [p for path in paths for p in _expand(path)]
        self.files = [_open(path) for path in sorted(expanded, key=os.path.abspath)]
        first = self.files[0]
        seen: set[str] = set()
        for file in self.files:
            if file.row_shape != first.row_shape:
                raise ValueError(
                    f"{file.path}: rows of shape {file.row_shape}, where those of "
                    f"{first.path} are of shape {first.row_shape}"
                )
            if (real := os.path.realpath(file.path)) in seen:
                raise ValueError(f"pool: {file.path} is named twice")
            seen.add(real)
        # The number of each file's first row, and of the row after the last.
        self.starts = [0, *accumulate(file.n_rows for file in self.files)]
        self.n_rows = self.starts[-1]
        self.row_bytes = max(file.row_bytes for file in self.files)

    def chunks(self, rows: int) -> Iterator[tuple[int, Any]]:
        """See `Source.chunks`; no chunk spans two files. An empty pool is one empty chunk."""
        for offset, file in zip(self.starts, self.files, strict=False):
            if not file.n_rows and (self.n_rows or file is not self.files[-1]):
                continue
            for start, chunk in file.chunks(rows):
                yield offset + start, chunk

    def locate(self, row: int) -> str:
        """See `Source.locate`."""
        index = min(bisect_right(self.starts, row), len(self.files)) - 1
        return self.files[index].locate(row - self.starts[index])


def _expand(path: PathLike) -> list[Path]:
    if not str(path):
        raise ValueError("pool: an empty path")
    path = Path(path)
    if path.exists() or not glob.has_magic(str(path)):
        return _files_in(path) if path.is_dir() else [path]
    found = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207 (absolute ones too)
    if not found:
        raise FileNotFoundError(f"{path}: no file matches")
    return [file for p in found for file in (_files_in(p) if p.is_dir() else [p])]


def _files_in(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.suffix in _READERS and not p.name.startswith(".")]
    if not found:
        raise FileNotFoundError(f"{folder}: no {' or '.join(_READERS)} file in this folder")
    return found


def _open(path: Path) -> NpyFile:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: wanted a {' or '.join(_READERS)} file")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    return _READERS[path.suffix](path)
