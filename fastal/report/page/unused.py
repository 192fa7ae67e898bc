"""Names that are not in use."""

from collections.abc import Iterable


def unused(name: str, names: Iterable[str]) -> str:
    """The name, with a number if it is in use."""
    used = set(names)
    candidates = (name if i == 1 else f"{name} ({i})" for i in range(1, len(used) + 2))
    return next(candidate for candidate in candidates if candidate not in used)
