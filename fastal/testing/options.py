"""Checks of the arguments that the checks share."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np


def choices(name: str, values: Any, wanted: Collection[Any]) -> list[Any]:
    """At least one value, each among those that are wanted; else a ValueError."""
    given = _listed(values)
    if not given or not all(value in wanted for value in given):
        raise ValueError(f"{name}: wanted any of {', '.join(map(str, wanted))}, got {values!r}")
    return given


def widths(n_classes: Any) -> list[int]:
    """At least one number of classes, each at least 2; else a ValueError."""
    given = _listed(n_classes)
    if not given or not all(isinstance(n, (int, np.integer)) and n >= 2 for n in given):
        raise ValueError(
            f"n_classes: wanted numbers of classes, each at least 2, got {n_classes!r}"
        )
    return [int(n) for n in given]


def check_invalid_option(on_invalid: str | None) -> None:
    """ValueError unless it is "raise", "skip" or None."""
    if on_invalid not in ("raise", "skip", None):
        raise ValueError(f"on_invalid: wanted raise, skip or None, got {on_invalid!r}")


def check_n_rows(n_rows: int) -> None:
    """ValueError unless a known pool may have so many rows."""
    if not isinstance(n_rows, (int, np.integer)) or n_rows < 10:
        raise ValueError(f"n_rows: wanted an integer of at least 10, got {n_rows!r}")


def _listed(values: Any) -> list[Any]:
    """The values; none of what is no collection."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else []
