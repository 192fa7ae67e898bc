"""Picks as tasks for Label Studio."""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fastal.base.text import write_json_list
from fastal.picks.label_config import Control
from fastal.picks.table import Table, records, with_large_integers_as_text
from fastal.picks.tool_records import once_per_row

_log = logging.getLogger("fastal")
_MODEL_VERSION = "fastal"  # the name of the predictions, to be chosen in the project's settings
_RENAMED = {"rank": "fastal_rank", "score": "fastal_score"}  # in a task, names need their origin


def task_columns(names: Sequence[str]) -> list[str]:
    """The names that columns of picks have in tasks."""
    return [_RENAMED.get(name, name) for name in names]


def write_tasks(
    file: BinaryIO,
    table: Table,
    control: Control | None = None,
    labels: Sequence[str | None] | None = None,
) -> None:
    """Writes tasks; source: Label Studio's JSON import format. Only `data` can be sorted by.

    Of a prediction, an import keeps the result, the score and the model version. It drops the
    cluster.

    Args:
        file: open for writing bytes.
        table: the columns of the picks, which become the data of the tasks.
        control: the choice that the annotators make. A field that its configuration shows may not
            be None.
        labels: [k], the choice that the model predicts, which the annotators then see. The score of
            a prediction is 1 - the score of the pick, since Label Studio's uncertainty sampling
            begins with the lowest score.
    """
    if control is not None:
        control.check_fields(task_columns([*table]))
    write_json_list(file, _tasks(table, control, labels), ensure_ascii=False)


def _tasks(
    table: Table, control: Control | None, labels: Sequence[str | None] | None
) -> Iterator[dict[str, Any]]:
    for place, record in enumerate(records(with_large_integers_as_text(table))):
        score = record["score"]
        data = {"fastal_rank": record.pop("rank"), "fastal_score": record.pop("score"), **record}
        if control is not None:
            control.check_values(data)
        task: dict[str, Any] = {"data": data}
        if control is not None and labels is not None and labels[place] is not None:
            task["predictions"] = [_prediction(control, str(labels[place]), score)]
        yield task


def data_of_tasks(held: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The data of the tasks of a file, with the score of each under its own name.

    Tasks of other origin, which have no score, are left out with a warning, unless all are such. A
    row that is in several tasks counts once, at its first place.
    """
    if held and not any("data" in task for task in held):
        raise ValueError("its tasks have no data; export as JSON, not as JSON-MIN")
    tasks = [task["data"] for task in held if "data" in task]
    ours = [data for data in tasks if "fastal_score" in data]
    if len(ours) < len(tasks) and ours:
        _log.warning("%s: %d of %d tasks are no picks", path, len(tasks) - len(ours), len(tasks))
    once = once_per_row(ours or tasks)
    return [{"score": data["fastal_score"], **_carried(data)} for data in once]


def _prediction(control: Control, label: str, score: float) -> dict[str, Any]:
    choice = {
        "from_name": control.name,
        "to_name": control.to_name,
        "type": "choices",
        "value": {"choices": [label]},
    }
    confidence = 1 - score if math.isfinite(score) else None
    return {"model_version": _MODEL_VERSION, "score": confidence, "result": [choice]}


def _carried(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in data if name not in _RENAMED.values()}
