"""How ties are broken: a larger score comes first, of equal scores the lower row number.

This is a total order of rows, so the k best are one set for any chunking and any merging.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 32) - 1


def best_first(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of rows in order, best first."""
    if len(rows) > _MASK:
        return np.lexsort((rows, -scores))
    by_row = np.argsort(rows)
    falling = (0.0 - scores[by_row]).view(np.int32)
    falling ^= (falling >> 31) & 0x7FFFFFFF  # integers in the order of the floats
    # One number a row, since NumPy sorts numbers several times faster than it sorts by two keys.
    keys = falling.astype(np.int64) << 32 | np.arange(len(rows))
    keys.sort()
    order: NDArray[np.int64] = by_row[keys & _MASK]
    return order


def beat(scores: Any, rows: Any, other_scores: Any, other_rows: Any) -> Any:
    """Which rows come before other rows, element by element; False for NaN."""
    return (scores > other_scores) | ((scores == other_scores) & (rows < other_rows))


class Best(NamedTuple):
    """The best row so far.

    Attributes:
        score: of the row.
        row: its number.
        payload: what else is kept of it.
    """

    score: float
    row: int
    payload: Any

    def or_better(self, other: "Best | None") -> "Best":
        """The better of the two."""
        if other is None or (self.score, -self.row) > (other.score, -other.row):
            return self
        return other
