"""Patterns of paths, such as `runs/*/part-[0-9].npy` and `runs/**/*.npy`."""

import glob
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import filter as matching
from pathlib import Path

from fastal.sources.folder import is_ignored, is_searched
from fastal.sources.text import first_names
from fastal.sources.walk import walk

_log = logging.getLogger("fastal")
SHOWN = 3  # the most paths in a log line


def is_pattern(name: str) -> bool:
    """Whether a path is a pattern: it has wildcards, and no file or folder has this very name."""
    return glob.has_magic(name) and not os.path.lexists(name)


def matches(pattern: str, ignored: list[str]) -> list[Path]:
    """The paths that match a pattern, folder by folder.

    A part of the pattern that is the name of an existing file or folder matches only this one. `*`
    matches no ignored name (see `is_ignored`), unless the pattern begins with the same character.
    `**` matches a folder and all folders below it, each of them once.

    Args:
        pattern: with `*`, `?`, `[...]` and `**`.
        ignored: receives the ignored names that would match, except hidden ones (".").

    Raises:
        OSError: a folder cannot be read.
    """
    in_brackets: list[str] = []
    # For each ** of the pattern, the folders (device and inode) that it matched so far.
    seen: dict[int, set[tuple[int, int]]] = defaultdict(set)

    def below(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
        if not parts:
            yield folder
            return
        part, rest = parts[0], parts[1:]
        if os.path.lexists(folder / part):  # even a folder may be named **
            yield from below(folder / part, rest)
        elif not folder.is_dir():
            return
        elif part == "**" and not rest:
            yield folder  # the caller searches a folder with its subfolders
        elif part == "**":
            for here, folders, _ in walk(folder, seen[len(rest)]):
                folders[:] = [name for name in folders if is_searched(name)]
                yield from below(here, rest)
        elif glob.has_magic(part):
            found = sorted(matching([path.name for path in folder.iterdir()], part))
            out = {name for name in found if is_ignored(name) and name[0] != part[0]}
            ignored.extend(str(folder / name) for name in sorted(out) if name[0] != ".")
            found = [name for name in found if name not in out]
            if "[" in part:
                in_brackets.extend(str(folder / name) for name in found)
            for name in found:
                yield from below(folder / name, rest)

    found = list(below(Path(), Path(pattern).parts))
    if in_brackets:
        _log.warning(
            "%s: nothing has this name, so it is a pattern, and matches %s",
            pattern, first_names(in_brackets, SHOWN),
        )  # fmt: skip
    return found
