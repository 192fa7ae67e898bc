"""Picks as files: for people, for programs, for a labelling tool."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastal.outputs import csv_lines
from fastal.selection import Picks

_Columns = dict[str, NDArray[Any]]


def write_picks(file: BinaryIO, picks: Picks, suffix: str, **beside: NDArray[Any]) -> None:
    """Writes picks in their order: rank (from 1), row, score, and id and group where there are any.

    Args:
        file: open for writing.
        picks: NumPy arrays.
        suffix: ".csv"; ".jsonl", an object a line; ".parquet" (extra `arrow`); or ".json", tasks to
            be imported into Label Studio, where `fastal_score` and `fastal_rank` can be sorted by.
        beside: more columns, by name, to stand after these.

    Raises:
        ModuleNotFoundError: Parquet, and pyarrow is not installed.
    """
    _WRITERS[suffix](file, _columns(picks) | beside)


def check_writable(name: str, suffix: str) -> None:
    """ModuleNotFoundError, naming the argument, where what writes such a file is missing."""
    if suffix == ".parquet":
        _pyarrow(name)


def read_picks(path: Path) -> tuple[Picks, dict[str, NDArray[Any]]]:
    """The picks of a file that `write_picks` wrote; of a .csv file, ids and groups are texts.

    Returns:
        The picks, and beside them clusters and roles, where there are any.

    Raises:
        ValueError: it holds no picks.
        OSError: it cannot be read.
    """
    try:
        records = _READERS[path.suffix](path)
        rows = np.array([int(record["row"]) for record in records], np.int64)
        scores = np.array([float(record["score"]) for record in records], np.float32)
        beside = {name: _column(records, name) for name in ("id", "group", "cluster", "role")}
        if beside["cluster"] is not None:
            beside["cluster"] = beside["cluster"].astype(np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: wanted picks, with row and score: {reason}") from error
    picks = Picks(rows, scores, beside.pop("id"), 0, beside.pop("group"))
    return picks, {name: values for name, values in beside.items() if values is not None}


def _column(records: list[dict[str, Any]], name: str) -> NDArray[Any] | None:
    if not records or name not in records[0]:
        return None
    values = np.empty(len(records), object)
    values[:] = [record.get(name) for record in records]
    return values


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def _read_tasks(path: Path) -> list[dict[str, Any]]:
    tasks = [task["data"] for task in json.loads(path.read_text("utf-8"))]
    return [{**data, "score": data["fastal_score"]} for data in tasks]


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = _pyarrow(path).parquet.read_table(path).to_pylist()
    return records


def _columns(picks: Picks) -> _Columns:
    columns = {"rank": np.arange(1, len(picks.rows) + 1), "row": picks.rows, "score": picks.scores}
    beside = {"id": picks.ids, "group": picks.groups}
    return columns | {name: values for name, values in beside.items() if values is not None}


def _records(columns: _Columns) -> Iterator[dict[str, Any]]:
    """A dictionary of plain values for each pick; scores in as few digits as tell them apart."""
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, map(_plain, values), strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, np.float32):
        return float(str(value))
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def _write_csv(file: BinaryIO, columns: _Columns) -> None:
    file.write(",".join(columns).encode() + b"\n")
    if len(columns) == 3:
        file.writelines(csv_lines(*columns.values()))
        return
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    for values in zip(*columns.values(), strict=True):  # texts: a group, an id, may need quotes
        lines.writerow(values)
        file.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()


def _write_json_lines(file: BinaryIO, columns: _Columns) -> None:
    for record in _records(columns):
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def _pyarrow(what: Any) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ModuleNotFoundError(
            f"{what}: Parquet takes pyarrow: pip install 'fastal[arrow]'", name="pyarrow"
        ) from None
    return pyarrow


def _write_parquet(file: BinaryIO, columns: _Columns) -> None:
    pa = _pyarrow("out")
    arrays = {name: pa.array(list(map(_plain, values)) if values.dtype == object else values)
              for name, values in columns.items()}  # fmt: skip
    pa.parquet.write_table(pa.table(arrays), file)


def _write_tasks(file: BinaryIO, columns: _Columns) -> None:
    """Source: Label Studio's JSON import format; the score goes into `data`, to be sorted by."""
    separator = b"[\n"
    for record in _records(columns):
        data = {"fastal_rank": record.pop("rank"), "fastal_score": record.pop("score"), **record}
        file.write(separator + json.dumps({"data": data}, ensure_ascii=False).encode())
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


_WRITERS: dict[str, Callable[[BinaryIO, _Columns], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
    ".json": _write_tasks,
}
_READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
    ".json": _read_tasks,
}
PICKS_SUFFIXES = tuple(_WRITERS)
