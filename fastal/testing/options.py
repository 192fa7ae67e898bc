"""Checks of the arguments that the checks share."""

from collections.abc import Collection, Sequence
from typing import Any


def check_choice(name: str, values: Sequence[Any], wanted: Collection[Any]) -> None:
    """ValueError unless there is at least one value, and each is among those that are wanted."""
    if isinstance(values, str) or not values or not set(values) <= set(wanted):
        raise ValueError(f"{name}: wanted any of {', '.join(map(str, wanted))}, got {values!r}")


def check_invalid_option(on_invalid: str | None) -> None:
    """ValueError unless it is "raise", "skip" or None."""
    if on_invalid not in ("raise", "skip", None):
        raise ValueError(f"on_invalid: wanted raise, skip or None, got {on_invalid!r}")


def check_n_rows(n_rows: int) -> None:
    """ValueError unless a known pool may have so many rows."""
    if n_rows < 10:
        raise ValueError(f"n_rows: wanted at least 10, got {n_rows}")
