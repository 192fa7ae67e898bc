"""Text for people and for programs: names without control characters, and valid JSON."""

import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any, BinaryIO

# Control characters (escape sequences, newlines), invisible characters (some reorder the text),
# separators of lines and paragraphs, and surrogates, which have no encoding.
_HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")


def shown(text: str) -> str:
    """Text that may hold names from a pool, as one line for a terminal or a log.

    Characters that would control a terminal, or are invisible, become Python's escape sequences.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _HIDDEN
        else character
        for character in text
    )


def as_json(value: Any, **options: Any) -> str:
    """JSON of plain values that any parser reads. JSON has no infinity and no NaN.

    So these become the strings "Infinity", "-Infinity" and "NaN".
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **options)


def write_json_list(file: BinaryIO, values: Iterable[Any], **options: Any) -> None:
    """Writes a list of plain values as JSON, one per line; see `as_json`."""
    separator = b"[\n"
    for value in values:
        file.write(separator + as_json(value, **options).encode())
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
