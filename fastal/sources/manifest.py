"""A manifest: a JSON file that lists the files of a pool, and the columns of their rows.

    {"files": ["part-0.parquet", "s3://bucket/part-1.parquet"]}
    {"files": [{"path": "part-0.npy", "rows": 1000, "columns": {"id": "id/part-0.npy"}}],
     "id_column": "id", "dtype": "bfloat16"}

Paths are relative to the manifest. `fastal convert` writes the second form. Since a .npy file holds
one array, ids and groups are files of their own ("columns"). Since NumPy has no bfloat16, such
numbers are stored as their bits, and "dtype" says so.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastal.sources.archive import unique_keys
from fastal.sources.location import Location, is_url

NAME = "manifest.json"  # the name of a folder's manifest
_MOST_BYTES = 64 << 20  # of JSON; once parsed, it takes twenty times as much memory


class Manifest(NamedTuple):
    """The files of a pool or a part of it, from a manifest or not.

    Attributes:
        files: the files.
        rows: for each file, the number of rows it must have; None if that is not given.
        id_column: the column of ids; None if that is not given.
        group_column: the column of groups; None if that is not given.
        read_from: the files that list these files: manifests, or the state.json of Hugging Face.
    """

    files: list[Location]
    rows: list[int | None]
    id_column: str | None = None
    group_column: str | None = None
    read_from: tuple[Path, ...] = ()

    @classmethod
    def of(cls, files: list[Location]) -> "Manifest":
        """Files alone, without a manifest."""
        return cls(files, [None] * len(files))

    def in_path_order(self) -> "Manifest":
        """The same files, in the order of their paths."""
        return self._picked(sorted(range(len(self.files)), key=lambda i: self.files[i].key))

    def without_repeats(self) -> "Manifest":
        """The same files, each once: of several entries for one path, the first."""
        first: dict[str, int] = {}
        for i, file in enumerate(self.files):
            first.setdefault(file.key, i)
        return self._picked(list(first.values()))

    def _picked(self, places: list[int]) -> "Manifest":
        return self._replace(
            files=[self.files[i] for i in places], rows=[self.rows[i] for i in places]
        )


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        ValueError: it is not a regular file, not JSON, or not of this form.
        OSError: it cannot be read.
    """
    try:
        held = read_json(path)
        if not isinstance(held["files"], list):
            raise TypeError("files: wanted a list")
        entries = [e if isinstance(e, dict) else {"path": e} for e in held["files"]]
        files = [_location(path.parent, entry, held.get("dtype")) for entry in entries]
        rows = [entry.get("rows") for entry in entries]
        ids, groups = held.get("id_column"), held.get("group_column")
        if not all(name is None or isinstance(name, str) for name in (ids, groups)):
            raise TypeError("id_column and group_column: wanted names")
        for n in rows:
            if n is not None and (type(n) is not int or n < 0):
                raise TypeError(f"rows: wanted a number of rows, got {n!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: wanted a manifest, {{"files": [paths]}}: {error}') from error
    if not files:
        raise ValueError(f"{path}: the manifest names no file")
    return Manifest(files, rows, ids, groups, (path,))


def joined(parts: Sequence[Manifest]) -> Manifest:
    """Several parts as one; ValueError if they name different columns of ids or groups."""
    columns = {
        (part.id_column, part.group_column) for part in parts if part.id_column or part.group_column
    }
    if len(columns) > 1:
        raise ValueError("pool: manifests with different id_column or group_column")
    ids, groups = columns.pop() if columns else (None, None)
    return Manifest(
        [file for part in parts for file in part.files],
        [n for part in parts for n in part.rows],
        ids,
        groups,
        tuple(path for part in parts for path in part.read_from),
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is not a regular file, not JSON, too long, nested too deeply, or has a key
            twice.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"wanted at most {_MOST_BYTES >> 20} MB of JSON")
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (RecursionError, MemoryError) as error:
        raise ValueError("its JSON is nested too deeply, or needs too much memory") from error


def _location(folder: Path, entry: dict[str, Any], dtype: str | None) -> Location:
    if dtype not in (None, "bfloat16"):
        raise TypeError(f"dtype: wanted bfloat16, got {dtype!r}")
    columns = {n: Location(_resolved(folder, p)) for n, p in entry.get("columns", {}).items()}
    file = Location(_resolved(folder, entry["path"]), columns, dtype)
    if columns and (file.suffix != ".npy" or "" in columns):
        raise ValueError(f"columns: wanted names of columns of a .npy file, got those of {file}")
    return file


def _resolved(folder: Path, name: Any) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise TypeError(f"wanted a path, got {name!r}")
    return name if is_url(name) else str(folder / name)
