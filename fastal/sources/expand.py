"""The files that paths stand for: files, folders, globs, manifests and URLs."""

import glob
import logging
import os
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from fastal.sources.folder import is_ignored, read_folder
from fastal.sources.location import ZARR, Location, is_url
from fastal.sources.manifest import NAME, Manifest, joined, read_manifest
from fastal.sources.pattern import SHOWN, is_pattern, matches
from fastal.sources.reader import naming_file_in_errors
from fastal.sources.text import first_names

_log = logging.getLogger("fastal")
PathLike = str | os.PathLike[str]


def expand(
    paths: Sequence[PathLike], suffixes: Collection[str]
) -> tuple[Manifest, tuple[Location, Location] | None]:
    """The files that the paths stand for, in path order.

    Files that a folder or a pattern would have, and that are ignored because of their names or of
    a state.json, are logged as a warning.

    Args:
        paths: as given by the user.
        suffixes: the suffixes of files that a folder is searched for.

    Returns:
        The files; and the first two that the user named in another order, None if there are none.

    Raises:
        FileNotFoundError: one of the paths names nothing.
        ValueError: a path is empty, or a manifest is bad.
    """
    ignored: list[str] = []
    named = joined([_expand(os.fsdecode(path), suffixes, ignored) for path in paths])
    if ignored:
        _log.warning(
            "left out, because of their names or because state.json does not list them (to read "
            "one, name it): %s",
            first_names(ignored, SHOWN),
        )
    pairs = pairwise(named.files)
    return named.in_path_order(), next((p for p in pairs if p[0].key > p[1].key), None)


def _expand(name: str, suffixes: Collection[str], ignored: list[str]) -> Manifest:
    if not name:
        raise ValueError("pool: an empty path")
    if "\0" in name:
        raise ValueError(f"pool: {name!r} is no path: it has a null character")
    if is_url(name):
        return Manifest.of(_remote(name, ignored)).in_path_order()
    ignored_here: list[str] = []
    if is_pattern(name):
        matching = matches(name, ignored_here)
        # Other JSON files usually describe the data, unless the pattern is one of .json files.
        if Path(name).suffix.lower() != ".json":
            described = [p for p in matching if p.suffix.lower() == ".json" and p.name != NAME]
            ignored_here += map(str, described)
            matching = [path for path in matching if path not in described]
        parts = [_local(path, suffixes, ignored_here) for path in matching]
        # A manifest also says how many rows its files have: its entries come before plain files.
        parts.sort(key=lambda part: not part.read_from)
        found, missing = joined(parts).in_path_order().without_repeats(), "no file matches"
    else:
        found = _local(Path(name), suffixes, ignored_here)
        missing = f"no file of {', '.join(suffixes)} in this folder or below it"
    if not found.files:
        but = f"; {ignored_here[0]} is ignored because of its name" if ignored_here else ""
        raise FileNotFoundError(f"{name}: {missing}{but}")
    ignored += ignored_here
    return found


def _local(path: Path, suffixes: Collection[str], ignored: list[str]) -> Manifest:
    if path.is_dir() and path.suffix.lower() != ZARR:
        return read_folder(path, suffixes, ignored)
    if path.suffix.lower() == ".json" and path.is_file():
        return read_manifest(path)
    return Manifest.of([Location(str(path))])


def _remote(name: str, ignored: list[str]) -> list[Location]:
    if not glob.has_magic(name):
        return [Location(name)]
    with naming_file_in_errors(Location(name)):
        fs, path = Location(name).remote
        if fs.exists(path):
            return [Location(name)]
        found = [fs.unstrip_protocol(p) for p in fs.glob(path)]
    ignored_here = {url for url in found if _is_ignored(url, name)}
    ignored += sorted(ignored_here)
    if len(ignored_here) == len(found):
        raise FileNotFoundError(f"{name}: no file matches")
    return [Location(url) for url in found if url not in ignored_here]


def _is_ignored(url: str, pattern: str) -> bool:
    """Whether a URL that matches a pattern has an ignored name in the part that has wildcards.

    A name is not ignored if a part of the pattern begins with the same character, "." or "_".
    """
    parts = pattern.split("/")
    head = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    named = {part[:1] for part in parts[head:]} - {"*", "?", "["}
    return any(is_ignored(part) and part[0] not in named for part in url.split("/")[head:])
