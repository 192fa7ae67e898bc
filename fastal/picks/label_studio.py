"""Picks as tasks for Label Studio."""

import json
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from fastal.base.text import as_json
from fastal.picks.table import Table, records

_LARGEST = 2**53  # beyond it, float64 does not have every integer


def write_tasks(file: BinaryIO, table: Table) -> None:
    """Writes tasks; source: Label Studio's JSON import format. Only `data` can be sorted by."""
    separator = b"[\n"
    large = [name for name, values in table.items() if _is_large(values)]
    for record in records(table):
        record |= {name: None if record[name] is None else str(record[name]) for name in large}
        data = {"fastal_rank": record.pop("rank"), "fastal_score": record.pop("score"), **record}
        file.write(separator + as_json({"data": data}, ensure_ascii=False).encode())
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """The data of the tasks in a file, with the score of each under its own name."""
    tasks = [task["data"] for task in json.loads(path.read_text("utf-8"))]
    return [{"score": data["fastal_score"], **_carried(data)} for data in tasks]


def _carried(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in data if name not in ("fastal_rank", "fastal_score")}


def _is_large(values: NDArray[Any]) -> bool:
    """Whether a column has integers that a browser would round, since its numbers are float64."""
    if values.dtype.kind not in "iuO":
        return False
    return any(type(value) is int and abs(value) > _LARGEST for value in values.tolist())
