"""The result of a selection."""

from typing import Any, NamedTuple


class Picks(NamedTuple):
    """The rows most worth labelling, best first; ties go to the lower row number.

    With noise, best is meant of the keys that were drawn.

    Attributes:
        rows: [k] int64, row numbers in the pool (fewer than k if the pool has fewer valid rows).
        scores: [k] float32, larger = more worth labelling.
        ids: the rows' ids, None where the pool has none.
        invalid: how many rows of the pool were left out as invalid.
        groups: [k], the rows' groups; None where there are none.
    """

    rows: Any
    scores: Any
    ids: Any = None
    invalid: int = 0
    groups: Any = None
