"""A folder with all that is under it."""

import os
from collections.abc import Iterator
from pathlib import Path


def walk(
    root: Path, seen: set[tuple[int, int]] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder under `root`, itself first, with the names of its subfolders and of its files.

    As `os.walk`, from the top: what the caller removes from the list of subfolders is not entered.
    But links are followed, each folder is visited once, by the name that comes first, names are
    sorted, and depth is not limited.

    Args:
        root: where to begin.
        seen: folders that were visited already; those of this walk are added.

    Raises:
        OSError: a folder cannot be read.
    """
    seen = set() if seen is None else seen
    ahead = [root]
    while ahead:
        here = ahead.pop()
        stat = here.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders: list[str] = []
        files: list[str] = []
        with os.scandir(here) as entries:
            for entry in entries:
                (folders if _is_folder(entry) else files).append(entry.name)
        folders.sort()
        files.sort()
        yield here, folders, files
        ahead += [here / name for name in reversed(folders)]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say: whoever reads it says what is wrong
        return False
