"""The table of picks, as data for the script of the page."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastal.picks.table import plain, ranked, records
from fastal.report.page.images import Images, is_image
from fastal.report.page.named_picks import NamedPicks
from fastal.report.page.svg import plain_text
from fastal.report.page.unused import unused

MOST_ROWS = 10_000
_LARGEST = 2**53  # beyond it, the numbers of a browser are rounded
_IS_DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?|NaN|-?Infinity").fullmatch


def picks_table(given: Sequence[NamedPicks], page: Path) -> tuple[dict[str, Any], list[str]]:
    """The columns and the rows of all picks, at most `MOST_ROWS`.

    Integers beyond 2^53 are text, with all their digits. Columns of numbers sort as such.

    Args:
        given: the picks. If there are several, the first column has their names.
        page: the file of the page.

    Returns:
        The table as plain values, and notes about its images.
    """
    carried = [name for of in given for name in of.picks.columns]
    label_name = unused("picks", carried)
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    folders = []
    for of in given:
        table = ranked(of.picks[: MOST_ROWS - len(rows)])
        label = {label_name: of.name} if len(given) > 1 else {}
        names |= dict.fromkeys([*label, *table])
        rows += [{**record, **label} for record in records(table)]
        folders += [of.folder] * len(table["row"])
    images = Images(page)
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        kind = _kind(values)
        if kind == "image":
            for row, folder in zip(rows, folders, strict=True):
                if row.get(name):
                    row[name] = images.shown(row[name], folder)
        columns.append({"name": name, "kind": kind})
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    total = sum(len(of.picks) for of in given)
    return {"columns": columns, "rows": cells, "total": total}, images.notes()


def table_controls(table: Mapping[str, Any], notes: Sequence[str]) -> str:
    """The place of the table, which the script of the page fills."""
    shown, total = len(table["rows"]), table["total"]
    if shown < total:
        cut = f"This page has the first {shown:,} of {total:,} picks. The file has them all."
        notes = [cut, *notes]
    lines = "".join(f'<p class="note-text">{plain_text(note)}</p>' for note in notes)
    html = files("fastal.report.page").joinpath("picks.html").read_text("utf-8")
    return f"{lines}{html}"


def _kind(values: Sequence[Any]) -> str:
    """What a column holds: "number", "image" or "text". In .csv files, numbers are text."""
    held = [value for value in values if value not in (None, "")]
    if held and all(map(is_image, held)):
        return "image"
    if held and all(_is_number(value) for value in held):
        return "number"
    return "text"


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _IS_DECIMAL(value) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        return str(value)
    return value if isinstance(value, (int, float, str, type(None))) else str(value)
