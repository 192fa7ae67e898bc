"""How ties are broken: a larger score comes first, of equal scores the lower row number.

This is a total order of rows, so the k best are one set for any chunking and any merging.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


def best_first(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of rows in order, best first."""
    order = np.argsort(-scores)  # not stable, and several times faster than a stable sort
    ranked = scores[order]
    same = ranked[1:] == ranked[:-1]
    if same.any():
        tied = np.append(same, False) | np.insert(same, 0, False)
        rank = np.cumsum(np.insert(~same, 0, False))[tied]  # of the score, one for all that tie
        order[tied] = order[tied][np.lexsort((rows[order[tied]], rank))]
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
