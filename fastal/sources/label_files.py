"""Files of labels or values: one for each row, as `fastal assign` and `fastal score` write them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.base.csv_rows import csv_rows
from fastal.sources import labels

# The columns of labels, of which the first that a file has is read.
GROUP_COLUMNS = ("cluster", "group")
CLASS_COLUMNS = ("label", *GROUP_COLUMNS)
_NO_VALUES = ("id", "row", "rank")  # of the columns of a file of values
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)").fullmatch
_Table = dict[str, NDArray[Any]]


class LabelTable(NamedTuple):
    """The columns of a file of labels.

    Attributes:
        labels: [n] integers, bools or text; objects with None where a Parquet file has nulls.
        ids: [n] the ids of the rows; None if the file has none.
        rows: [n] int64, the numbers of the rows; None if the file has none.
    """

    labels: NDArray[Any]
    ids: NDArray[Any] | None = None
    rows: NDArray[Any] | None = None


def read_labels(path: Path, columns: Sequence[str] = GROUP_COLUMNS) -> LabelTable:
    """Reads a file of labels.

    Args:
        path: a .parquet or .csv file with one of the columns, and perhaps `id` and `row`; or a .npy
            file with such fields, or with one label for each row. In a .csv file, labels are
            integers if all of them are written as integers, and ids are text.
        columns: the names that the column of labels may have; the first that the file has is read.

    Raises:
        ValueError, TypeError: the file is no such file; the message names it.
        OSError: it cannot be read.
        ModuleNotFoundError: the file is Parquet, and pyarrow is not installed.
    """
    if path.suffix not in _READERS:
        other = "'predicted' or " if columns == GROUP_COLUMNS else ""
        raise ValueError(f"wanted {other}{_file_of('labels')}, got {str(path)!r}")
    return _read(path, columns, labels.GROUPS)


def read_values(path: Path) -> LabelTable:
    """Reads a file of values, a number for each row.

    Args:
        path: a .parquet or .csv file with a column `score`, or one column beside `id`, `row` and
            `rank`; or a .npy file with such fields, or with one value for each row.

    Returns:
        The values as labels: integers, floats or bools.

    Raises:
        ValueError, TypeError, OSError, ModuleNotFoundError: as `read_labels`.
    """
    if path.suffix not in _READERS:
        raise ValueError(f"wanted {_file_of('values')}, got {str(path)!r}")
    table = _read(path, None, labels.CARRIED)
    values = table.labels
    if values.dtype == object and path.suffix == ".csv":
        try:
            values = np.array(values, np.float64)
        except ValueError as error:
            raise ValueError(f"{path}: no file of values: {error}") from error
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{path}: no file of values: wanted a number for each row")
    return table._replace(labels=values)


def _file_of(what: str) -> str:
    *most, last = _READERS
    return f"a {', '.join(most)} or {last} file of {what}"


def _read(path: Path, columns: Sequence[str] | None, purpose: str) -> LabelTable:
    """The table in a file; if `columns` is None, its one column beside those of the rows."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        table = _READERS[path.suffix](path, columns)
        names = _of_values(table) if columns is None else columns
        name = next((name for name in names if name in table), None)
        if name is None:
            held = ", ".join(table) or "none"
            wanted = " or ".join(map(repr, names))
            raise ValueError(f"wanted a column {wanted}; its columns are {held}")
        found, ids, rows = table[name], table.get("id"), table.get("row")
        labels.kind_of_array(repr(name), found.dtype, purpose)
        if columns is None and found.ndim != 1:
            raise ValueError(f"wanted one value of each row, got shape {found.shape}")
        if ids is not None:
            labels.kind_of_array("'id'", ids.dtype, labels.IDS)
        if rows is not None and rows.dtype.kind not in "iu":
            raise ValueError("wanted row numbers in the column 'row'")
    except (ImportError, OSError):
        raise
    except Exception as error:  # the libraries that read the formats raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise (TypeError if isinstance(error, TypeError) else ValueError)(
            f"{path}: no file of {'labels' if columns else 'values'}: {reason}"
        ) from error
    return LabelTable(found, ids, rows)


def _of_values(table: _Table) -> Sequence[str]:
    """The name of the column of values."""
    names = [name for name in table if name not in _NO_VALUES]
    if "score" in names or not names:
        return ["score"]
    if len(names) > 1:
        raise ValueError(f"wanted one column of values, or 'score'; it has {', '.join(names)}")
    return names


def _read_npy(path: Path, columns: Sequence[str] | None) -> _Table:
    array = np.load(path, allow_pickle=False)
    if array.dtype.names:
        return {name: labels.of_array(f"{path}", array[name]) for name in array.dtype.names}
    return {columns[0] if columns else "score": labels.of_array(f"{path}", array)}


def _read_csv(path: Path, _: Sequence[str] | None) -> _Table:
    lines = csv_rows(path)
    names = next(lines, (0, []))[1]
    rows = []
    for number, fields in lines:
        if fields and len(fields) != len(names):
            raise ValueError(
                f"line {number}: wanted {len(names)} fields, as in the first line, got "
                f"{len(fields)}"
            )
        rows += [fields] if fields else []
    columns: list[tuple[str, ...]] = list(zip(*rows, strict=True)) or [()] * len(names)
    return {n: _of_text(n, values) for n, values in zip(names, columns, strict=True)}


def _of_text(name: str, values: tuple[str, ...]) -> NDArray[Any]:
    if name != "id" and all(map(_INTEGER, values)):
        integers = labels.as_integers([int(value) for value in values])
        if integers is not None:
            return integers
    return np.array(values, object)


def _read_parquet(path: Path, columns: Sequence[str] | None) -> _Table:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ModuleNotFoundError(
            f"{path}: Parquet needs pyarrow: pip install 'fastal[arrow]'", name="pyarrow"
        ) from None
    names = parquet.read_schema(path).names
    if columns is not None:
        names = [name for name in names if name in (*columns, "id", "row")]
    elif "score" in names:  # picks may have columns of any kind beside it
        names = [name for name in names if name in ("score", "id", "row")]
    table = parquet.read_table(path, columns=names)
    for name in names:
        labels.kind_of_arrow(
            repr(name),
            table.schema.field(name).type,
            labels.IDS if name == "id" else labels.GROUPS if columns else labels.CARRIED,
        )
    return {name: labels.of_arrow(table.column(name)) for name in names}


_READERS: dict[str, Callable[[Path, Sequence[str] | None], _Table]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".npy": _read_npy,
}
