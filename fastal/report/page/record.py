"""The record that a command writes beside its output."""

import json
from pathlib import Path
from typing import Any

# The fields that a report shows, with their types.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "command": str,
    "invalid": int,
    "rows": int,
    "pool": list,
    "backend": (str, type(None)),
    "versions": dict,
}


def read_record(path: Path) -> dict[str, Any]:
    """The record of the run that wrote a file.

    Args:
        path: the file.

    Returns:
        The record; empty if there is none, or if the file beside `path` is that of another run or
        no record.

    Raises:
        ValueError: the record is damaged; the message names it.
    """
    record = path.with_name(path.stem + ".run.json")
    try:
        held = json.loads(record.read_text("utf-8"))
    except OSError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{record}: wanted the record of a run as JSON: {error}") from error
    if not isinstance(held, dict) or not isinstance(held.get("arguments"), dict):
        return {}
    # A folder may have picks.csv and picks.jsonl, of which one run wrote one.
    if Path(str(held.get("out"))).name != path.name:
        return {}
    for name, wanted in _TYPES.items():
        if name in held and not isinstance(held[name], wanted):
            raise ValueError(f"{record}: damaged, {name} is {held[name]!r}")
    for file in held.get("pool", ()):
        if not isinstance(file, dict) or "file" not in file:
            raise ValueError(f"{record}: damaged, pool has {file!r}")
    return held
