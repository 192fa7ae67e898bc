"""The files of a folder.

A folder is searched with its subfolders for files of a known suffix. Three rules restrict it:

- If a folder has a manifest, only the files listed there belong to it. The same is true of the
  `state.json` of a data set that Hugging Face's `datasets` saved. Such a folder is a pool of its
  own, and may not be mixed with other files.
- Names that begin with "." or "_" are ignored, and so are the caches that `datasets` leaves with
  the data (`cache-*.arrow`).
- Folders with ignored names are not searched.
"""

import os
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fastal.sources.location import ZARR, Location
from fastal.sources.manifest import NAME, Manifest, joined, read_json, read_manifest
from fastal.sources.walk import walk

_STATE, _SPLITS = "state.json", "dataset_dict.json"  # files that `datasets` writes


def read_folder(folder: Path, suffixes: Collection[str], ignored: list[str]) -> Manifest:
    """The files of a folder: in path order, or as its manifest lists them. There may be none.

    Args:
        folder: the folder.
        suffixes: the suffixes of files to search for.
        ignored: receives the names that would be read without the rules above.

    Raises:
        ValueError: a manifest is bad, or lies in a folder with other files; or the folder is a data
            set of several splits, of which one must be named.
        OSError: a folder cannot be read.
    """
    found = []
    for here, folders, files in walk(folder):
        if here != folder and NAME in files and _value(here / NAME, "files") is None:
            ignored.append(str(here / NAME))  # a manifest.json of another tool
        elif NAME in files or NAME in folders:
            found.append(read_manifest(here / NAME))
            if here == folder:
                return found[0]
            folders.clear()
            continue
        candidates = [n for n in files if _suffix(n) in suffixes]
        candidates += [n for n in folders if _suffix(n) == ZARR]
        read_from: tuple[Path, ...] = ()
        if (saved := _saved_by_hugging_face(here, files)) is None:
            shards = [n for n in candidates if not is_ignored(n)]
            candidates += [n for n in folders if n.startswith("_")]
            folders[:] = [n for n in folders if is_searched(n)]
        else:
            shards, read_from = saved, (here / _STATE,)
            folders.clear()
        ignored += [str(here / n) for n in sorted({*candidates} - {*shards})]
        part = Manifest.of([Location(str(here / n)) for n in shards])
        found.append(part._replace(read_from=read_from))
    pools = [part.read_from[0] for part in found if part.read_from]
    others = [part.files[0] for part in found if part.files and not part.read_from]
    if pools and others:  # for example, shards that these files were converted to
        raise ValueError(
            f"{folder}: it holds {others[0]}, and a pool of its own, {pools[0]}: name one of them"
        )
    return joined(found).in_path_order()


def is_ignored(name: str) -> bool:
    """Whether folders and patterns ignore a file or folder of this name."""
    return name.startswith((".", "_")) or fnmatchcase(name, "cache-*.arrow")


def is_searched(name: str) -> bool:
    """Whether a subfolder of this name is searched."""
    return not is_ignored(name) and _suffix(name) != ZARR and name != "lost+found"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (pathlib is slow for many names)


def _saved_by_hugging_face(folder: Path, files: Collection[str]) -> list[str] | None:
    """The files of the data set that `save_to_disk` put in a folder; None if there is none."""
    if _SPLITS in files and (splits := _names(_value(folder / _SPLITS, "splits"))):
        named = ", ".join(str(folder / split) for split in splits)
        raise ValueError(f"{folder}: a data set of several splits, wanted one of {named}")
    entries = _value(folder / _STATE, "_data_files") if _STATE in files else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    if _value(folder / _STATE, "_indices_data_files"):
        raise ValueError(
            f"{folder}: a data set whose rows are picked from its files by indices, which are not "
            "read: call flatten_indices() and save the result"
        )
    return _names([entry.get("filename") for entry in entries])


def _value(path: Path, key: str) -> Any:
    """The value of a key in a JSON file; None if there is none, or the file is not JSON."""
    try:
        held = read_json(path)
    except ValueError:
        return None
    return held.get(key) if isinstance(held, dict) else None


def _names(found: Any) -> list[str] | None:
    """The value, if it is a list of names; else None."""
    is_names = isinstance(found, list) and all(isinstance(x, str) and "\0" not in x for x in found)
    return found if is_names else None
