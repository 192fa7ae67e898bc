"""Walks a folder with all its subfolders."""

import os
from collections.abc import Iterator
from pathlib import Path


def walk(
    root: Path, seen: set[tuple[int, int]] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yields each folder, from `root` down, with the names of its subfolders and of its files.

    As with `os.walk`, a subfolder that the caller removes from the list is not entered. There are
    four differences. Links are followed. Each folder is visited once, by the first of its paths.
    Names are sorted. The depth is not limited.

    Args:
        root: the folder to begin with.
        seen: folders (device and inode) to pass over. The folders of this walk are added.

    Raises:
        OSError: a folder cannot be read.
    """
    seen = set() if seen is None else seen
    pending = [root]
    while pending:
        here = pending.pop()
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
        pending += [here / name for name in reversed(folders)]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example, a link to itself: reading it gives the error
        return False
