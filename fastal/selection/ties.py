"""How ties are broken: a larger score comes first, of equal scores the row with the lower rank.

The rank of a row is its number, or a seeded permutation of it. This is a total order of rows, so
the k best are one set for any chunking and any merging.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.base.argument_values import TIES
from fastal.base.checks import MAX_ROW, check_choice, checked_seed

_MASK = (1 << 32) - 1
_BITS = np.uint64(MAX_ROW)  # ranks are numbers of 63 bits, as row numbers are
# Odd, so that to multiply by one of them is a permutation, which its inverse undoes.
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_INVERSES = tuple(np.uint64(pow(factor, -1, 1 << 63)) for factor in _FACTORS)
_SHIFT = np.uint64(32)


class TieOrder:
    """The ranks of rows: of rows with equal scores, the one with the lower rank comes first.

    With "random", a rank is a function of seed and row number: numbers of 63 bits are permuted by
    two rounds of a shift and a multiplication (after Steele et al., Fast Splittable Pseudorandom
    Number Generators, 2014).

    Args:
        name: "first", where the rank is the row number, or "random".
        seed: of "random", an integer from 0 to 2^64 - 1.

    Attributes:
        is_random: whether the ranks are drawn.
        advice: what a message about ties recommends; empty if the strategy has no such argument.

    Raises:
        ValueError, TypeError: a bad argument, named.
    """

    advice = "; ties='random' draws them"

    def __init__(self, name: str, seed: int = 0) -> None:
        check_choice("ties", name, TIES)
        self.is_random = name == "random"
        self._seed = checked_seed(seed)
        if self.is_random:  # NumPy takes longer for the words than a small selection
            self._words = np.random.SeedSequence(self._seed).generate_state(3, np.uint64)

    def identity(self) -> dict[str, Any]:
        """The arguments that change the order, as plain values; none for "first"."""
        return {"ties": "random", "seed": self._seed} if self.is_random else {}

    def ranks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ranks of rows, [n] from 0 to 2^63 - 1."""
        if not self.is_random:
            return rows
        x = rows.astype(np.uint64)
        for word, factor in zip(self._words, _FACTORS, strict=False):
            x = (x ^ word) & _BITS
            x ^= x >> _SHIFT
            x = (x * np.uint64(factor)) & _BITS
        x ^= x >> _SHIFT
        ranks: NDArray[np.int64] = ((x ^ self._words[2]) & _BITS).astype(np.int64)
        return ranks

    def rows(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows that have these ranks."""
        if not self.is_random:
            return ranks
        x = (ranks.astype(np.uint64) ^ self._words[2]) & _BITS
        x ^= x >> _SHIFT
        for word, inverse in zip(self._words[1::-1], _INVERSES[::-1], strict=True):
            x = (x * inverse) & _BITS
            x ^= x >> _SHIFT
            x = (x ^ word) & _BITS
        rows: NDArray[np.int64] = x.astype(np.int64)
        return rows


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
