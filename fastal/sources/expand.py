"""What a pool is named by, to its files: paths, folders, globs, manifests and URLs."""

import glob
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from fastal.sources.location import ZARR, Location, is_url
from fastal.sources.manifest import NAME, Manifest, read_manifest
from fastal.sources.reader import naming

PathLike = str | os.PathLike[str]


def expand(paths: Sequence[PathLike], suffixes: Collection[str]) -> Manifest:
    """The files that are meant, in the order of their places; with several manifests, of all.

    Args:
        paths: as given by the user.
        suffixes: of the files that a folder is searched for.

    Raises:
        FileNotFoundError: nothing is there under one of the paths.
        ValueError: an empty path, or a bad manifest.
    """
    found = [part for path in paths for part in _expand(os.fspath(path), suffixes)]
    columns = {
        (part.id_column, part.group_column) for part in found if part.id_column or part.group_column
    }
    if len(columns) > 1:
        raise ValueError("pool: manifests with different id_column or group_column")
    pairs = [pair for part in found for pair in zip(part.files, part.rows, strict=True)]
    pairs.sort(key=lambda pair: pair[0].key)
    return Manifest(
        [f for f, _ in pairs],
        [n for _, n in pairs],
        *(columns.pop() if columns else (None, None)),
        said_in=tuple(path for part in found for path in part.said_in),
    )


def _expand(name: str, suffixes: Collection[str]) -> list[Manifest]:
    if not name:
        raise ValueError("pool: an empty path")
    if is_url(name):
        return [_plain(_remote(name))]
    path = Path(name)
    if path.exists() or not glob.has_magic(name):
        return [_local(path, suffixes)]
    matching = [Path(p) for p in glob.glob(name, recursive=True)]  # noqa: PTH207 (absolute ones too)
    if not matching:
        raise FileNotFoundError(f"{path}: no file matches")
    return [_local(p, suffixes) for p in matching]


def _local(path: Path, suffixes: Collection[str]) -> Manifest:
    if path.is_dir() and path.suffix.lower() != ZARR:
        if (path / NAME).is_file():
            return read_manifest(path / NAME)
        found = [p for p in path.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "."]
        if not found:
            raise FileNotFoundError(f"{path}: no file of {', '.join(suffixes)} in this folder")
        return _plain([Location(str(p)) for p in found])
    if path.suffix.lower() == ".json" and path.is_file():
        return read_manifest(path)
    return _plain([Location(str(path))])


def _remote(name: str) -> list[Location]:
    if not glob.has_magic(name):
        return [Location(name)]
    with naming(Location(name)):
        fs, path = Location(name).remote
        found = [fs.unstrip_protocol(p) for p in fs.glob(path)]
    if not found:
        raise FileNotFoundError(f"{name}: no file matches")
    return [Location(url) for url in found]


def _plain(files: list[Location]) -> Manifest:
    return Manifest(files, [None] * len(files), None, None)
