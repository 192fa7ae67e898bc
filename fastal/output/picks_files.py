"""Picks as files: for people, for programs, for a labelling tool."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastal.base.text import as_json
from fastal.output.atomic import csv_lines
from fastal.selection.picks import Picks
from fastal.sources.labels import as_integers

_LONGEST_FIELD = 2**31 - 1  # of CSV: as much as the reader takes
_QUOTED = re.compile(r'[,"\r\n]').search
_LARGEST = 2**53  # integer that float64 tells from its neighbours
_Columns = dict[str, NDArray[Any]]


def write_picks(file: BinaryIO, picks: Picks, suffix: str, **beside: NDArray[Any]) -> None:
    """Writes picks in their order: rank (from 1), row, score, and id and group where there are any.

    Args:
        file: open for writing.
        picks: NumPy arrays.
        suffix: ".csv"; ".jsonl", an object a line; ".parquet" (extra `arrow`); or ".json", tasks to
            be imported into Label Studio, where `fastal_score` and `fastal_rank` can be sorted by.
            Ids and groups come out as they went in: integers, text, and None (in CSV an empty
            field). In tasks, a column with integers beyond 2^53, which browsers round, is text. An
            infinite score is "Infinity" in JSON.
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
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: wanted picks, with row and score: {reason}") from error
    picks = Picks(rows, scores, beside.pop("id"), 0, beside.pop("group"))
    return picks, {name: values for name, values in beside.items() if values is not None}


def _column(records: list[dict[str, Any]], name: str) -> NDArray[Any] | None:
    if not records or name not in records[0]:
        return None
    values = np.empty(len(records), object)
    values[:] = [record.get(name) for record in records]
    for value in values:
        if not isinstance(value, str | int | None):
            raise TypeError(f"{name} is {value!r}, neither an integer nor text")
    return values


def _read_csv(path: Path) -> list[dict[str, Any]]:
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    finally:
        csv.field_size_limit(limit)


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
    return value.item() if isinstance(value, np.generic) else value


def _write_csv(file: BinaryIO, columns: _Columns) -> None:
    file.write(",".join(columns).encode() + b"\n")
    if len(columns) == 3:
        file.writelines(csv_lines(*columns.values()))
        return
    for values in zip(*columns.values(), strict=True):
        file.write((",".join(map(_field, values)) + "\n").encode())


def _field(value: Any) -> str:
    """A field of CSV; texts are quoted where their characters mean something there.

    A text that spreadsheets take for a formula, as it begins with "=", stays as it is: ids come out
    as they went in.
    """
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, str) and _QUOTED(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _write_json_lines(file: BinaryIO, columns: _Columns) -> None:
    for record in _records(columns):
        file.write(as_json(record, ensure_ascii=False).encode() + b"\n")


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
    arrays = {name: _arrow(pa, values) for name, values in columns.items()}
    pa.parquet.write_table(pa.table(arrays), file)


def _arrow(pa: Any, values: NDArray[Any]) -> Any:
    if values.dtype != object:
        return pa.array(values)
    plain = list(map(_plain, values))
    held = {type(value) for value in plain} - {type(None)}
    if held == {int}:
        integers = as_integers([value or 0 for value in plain])
        if integers is not None:
            return pa.array(plain, str(integers.dtype))
    if held <= {bool}:
        return pa.array(plain)
    return pa.array([value if value is None else str(value) for value in plain], pa.string())


def _write_tasks(file: BinaryIO, columns: _Columns) -> None:
    """Source: Label Studio's JSON import format; the score goes into `data`, to be sorted by."""
    separator = b"[\n"
    large = [name for name, values in columns.items() if _is_large(values)]
    for record in _records(columns):
        record |= {name: None if record[name] is None else str(record[name]) for name in large}
        data = {"fastal_rank": record.pop("rank"), "fastal_score": record.pop("score"), **record}
        file.write(separator + as_json({"data": data}, ensure_ascii=False).encode())
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _is_large(values: NDArray[Any]) -> bool:
    """Whether a column holds integers that a browser, whose numbers are float64, would round."""
    if values.dtype.kind not in "iuO":
        return False
    return any(type(value) is int and abs(value) > _LARGEST for value in values.tolist())


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
