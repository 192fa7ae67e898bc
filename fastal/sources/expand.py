"""What a pool is named by, to its files: paths, folders, globs, manifests and URLs."""

import glob
import logging
import os
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from fastal.sources.folder import is_aside, read_folder
from fastal.sources.location import ZARR, Location, is_url
from fastal.sources.manifest import NAME, Manifest, joined, read_manifest
from fastal.sources.pattern import is_pattern, matches, some
from fastal.sources.reader import naming

_log = logging.getLogger("fastal")
PathLike = str | os.PathLike[str]


def expand(
    paths: Sequence[PathLike], suffixes: Collection[str]
) -> tuple[Manifest, tuple[Location, Location] | None]:
    """The files that are meant, in path order; and the first two that were named in another.

    What lies beside the data of a folder or a pattern, and was left out, is logged.

    Args:
        paths: as given by the user.
        suffixes: of the files that a folder is searched for.

    Raises:
        FileNotFoundError: nothing is there under one of the paths.
        ValueError: an empty path, or a bad manifest.
    """
    left_out: list[str] = []
    named = joined([_expand(os.fsdecode(path), suffixes, left_out) for path in paths])
    if left_out:
        _log.warning(
            "left out, being no shards by their names or by state.json (to read one, name it): %s",
            some(left_out),
        )
    pairs = pairwise(named.files)
    return named.in_path_order(), next((p for p in pairs if p[0].key > p[1].key), None)


def _expand(name: str, suffixes: Collection[str], left_out: list[str]) -> Manifest:
    if not name:
        raise ValueError("pool: an empty path")
    if "\0" in name:
        raise ValueError(f"pool: {name!r} is no path")
    if is_url(name):
        return Manifest.of(_remote(name, left_out)).in_path_order()
    aside: list[str] = []
    if is_pattern(name):
        matching = matches(name, aside)
        if Path(name).suffix.lower() != ".json":  # other JSON describes the data, as a rule
            described = [p for p in matching if p.suffix.lower() == ".json" and p.name != NAME]
            aside += map(str, described)
            matching = [path for path in matching if path not in described]
        parts = [_local(path, suffixes, aside) for path in matching]
        parts.sort(key=lambda part: not part.read_from)  # a manifest says more of its files
        found, missing = joined(parts).in_path_order().each_once(), "no file matches"
    else:
        found = _local(Path(name), suffixes, aside)
        missing = f"no file of {', '.join(suffixes)} in this folder or below it"
    if not found.files:
        but = f"; {aside[0]} is no shard by its name" if aside else ""
        raise FileNotFoundError(f"{name}: {missing}{but}")
    left_out += aside
    return found


def _local(path: Path, suffixes: Collection[str], left_out: list[str]) -> Manifest:
    if path.is_dir() and path.suffix.lower() != ZARR:
        return read_folder(path, suffixes, left_out)
    if path.suffix.lower() == ".json" and path.is_file():
        return read_manifest(path)
    return Manifest.of([Location(str(path))])


def _remote(name: str, left_out: list[str]) -> list[Location]:
    if not glob.has_magic(name):
        return [Location(name)]
    with naming(Location(name)):
        fs, path = Location(name).remote
        if fs.exists(path):
            return [Location(name)]
        found = [fs.unstrip_protocol(p) for p in fs.glob(path)]
    aside = {url for url in found if _is_aside(url, name)}
    left_out += sorted(aside)
    if len(aside) == len(found):
        raise FileNotFoundError(f"{name}: no file matches")
    return [Location(url) for url in found if url not in aside]


def _is_aside(url: str, pattern: str) -> bool:
    """Whether a file or folder that a pattern of URLs matches lies beside the data."""
    parts = pattern.split("/")
    head = next(i for i, part in enumerate(parts) if glob.has_magic(part))  # meant as it stands
    meant = {part[:1] for part in parts[head:]} - {"*", "?", "["}
    return any(is_aside(part) and part[0] not in meant for part in url.split("/")[head:])
