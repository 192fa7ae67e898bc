"""What a folder's pool consists of.

A folder is searched with its subfolders for files of a known suffix. A manifest says what its
folder holds, as does the `state.json` of a data set that Hugging Face's `datasets` saved: such a
folder is a pool of its own, not to be mixed with other files. Names that begin with "." or "_" are
no shards, nor are the caches that `datasets` leaves beside the data (`cache-*.arrow`), nor what is
in folders of such names.
"""

import os
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fastal.sources.location import ZARR, Location
from fastal.sources.manifest import NAME, Manifest, joined, read_json, read_manifest
from fastal.sources.walk import walk

_STATE, _SPLITS = "state.json", "dataset_dict.json"  # of Hugging Face's datasets


def read_folder(folder: Path, suffixes: Collection[str], left_out: list[str]) -> Manifest:
    """The files of a folder, in path order, or as its manifest has them; there may be none.

    Args:
        folder: which.
        suffixes: that files have.
        left_out: gets the names of what might be taken for a shard, and is none.

    Raises:
        ValueError: a bad manifest, or one beside other files; or the splits of a data set, of
            which one is to be named.
        OSError: a folder cannot be read.
    """
    found = []
    for here, folders, files in walk(folder):
        if here != folder and NAME in files and _held(here / NAME, "files") is None:
            left_out.append(str(here / NAME))  # of another tool
        elif NAME in files or NAME in folders:
            found.append(read_manifest(here / NAME))
            if here == folder:
                return found[0]
            folders.clear()
            continue
        held = [n for n in files if _suffix(n) in suffixes]
        held += [n for n in folders if _suffix(n) == ZARR]
        read_from: tuple[Path, ...] = ()
        if (saved := _saved_by_hugging_face(here, files)) is None:
            shards = [n for n in held if not is_aside(n)]
            held += [n for n in folders if n.startswith("_")]
            folders[:] = [n for n in folders if is_searched(n)]
        else:
            shards, read_from = saved, (here / _STATE,)
            folders.clear()
        left_out += [str(here / n) for n in sorted({*held} - {*shards})]
        part = Manifest.of([Location(str(here / n)) for n in shards])
        found.append(part._replace(read_from=read_from))
    pools = [part.read_from[0] for part in found if part.read_from]
    others = [part.files[0] for part in found if part.files and not part.read_from]
    if pools and others:  # such as what it was converted to
        raise ValueError(
            f"{folder}: it holds {others[0]}, and a pool of its own, {pools[0]}: name what is meant"
        )
    return joined(found).in_path_order()


def is_aside(name: str) -> bool:
    """Whether a file or folder of this name lies beside the data, and is none of them."""
    return name.startswith((".", "_")) or fnmatchcase(name, "cache-*.arrow")


def is_searched(name: str) -> bool:
    """Whether a subfolder of this name is searched."""
    return not is_aside(name) and _suffix(name) != ZARR and name != "lost+found"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (of names, many of them)


def _saved_by_hugging_face(folder: Path, files: Collection[str]) -> list[str] | None:
    """The files of the data set that `save_to_disk` put in a folder, None where it is none."""
    if _SPLITS in files and (splits := _names(_held(folder / _SPLITS, "splits"))):
        named = ", ".join(str(folder / split) for split in splits)
        raise ValueError(f"{folder}: a data set of several splits, wanted one of {named}")
    entries = _held(folder / _STATE, "_data_files") if _STATE in files else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    if _held(folder / _STATE, "_indices_data_files"):
        raise ValueError(
            f"{folder}: a data set whose rows are picked from its files by indices, which are not "
            "read: save what flatten_indices() gives"
        )
    return _names([entry.get("filename") for entry in entries])


def _held(path: Path, key: str) -> Any:
    """What a JSON file holds under this key, None where there is no such."""
    try:
        held = read_json(path)
    except ValueError:
        return None
    return held.get(key) if isinstance(held, dict) else None


def _names(found: Any) -> list[str] | None:
    is_names = isinstance(found, list) and all(isinstance(x, str) and "\0" not in x for x in found)
    return found if is_names else None
