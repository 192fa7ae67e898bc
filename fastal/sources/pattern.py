"""Patterns of paths, such as `runs/*/part-[0-9].npy` and `runs/**/*.npy`."""

import glob
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import filter as matching
from pathlib import Path

from fastal.sources.folder import is_aside, is_searched
from fastal.sources.walk import walk

_log = logging.getLogger("fastal")
_SHOWN = 3


def is_pattern(name: str) -> bool:
    """Whether it can only be a pattern: it has wildcards, and no file or folder has this name."""
    return glob.has_magic(name) and not os.path.lexists(name)


def matches(pattern: str, left_out: list[str]) -> list[Path]:
    """What matches a pattern, folder by folder; names that are there as they stand are no patterns.

    `*` matches no name that lies beside the data (see `is_aside`), unless the pattern begins with
    the same character; `**` stands for a folder and all that are below it, each of them once.

    Args:
        pattern: with `*`, `?`, `[...]` and `**`.
        left_out: gets what would have matched and lies beside the data, but for hidden names.

    Raises:
        OSError: a folder cannot be read.
    """
    in_brackets: list[str] = []
    seen: dict[int, set[tuple[int, int]]] = defaultdict(set)  # by each ** of the pattern

    def below(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
        if not parts:
            yield folder
            return
        part, rest = parts[0], parts[1:]
        if os.path.lexists(folder / part):  # which a folder named ** is, too
            yield from below(folder / part, rest)
        elif not folder.is_dir():
            return
        elif part == "**" and not rest:
            yield folder  # which is searched with its subfolders
        elif part == "**":
            for here, folders, _ in walk(folder, seen[len(rest)]):
                folders[:] = [name for name in folders if is_searched(name)]
                yield from below(here, rest)
        elif glob.has_magic(part):
            found = sorted(matching([path.name for path in folder.iterdir()], part))
            aside = {name for name in found if is_aside(name) and name[0] != part[0]}
            left_out.extend(str(folder / name) for name in sorted(aside) if name[0] != ".")
            found = [name for name in found if name not in aside]
            if "[" in part:
                in_brackets.extend(str(folder / name) for name in found)
            for name in found:
                yield from below(folder / name, rest)

    found = list(below(Path(), Path(pattern).parts))
    if in_brackets:
        _log.warning(
            "%s: nothing has this name, so it is a pattern, and matches %s",
            pattern, some(in_brackets),
        )  # fmt: skip
    return found


def some(names: Sequence[str]) -> str:
    """The first few names, and how many there are besides."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
