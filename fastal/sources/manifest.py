"""A manifest: a JSON file that names the files of a pool, and what belongs to their rows.

    {"files": ["part-0.parquet", "s3://bucket/part-1.parquet"]}
    {"files": [{"path": "part-0.npy", "rows": 1000, "columns": {"id": "id/part-0.npy"}}],
     "id_column": "id", "dtype": "bfloat16"}

Paths are relative to the manifest. `fastal convert` writes the second form: .npy files hold one
array each, so ids and groups are files of their own, and bfloat16 is kept as its bits.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from fastal.sources.location import Location, is_url

NAME = "manifest.json"  # a folder that has one is read by it


class Manifest(NamedTuple):
    """Files, the rows that each should have (None: not said), the columns to take, and where this
    is said.
    """

    files: list[Location]
    rows: list[int | None]
    id_column: str | None
    group_column: str | None
    said_in: tuple[Path, ...] = ()


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        ValueError: it is no JSON, or not of this form.
        OSError: it cannot be read.
    """
    try:
        held = json.loads(path.read_text("utf-8"))
        if not isinstance(held["files"], list):
            raise TypeError("files: wanted a list")
        entries = [e if isinstance(e, dict) else {"path": e} for e in held["files"]]
        files = [_location(path.parent, entry, held.get("dtype")) for entry in entries]
        rows = [entry.get("rows") for entry in entries]
        columns = [held.get(name) for name in ("id_column", "group_column")]
        if not all(value is None or isinstance(value, str) for value in columns):
            raise TypeError("id_column and group_column: wanted names")
        if not all(n is None or (isinstance(n, int) and n >= 0) for n in rows):
            raise TypeError("rows: wanted a number")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'{path}: wanted a manifest, {{"files": [paths]}}: {error}') from error
    if not files:
        raise ValueError(f"{path}: the manifest names no file")
    id_column, group_column = columns
    return Manifest(files, rows, id_column, group_column, (path,))


def _location(folder: Path, entry: dict[str, Any], dtype: str | None) -> Location:
    if dtype not in (None, "bfloat16"):
        raise TypeError(f"dtype: wanted bfloat16, got {dtype!r}")
    columns = {n: Location(_resolved(folder, p)) for n, p in entry.get("columns", {}).items()}
    return Location(_resolved(folder, entry["path"]), columns, dtype)


def _resolved(folder: Path, name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"wanted a path, got {name!r}")
    return name if is_url(name) else str(folder / name)
