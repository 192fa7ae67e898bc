"""Records of picks in what annotation tools export."""

import logging
from pathlib import Path
from typing import Any

_log = logging.getLogger("fastal")
_HELD_IN = ("fastal", "meta", "metadata")  # of doccano, Prodigy and Argilla
_CONTENTS = ("text", "image")


def picks_in(held: list[dict[str, Any]], path: Path) -> list[dict[str, Any]] | None:
    """The columns of picks that tools keep with their records; None if no record has them.

    A row that several people labelled counts once, at its first place. Picks of a file that no tool
    changed may be among the records. Others are left out with a warning.

    Args:
        held: the records of a file.
        path: the file, for the warning.

    Example:
        >>> line = {"text": "fine", "meta": {"row": 7, "score": 0.5}, "answer": "accept"}
        >>> picks_in([line, line], Path("annotations.jsonl"))
        [{'text': 'fine', 'row': 7, 'score': 0.5}]
    """
    of_tools = [_pick_in(record) for record in held]
    if not any(of_tools):
        return None
    found = [
        pick or record
        for pick, record in zip(of_tools, held, strict=True)
        if pick or {"row", "score"} <= record.keys()
    ]
    if len(found) < len(held):
        _log.warning("%s: %d of %d records are no picks", path, len(held) - len(found), len(held))
    return once_per_row(found)


def once_per_row(picks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The picks without those whose row and id an earlier one has."""
    once: dict[tuple[str, str], dict[str, Any]] = {}
    for pick in picks:
        once.setdefault((str(pick.get("row")), str(pick.get("id"))), pick)
    return list(once.values())


def check_lines(held: list[dict[str, Any]]) -> None:
    """ValueError if lines of a CSV file are a tool's, which have ids of its own.

    doccano has the columns of a pick in one. Label Studio has those of a task beside its own.
    """
    if any({"annotation_id", "fastal_score"} <= line.keys() for line in held):
        raise ValueError(
            "it is Label Studio's, whose ids are not those of the pool; export as JSON"
        )
    if any("row" not in line and (line.get("fastal") or "").startswith("{") for line in held):
        raise ValueError("it is doccano's, whose ids are not those of the pool; export as JSONL")


def _pick_in(record: dict[str, Any]) -> dict[str, Any] | None:
    if "row" in record or "data" in record:  # a pick, or a task of Label Studio
        return None
    for name in _HELD_IN:
        values = record.get(name)
        if isinstance(values, dict) and "row" in values:
            contents = record.get("fields")
            if not isinstance(contents, dict):
                contents = {name: record[name] for name in _CONTENTS if name in record}
            return {**contents, **values}
    return None
