"""The result of a selection."""

from typing import Any, NamedTuple


class Picks(NamedTuple):
    """The rows most worth labelling, best first; ties go to the lower row number.

    With noise, the order is that of the keys that were drawn.

    Attributes:
        rows: [k] int64, row numbers in the pool (fewer than k if the pool has fewer valid rows).
        scores: [k] float32, larger = more worth labelling.
        ids: [k], the ids of the rows; None if the pool has none.
        invalid: how many rows of the pool were left out as invalid.
        groups: [k], the groups of the rows; None if there are none.

    Example:
        >>> import fastal, numpy as np
        >>> picks = fastal.select(np.array([[9.0, 0.0], [0.0, 0.0]]), k=1, by="ratio")
        >>> picks.rows, picks.scores, picks.invalid
        (array([1]), array([1.], dtype=float32), 0)
    """

    rows: Any
    scores: Any
    ids: Any = None
    invalid: int = 0
    groups: Any = None
