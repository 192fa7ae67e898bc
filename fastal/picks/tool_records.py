"""Records of picks in what annotation tools export."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_log = logging.getLogger("fastal")
_HELD_IN = ("fastal", "meta", "metadata")  # of doccano, Prodigy and Argilla
_CONTENTS = ("text", "image")


def picks_in(held: list[Any], path: Path) -> list[dict[str, Any]] | None:
    """The columns of picks that tools keep with their records; None if no record has them.

    A row that several people labelled counts once. Records of other origin are left out with a
    warning.

    Args:
        held: the records of a file.
        path: the file, for the warning.

    Example:
        >>> line = {"text": "fine", "meta": {"row": 7, "score": 0.5}, "answer": "accept"}
        >>> picks_in([line, line], Path("annotations.jsonl"))
        [{'text': 'fine', 'row': 7, 'score': 0.5}]
    """
    found = [pick for record in held if (pick := _pick_in(record)) is not None]
    if not found:
        return None
    if len(found) < len(held):
        _log.warning("%s: %d of %d records are no picks", path, len(held) - len(found), len(held))
    once = {(str(pick["row"]), str(pick.get("id"))): pick for pick in reversed(found)}
    return list(reversed(once.values()))


def check_columns(names: Iterable[str]) -> None:
    """ValueError if a table has the columns of a pick in one, as doccano's CSV has."""
    if "fastal" in names:
        raise ValueError("it is doccano's, whose ids are not those of the pool; export as JSONL")


def _pick_in(record: Any) -> dict[str, Any] | None:
    if not isinstance(record, dict) or "row" in record:
        return None
    for name in _HELD_IN:
        values = record.get(name)
        if isinstance(values, dict) and "row" in values:
            contents = record.get("fields")
            if not isinstance(contents, dict):
                contents = {name: record[name] for name in _CONTENTS if name in record}
            return {**contents, **values}
    return None
