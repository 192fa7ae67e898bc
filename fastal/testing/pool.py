"""Pools whose right picks are known, and picks against them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal import Scores
from fastal.testing.arrays import as_floats, as_integers
from fastal.testing.compare import error_in
from fastal.testing.definitions import definitions

_CLASSES = 10
_DISTINCT = 2000  # the most rows with scores of their own
_APART = 1e-4  # how far they are apart: ten times what a right score may be off


@dataclass(frozen=True)
class KnownPool:
    """Rows of logits with true scores. They are equal, or further apart than any right computation.

    Attributes:
        logits: [N, C] float32.
        scores: [N] float64, the true scores; NaN for invalid rows.
        by: the score's name.
        seed: what the logits were drawn from.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float64]
    by: str
    seed: int

    def __str__(self) -> str:
        return f"pool {list(self.logits.shape)} by {self.by}, seed {self.seed}"

    @property
    def is_valid(self) -> NDArray[np.bool_]:
        """[N] bool, which rows can be scored."""
        return ~np.isnan(self.scores)

    def best(self, k: int, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The k best rows of those allowed, best first, of equals the lowest row."""
        rows = np.flatnonzero(allowed & self.is_valid)
        return rows[np.argsort(-self.scores[rows], kind="stable")][:k]

    def with_bad_rows(self) -> "KnownPool":
        """The same pool with four rows that cannot be scored, one of them the best."""
        logits, scores = self.logits.copy(), self.scores.copy()
        best = int(np.argmax(scores))
        first, middle, last = len(logits) // 3, len(logits) // 2, len(logits) - 1
        logits[best] = np.nan
        logits[first, 2] = np.nan
        logits[middle, -1] = np.inf
        logits[last] = -np.inf
        scores[[best, first, middle, last]] = np.nan
        return KnownPool(logits, scores, self.by, self.seed)

    def check(
        self, found: Any, k: int, *, ties: str = "first", excluded: Any = (), first_row: int = 0
    ) -> None:
        """Raises unless a selection of the k best rows is right.

        Args:
            found: `Picks`, or rows and scores; scores may be None.
            k: how many rows were asked for.
            ties: "first", or "any" if any of several equal rows is right.
            excluded: rows that must not be picked.
            first_row: the number of the pool's first row in `found`.

        Raises:
            AssertionError: it is wrong; the message says where.
        """
        numbers, scores = rows_and_scores(found)
        rows = as_integers(numbers, "rows") - first_row
        allowed = np.ones(len(self.logits), bool)
        allowed[list(excluded)] = False
        want = self.best(k, allowed)
        if len(rows) != len(want):
            raise AssertionError(f"wanted {len(want)} rows, got {len(rows)}")
        for place, (row, right) in enumerate(zip(rows.tolist(), want.tolist(), strict=True)):
            problem = self._problem(row, right, allowed, ties)
            if problem:
                raise AssertionError(
                    f"at place {place}, row {row + first_row} {problem}; wanted row "
                    f"{right + first_row} with score {self.scores[right]:.9g}"
                )
        if len(np.unique(rows)) < len(rows):
            raise AssertionError(f"a row is picked twice: {rows.tolist()}")
        if scores is not None:
            places = [f"the score at place {place}" for place in range(len(rows))]
            error = error_in(as_floats(scores), self.scores[rows], places)
            if error:
                raise AssertionError(error)

    def _problem(self, row: int, right: int, allowed: NDArray[np.bool_], ties: str) -> str | None:
        """Why a row may not stand where another row does; None if it may."""
        if row == right:
            return None
        if not 0 <= row < len(allowed):
            return "is no row of the pool"
        if not allowed[row]:
            return "was excluded"
        if not self.is_valid[row]:
            return "is invalid"
        if self.scores[row] != self.scores[right]:
            return f"has score {self.scores[row]:.9g}"
        return "has the same score and a higher number" if ties == "first" else None

    def tie_cut(self) -> int:
        """How many rows to ask for so that the last place cuts through the largest tie."""
        values, counts = np.unique(self.scores[self.is_valid], return_counts=True)
        value = values[np.argmax(counts)]
        return int((self.scores > value).sum() + counts.max() // 2)


def known_pool(by: str, n_rows: int, seed: int) -> KnownPool:
    """A pool in which a third of the rows repeat others.

    About half of the rows have a losing logit of -inf, and about half have logits around 1000.

    Args:
        by: a name of `fastal.Scores`.
        n_rows: at least 10. More than 3000 repeat more of the rows.
        seed: of the logits and of their order.
    """
    rng = np.random.default_rng(seed)
    n_distinct = min(_DISTINCT, 2 * n_rows // 3)
    drawn = (2 * rng.standard_normal((8 * n_distinct, _CLASSES))).astype(np.float32)
    drawn[::2] += 1000
    cut = np.arange(len(drawn)) % 4 < 2
    drawn[cut, drawn[cut].argmin(1)] = -np.inf
    truth = getattr(definitions(drawn), by)
    kept, last = [], -1.0
    for row in np.argsort(truth):
        if truth[row] >= last * (1 + _APART) + _APART:
            kept.append(row)
            last = truth[row]
    distinct = rng.permutation(kept)[:n_distinct]
    repeated = rng.choice(distinct[: 1 + len(distinct) // 4], n_rows - len(distinct))
    rows = rng.permutation(np.concatenate([distinct, repeated]))
    return KnownPool(drawn[rows], truth[rows], by, seed)


def rows_and_scores(found: Any) -> tuple[Any, Any]:
    """The rows and scores of `Picks` or of a pair.

    Raises:
        AssertionError: it is neither.
    """
    if hasattr(found, "rows") and hasattr(found, "scores"):
        return found.rows, found.scores
    if isinstance(found, tuple) and len(found) in (2, 3):
        return found[0], found[1]
    raise AssertionError(f"wanted Picks, or a tuple of rows and scores, got {type(found).__name__}")


def invalid_count(found: Any) -> int:
    """How many rows a selection says that it skipped.

    Raises:
        AssertionError: it does not say.
    """
    count = found[2] if isinstance(found, tuple) and len(found) == 3 else None
    count = getattr(found, "invalid", count)
    if count is None:
        raise AssertionError(
            "wanted the number of skipped rows, as the picks' `invalid` or third in the tuple"
        )
    return int(count)


def check_by(by: str) -> None:
    """ValueError unless it is the name of a score."""
    if by not in Scores._fields:
        raise ValueError(f"by: wanted one of {', '.join(Scores._fields)}, got {by!r}")
