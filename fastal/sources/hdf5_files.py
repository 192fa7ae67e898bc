"""Files that an HDF5 file refers to: how libhdf5 finds them, and which of them are open."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

_SPARE = 4  # descriptors: libhdf5 needs one at a time, and other threads may need some


class OpenFiles:
    """HDF5 files that stay open until the block ends, or until `close`.

    Attributes:
        files: h5py's files, by path.
    """

    def __init__(self) -> None:
        self.files: dict[Path, Any] = {}

    def __enter__(self) -> "OpenFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self, path: Path) -> Any:
        """Opens a file, unless it is open already.

        Raises:
            ValueError: it is not a regular file.
            OSError: it is not an HDF5 file, or cannot be read.
        """
        import h5py

        if path not in self.files:
            if not path.is_file():
                raise ValueError(f"{path}: not a regular file")
            self.files[path] = h5py.File(path, "r", locking=False)
        return self.files[path]

    def check_descriptors(self) -> None:
        """OSError if too few descriptors are left: libhdf5 opens each file again for a moment."""
        with ExitStack() as stack:
            for _ in range(_SPARE):
                stack.enter_context(Path(os.devnull).open())

    def close(self) -> None:
        """Closes all files."""
        while self.files:
            self.files.popitem()[1].close()


def candidates(name: str, of: Path, variable: str) -> Iterator[Path]:
    """The paths where libhdf5 looks for a file that another file names, in its order.

    Args:
        name: the name, as the other file has it.
        of: the other file.
        variable: the environment variable with folders to search.
    """
    prefixes = os.environ.get(variable, "")
    # libhdf5 expands this with the environment that the process started with, which may differ.
    if "${ORIGIN}" in prefixes:
        raise ValueError(f"{variable}: wanted folders, got {prefixes!r}")
    path = Path(name)
    if path.is_absolute():
        yield path
        path = Path(path.name)
    folders = filter(None, prefixes.split(os.pathsep))
    for folder in (*map(Path, folders), of.parent, Path(), of.resolve().parent):
        yield folder / path


def external_files(dataset: Any, of: Path) -> list[Path]:
    """The raw files that store a dataset of the file `of`.

    Any file could be read as numbers, so they must be in the folder of the HDF5 file or below it.

    Raises:
        ValueError: one of them is missing, elsewhere, or too short.
    """
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(of.parent))
    missing = dataset.size * dataset.id.get_type().get_size()
    found = []
    for name, offset, n_bytes in dataset.external:
        path = Path(prefix, name)
        prefix_of_errors = f"the external storage of {dataset.name}, {path}"
        if not path.exists():
            raise ValueError(
                f"{prefix_of_errors}: no such file; it is looked for in the working folder, or in "
                "that of the HDF5 file with HDF5_EXTFILE_PREFIX='${ORIGIN}'"
            )
        if not path.is_file() or not path.resolve().is_relative_to(of.resolve().parent):
            raise ValueError(
                f"{prefix_of_errors}: wanted a regular file in the folder of the HDF5 file"
            )
        n_bytes = min(missing, n_bytes)
        if path.stat().st_size < offset + n_bytes:
            raise ValueError(f"{prefix_of_errors}: it is shorter than what it should hold")
        missing -= n_bytes
        found.append(path)
    if missing:
        raise ValueError(f"the external storage of {dataset.name} lacks {missing:,} bytes")
    return found
