"""Files of picks: for people, for programs, for a labelling tool."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastal.base.text import as_json
from fastal.output.csv_lines import csv_field, csv_lines
from fastal.selection.picks import Picks
from fastal.sources.labels import as_integers

_LONGEST_FIELD = 2**31 - 1  # of CSV: the largest limit that Python's reader accepts
_LARGEST = 2**53  # beyond it, float64 does not have every integer
_Columns = dict[str, NDArray[Any]]


def write_picks(file: BinaryIO, picks: Picks, suffix: str, **extra_columns: NDArray[Any]) -> None:
    """Writes picks, best first.

    The columns are rank (from 1), row and score; then id and group, if the picks have them.

    Args:
        file: open for writing bytes.
        picks: the picks, with NumPy arrays: rows [k] int64, scores [k] float32, and ids and groups
            [k] of integers, text or None.
        suffix: the format: ".csv"; ".jsonl", one JSON object per line; ".parquet" (extra `arrow`);
            or ".json", tasks for Label Studio, where they can be sorted by `fastal_score` and
            `fastal_rank`. Integers and text keep their values in every format. None is an empty
            field in CSV. An infinite score is the text "Infinity" in JSON. In tasks, a column with
            integers beyond 2^53 is written as text, since browsers would round them.
        extra_columns: further columns [k] by name, written after these.

    Raises:
        KeyError: the format is not one of these.
        ModuleNotFoundError: the format is Parquet, and pyarrow is not installed.

    Example:
        >>> import io
        >>> picks = Picks(np.array([7, 0]), np.array([0.95, 0.25], np.float32))
        >>> write_picks(file := io.BytesIO(), picks, ".csv")
        >>> file.getvalue().decode().split()
        ['rank,row,score', '1,7,0.95', '2,0,0.25']
    """
    _WRITERS[suffix](file, _columns(picks) | extra_columns)


def check_writable(name: str, suffix: str) -> None:
    """Checks that the package for a format is installed.

    Raises:
        ModuleNotFoundError: it is not; the message begins with `name`, the argument.
    """
    if suffix == ".parquet":
        _pyarrow(name)


def read_picks(path: Path) -> tuple[Picks, dict[str, NDArray[Any]]]:
    """Reads a file that `write_picks` wrote, in the format of its suffix.

    Returns:
        The picks, and the columns "cluster" and "role", if the file has them. Rows are int64,
        scores float32. Ids and groups have the type that they were written with, but those of a
        .csv file are text.

    Raises:
        ValueError: the file does not hold picks.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> picks = Picks(np.array([7, 0]), np.array([0.95, 0.25], np.float32))
        >>> path = Path(tempfile.mkdtemp()) / "picks.jsonl"
        >>> with path.open("wb") as file:
        ...     write_picks(file, picks, path.suffix)
        >>> found, extra_columns = read_picks(path)
        >>> found.rows, extra_columns
        (array([7, 0]), {})
    """
    try:
        records = _READERS[path.suffix](path)
        rows = np.array([int(record["row"]) for record in records], np.int64)
        scores = np.array([float(record["score"]) for record in records], np.float32)
        extra = {name: _column(records, name) for name in ("id", "group", "cluster", "role")}
        if extra["cluster"] is not None:
            extra["cluster"] = extra["cluster"].astype(np.int64)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: wanted picks, with row and score: {reason}") from error
    picks = Picks(rows, scores, extra.pop("id"), 0, extra.pop("group"))
    return picks, {name: values for name, values in extra.items() if values is not None}


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
    labels = {"id": picks.ids, "group": picks.groups}
    return columns | {name: values for name, values in labels.items() if values is not None}


def _records(columns: _Columns) -> Iterator[dict[str, Any]]:
    """A dictionary of plain values per pick; scores have the fewest digits that identify them."""
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
        file.write((",".join(map(csv_field, values)) + "\n").encode())


def _write_json_lines(file: BinaryIO, columns: _Columns) -> None:
    for record in _records(columns):
        file.write(as_json(record, ensure_ascii=False).encode() + b"\n")


def _pyarrow(name: Any) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ModuleNotFoundError(
            f"{name}: Parquet needs pyarrow: pip install 'fastal[arrow]'", name="pyarrow"
        ) from None
    return pyarrow


def _write_parquet(file: BinaryIO, columns: _Columns) -> None:
    pa = _pyarrow("out")
    arrays = {name: _arrow(pa, values) for name, values in columns.items()}
    pa.parquet.write_table(pa.table(arrays), file)


def _arrow(pa: Any, values: NDArray[Any]) -> Any:
    """A column as an Arrow array: of integers or bools if all its values are, else of text."""
    if values.dtype != object:
        return pa.array(values)
    plain = list(map(_plain, values))
    types = {type(value) for value in plain} - {type(None)}
    if types == {int}:
        integers = as_integers([value or 0 for value in plain])
        if integers is not None:
            return pa.array(plain, str(integers.dtype))
    if types <= {bool}:
        return pa.array(plain)
    return pa.array([value if value is None else str(value) for value in plain], pa.string())


def _write_tasks(file: BinaryIO, columns: _Columns) -> None:
    """Writes tasks; source: Label Studio's JSON import format. Only `data` can be sorted by."""
    separator = b"[\n"
    large = [name for name, values in columns.items() if _is_large(values)]
    for record in _records(columns):
        record |= {name: None if record[name] is None else str(record[name]) for name in large}
        data = {"fastal_rank": record.pop("rank"), "fastal_score": record.pop("score"), **record}
        file.write(separator + as_json({"data": data}, ensure_ascii=False).encode())
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _is_large(values: NDArray[Any]) -> bool:
    """Whether a column has integers that a browser would round, since its numbers are float64."""
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
