"""Lists of names in messages."""

from collections.abc import Sequence

_SHOWN = 10


def first_names(names: Sequence[str], shown: int = _SHOWN) -> str:
    """The first few names, and how many more there are; empty if there are none.

    Example:
        >>> first_names(["a", "b", "c", "d"], shown=2)
        'a, b and 2 more'
    """
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")
