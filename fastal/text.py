"""Text for people, and for programs: names without control characters, JSON that is JSON."""

import json
import math
import unicodedata
from typing import Any

_RAW = "\t"  # which moves the cursor, and nothing else
# Control characters (escape sequences, newlines), what reorders text that is shown, separators of
# lines, and what cannot be printed at all.
_HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")


def shown(text: str) -> str:
    """Text that may hold names from a pool, for a terminal or a log: in one line, and as it is.

    Characters that would act on a terminal, or stand for nothing, are escaped as Python has them.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in _RAW or not _is_hidden(character) else _escaped(character)
        for character in text
    )


def as_json(value: Any, **options: Any) -> str:
    """JSON of plain values, as parsers read it: what it has no numbers for is text.

    Infinity, -Infinity and NaN are the strings "Infinity", "-Infinity" and "NaN".
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
