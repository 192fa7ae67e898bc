"""Files of picks: for people, for programs, for a labelling tool."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastal.base.csv_rows import LONGEST_FIELD
from fastal.base.text import as_json
from fastal.output.atomic import written_whole
from fastal.output.csv_lines import csv_field, csv_lines
from fastal.output.packages import check_writable, pyarrow_for
from fastal.picks.label_config import Control, read_control
from fastal.picks.label_studio import data_of_tasks, write_tasks
from fastal.picks.picks import Picks
from fastal.picks.table import Table, plain, ranked, records
from fastal.picks.tool_export import ToolExport
from fastal.picks.tool_records import check_lines, picks_in
from fastal.sources.expand import PathLike
from fastal.sources.labels import as_integers, joined

_UTF_8 = "utf-8-sig"  # spreadsheets and shells add a mark before it


def checked_suffix(path: Path) -> Path:
    """The path of a file of picks; ValueError if no format has its suffix."""
    if path.suffix not in _WRITERS:
        raise ValueError(f"path: wanted a {' or '.join(_WRITERS)} file, got {path}")
    return path


def save_picks(
    picks: Picks,
    path: Path,
    label_config: PathLike | None = None,
    predicted: Any = None,
    class_names: Sequence[str] | None = None,
    export: ToolExport | None = None,
) -> None:
    """Writes a file of picks, whole or not at all; see `Picks.save`."""
    check_writable("path", path.suffix)
    if isinstance(class_names, str):
        raise TypeError(f"class_names: wanted a list of names, got {class_names!r}")
    control = labels = None
    if export is not None:
        if label_config is not None:
            raise ValueError(f"label_config: wanted none with format={export.tool!r}")
        if path.suffix != export.suffix:
            raise ValueError(f"path: {export.tool} wants a {export.suffix} file, got {path}")
        labels = export.labels(predicted, class_names, len(picks))
    elif label_config is not None:
        if path.suffix != ".json":
            raise ValueError(f"label_config: wanted a .json file of tasks as path, got {path}")
        control = read_control(label_config)
        if predicted is not None:
            labels = control.labels(predicted, class_names, len(picks))
    elif predicted is not None or class_names is not None:
        raise ValueError("predicted and class_names: wanted label_config, or format, too")
    with written_whole(path) as file:
        write_picks(file, picks, path.suffix, control, labels, export)


def write_picks(
    file: BinaryIO,
    picks: Picks,
    suffix: str,
    control: Control | None = None,
    labels: Sequence[str | None] | None = None,
    export: ToolExport | None = None,
) -> None:
    """Writes picks, best first.

    The columns are rank (from 1), row and score; then id and group, if the picks have them; then
    the carried columns.

    Args:
        file: open for writing bytes.
        picks: the picks.
        suffix: the format: ".csv"; ".jsonl", one JSON object per line; ".parquet" (extra `arrow`);
            or ".json", tasks for Label Studio, where they can be sorted by `fastal_score` and
            `fastal_rank`. Integers and text keep their values in every format. None is an empty
            field in CSV. An infinite score is the text "Infinity" in JSON; NaN is the text "NaN".
            In tasks, a column with integers beyond 2^53 is written as text, since browsers would
            round them.
        control: the choice that the annotators of tasks make.
        labels: [k], what the model chooses; see `write_tasks`.
        export: how picks are written for another tool, whatever the suffix.

    Raises:
        ValueError: the control shows a field that the tasks lack, or a value that a tool cannot
            hold.
        KeyError: the format is not one of these.
        ModuleNotFoundError: the format is Parquet, and pyarrow is not installed.

    Example:
        >>> import io
        >>> picks = Picks(np.array([7, 0]), np.array([0.95, 0.25], np.float32))
        >>> write_picks(file := io.BytesIO(), picks, ".csv")
        >>> file.getvalue().decode().split()
        ['rank,row,score', '1,7,0.95', '2,0,0.25']
    """
    if export is not None:
        export.write(file, ranked(picks), labels)
    elif control is None:
        _WRITERS[suffix](file, ranked(picks))
    else:
        write_tasks(file, ranked(picks), control, labels)


def read_picks(path: Path) -> Picks:
    """Reads a file that `write_picks` wrote, or that a tool exports, in the format of its suffix.

    Returns:
        The picks. Rows are int64, scores float32. Ids, groups and carried columns are integers,
        text, floats, bools or None, as the format has them: those of a .csv file are text, where an
        empty id or group is None; a float that is not finite is text in JSON. Every other column
        than rank, row, score, id and group is a carried one. Clusters are integers in any format.

    Raises:
        ValueError: the file does not hold picks.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> picks = Picks(np.array([7, 0]), np.array([0.95, 0.25], np.float32))
        >>> path = Path(tempfile.mkdtemp()) / "picks.jsonl"
        >>> with path.open("wb") as file:
        ...     write_picks(file, picks, path.suffix)
        >>> read_picks(path).rows
        array([7, 0])
    """
    with _wanting(path, "picks, with row and score"):
        held = _READERS[path.suffix](path)
        rows = _rows(held)
        scores = _scores(held)
        names = [*dict.fromkeys(name for record in held for name in record)]
        ids, groups = (
            _column(held, name, int | str | None) if name in names else None
            for name in ("id", "group")
        )
        carried = [n for n in names if n not in ("rank", "row", "score", "id", "group")]
        columns = {n: joined([_column(held, n, int | str | float | None)]) for n in carried}
        if (of := columns.get("cluster")) is not None and path.suffix == ".csv":
            numbers = as_integers([int(value) if value.isdigit() else value for value in of])
            columns["cluster"] = of if numbers is None else numbers
    return Picks(rows, scores, ids, 0, groups, None, columns)


def read_rows(path: Path) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
    """The rows and the ids in a file of picks, or in another table with columns `row` and `id`.

    Returns:
        Rows [k] and ids [k]; None for one of them that the file lacks.

    Raises:
        ValueError: the file has neither, or is no table.
        OSError: it cannot be read.
    """
    with _wanting(path, "a column row or id"):
        held = _READERS[path.suffix](path)
        if not held and path.suffix == ".csv" and not path.stat().st_size:
            raise ValueError("the file is empty")  # it lacks even the names of columns
        names = {name for record in held for name in record}
        if held and not names & {"row", "id"}:
            raise ValueError(f"it has {', '.join(sorted(names))}")
        rows = None
        if "row" in names or not held:
            rows = _rows(held)
        ids = _column(held, "id", int | str | None) if "id" in names else None
    return rows, ids


@contextmanager
def _wanting(path: Path, what: str) -> Iterator[None]:
    """A context in which a file is read: errors name it and what it should hold."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: wanted {what}: {reason}") from error


def arrow_table(name: str, table: Table) -> Any:
    """A table as one of pyarrow; if it is not installed, the error begins with `name`."""
    pa = pyarrow_for(name)
    return pa.table({name: _arrow(pa, values) for name, values in table.items()})


def _rows(held: list[dict[str, Any]]) -> NDArray[np.int64]:
    """The row numbers of picks, [k]; ValueError if one is none."""
    found = np.empty(len(held), np.int64)
    for place, record in enumerate(held):
        value = record["row"]
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            number = -1
        is_equal = isinstance(value, str) or value == number
        if isinstance(value, bool) or not is_equal or not 0 <= number < 2**63:
            raise ValueError(f"pick {place + 1}: row is {value!r}, which is no row number")
        found[place] = number
    return found


def _scores(held: list[dict[str, Any]]) -> NDArray[np.float32]:
    """The scores of picks, [k]; ValueError if one is no number."""
    found = []
    for place, record in enumerate(held):
        value = record["score"]
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            raise ValueError(f"pick {place + 1}: score is {value!r}, no number") from None
    return np.array(found, np.float32)


def _column(held: list[dict[str, Any]], name: str, wanted: Any) -> NDArray[Any]:
    values = np.empty(len(held), object)
    values[:] = [record.get(name) for record in held]
    for value in values:
        if not isinstance(value, wanted):
            of = "neither an integer nor text" if name in ("id", "group") else "no plain value"
            raise TypeError(f"{name} is {value!r}, {of}")
    return values


def _read_csv(path: Path) -> list[dict[str, Any]]:
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        with path.open(encoding=_UTF_8, newline="") as file:
            held: list[dict[str, Any]] = list(csv.DictReader(file))
    finally:
        csv.field_size_limit(limit)
    check_lines(held)
    for record in held:  # None is an empty field
        for name in {"id", "group"} & record.keys():
            record[name] = record[name] or None
    return held


def _read_json_lines(path: Path) -> list[dict[str, Any]]:
    held = _objects([json.loads(line) for line in path.read_text(_UTF_8).split("\n") if line])
    picks = picks_in(held, path)
    return held if picks is None else picks


def _read_json(path: Path) -> list[dict[str, Any]]:
    held = _objects(json.loads(path.read_text(_UTF_8)))
    picks = picks_in(held, path)
    return data_of_tasks(held, path) if picks is None else picks


def _objects(held: Any) -> list[dict[str, Any]]:
    """What JSON holds; TypeError if it is no list of objects."""
    if not isinstance(held, list):
        raise TypeError("it holds no list")
    for record in held:
        if not isinstance(record, dict):
            raise TypeError(f"it has {as_json(record)[:40]}, which is no JSON object")
    return held


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    held: list[dict[str, Any]] = pyarrow_for(path).parquet.read_table(path).to_pylist()
    return held


def _write_csv(file: BinaryIO, table: Table) -> None:
    file.write((",".join(map(csv_field, table)) + "\n").encode())
    if len(table) == 3:
        file.writelines(csv_lines(*table.values()))
        return
    for values in zip(*table.values(), strict=True):
        file.write((",".join(map(csv_field, values)) + "\n").encode())


def _write_json_lines(file: BinaryIO, table: Table) -> None:
    for record in records(table):
        file.write(as_json(record, ensure_ascii=False).encode() + b"\n")


def _write_parquet(file: BinaryIO, table: Table) -> None:
    arrow = arrow_table("out", table)
    pyarrow_for("out").parquet.write_table(arrow, file)


def _arrow(pa: Any, values: NDArray[Any]) -> Any:
    """A column as an Arrow array of the one type that its values have, else of text."""
    if values.dtype != object:
        return pa.array(values)
    found = list(map(plain, values))
    types = {type(value) for value in found} - {type(None)}
    if types == {int}:
        integers = as_integers([value or 0 for value in found])
        if integers is not None:
            return pa.array(found, str(integers.dtype))
    if types <= {bool} or types == {float}:
        return pa.array(found)
    return pa.array([value if value is None else str(value) for value in found], pa.string())


_WRITERS: dict[str, Callable[[BinaryIO, Table], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
    ".json": write_tasks,
}
_READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
    ".json": _read_json,
}
PICKS_SUFFIXES = tuple(_WRITERS)
