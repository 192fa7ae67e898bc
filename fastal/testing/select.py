"""Checks a function that selects rows of a pool."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastal import Picks
from fastal.testing.compare import checking
from fastal.testing.options import check_invalid_option, check_n_rows, choices
from fastal.testing.pool import KnownPool, check_by, invalid_count, known_pool
from fastal.testing.refusal import check_refused

Found = Picks | tuple[Any, ...]


def check_select(
    select: Callable[..., Found],
    *,
    by: str = "margin",
    on_invalid: str | None = "raise",
    ties: str = "first",
    exclude: bool = True,
    n_rows: int = 500,
    seed: int = 0,
) -> None:
    """Raises unless a function selects the k most uncertain rows as `fastal.select` does.

    The right rows are known from `definitions`: scores of the pool are equal, or differ by more
    than rounding can explain, and a third of the rows repeat others. Some rows have a logit of
    -inf, some have logits around 1000; both can be scored. It checks the rows and their order,
    ties, scores, k from 1 to more than there are rows, rows that are excluded, rows that cannot be
    scored, and that neither the pool nor `exclude` is written to. If the function reads the pool in
    chunks, check it with several sizes of chunks. It takes less than a second, besides the
    function's own time, for 500 rows.

    Args:
        select: called as select(pool, k), and as select(pool, k, exclude=rows). The pool is a NumPy
            array [N, 10] float32 of logits, and rows is [n] int64. It returns `fastal.Picks`; or a
            tuple (rows, scores) of arrays [k], best first, or (rows, scores, n_skipped). If scores
            is None, only the rows are checked.
        by: the score that it ranks by: "least_confidence", "margin", "ratio" or "entropy".
        on_invalid: what it does with rows that have NaN or +inf, or -inf throughout. "raise": a
            ValueError that names the first such row, as `fastal.InvalidRows` does. "skip": they are
            left out, and counted as `invalid` of the picks or as n_skipped. None: such rows are not
            given. Rows that are excluded are not refused.
        ties: of rows with equal scores, "first" wants the lowest row numbers first. With "any", any
            of them are right, such as random ones.
        exclude: whether it is called with `exclude`.
        n_rows: of the pool, at least 10.
        seed: of the pool.

    Raises:
        AssertionError: the function is wrong, or raised an error. The message names the case, the
            pool, the seed, the place in the order, what came and what was wanted.
        ValueError: a bad argument; the message names it.

    Example:
        >>> import fastal, numpy as np
        >>> from fastal.testing import check_select
        >>> check_select(fastal.select)
        >>> def wrong(pool, k, exclude=()):  # the order of equal rows is reversed
        ...     scores = fastal.score(pool).margin
        ...     scores[list(exclude)] = -1
        ...     rows = np.argsort(scores)[::-1][: min(k, len(pool) - len(exclude))]
        ...     return rows, scores[rows]
        >>> check_select(wrong)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AssertionError: check_select: pool [500, 10] by margin, seed 0: ... has the same score and a
        higher number; wanted row ...
    """
    check_by(by)
    check_invalid_option(on_invalid)
    choices("ties", [ties], ("first", "any"))
    check_n_rows(n_rows)
    pool = known_pool(by, n_rows, seed)
    check = _Check(select, pool, ties)
    for k in sorted({1, 7, pool.tie_cut(), n_rows - 1, n_rows, n_rows + 5}):
        check.picks(k)
    if exclude:
        best = pool.best(9, pool.is_valid)
        ends = np.array([0, n_rows - 1])
        for k in (pool.tie_cut(), n_rows):
            check.picks(k, np.unique(np.concatenate([best, ends]))[::-1])
            check.picks(k, np.array([], np.int64))
    if on_invalid is not None:
        bad = _Check(select, pool.with_bad_rows(), ties)
        for k in (1, n_rows):
            bad.skips(k) if on_invalid == "skip" else bad.raises(k)
        if exclude:
            bad.picks(n_rows, np.flatnonzero(~bad.pool.is_valid))


class _Check:
    """The checks of one pool."""

    def __init__(self, select: Callable[..., Found], pool: KnownPool, ties: str) -> None:
        self._select, self.pool, self._ties = select, pool, ties

    def picks(self, k: int, excluded: Any = None) -> Found:
        """Picks of k rows."""
        case = f"k={k}" if excluded is None else f"k={k}, exclude={excluded.tolist()}"
        with checking(f"check_select: {self.pool}: {case}"):
            found = self._called(k, excluded)
            self.pool.check(
                found, k, ties=self._ties, excluded=() if excluded is None else excluded
            )
        return found

    def skips(self, k: int) -> None:
        """Leaves out bad rows."""
        found = self.picks(k)
        n_bad = int((~self.pool.is_valid).sum())
        with checking(f"check_select: {self.pool}: k={k}, {n_bad} rows are invalid"):
            if (count := invalid_count(found)) != n_bad:
                raise AssertionError(f"{count} rows are said to be skipped")

    def raises(self, k: int) -> None:
        """Refuses bad rows."""
        bad = np.flatnonzero(~self.pool.is_valid).tolist()
        with checking(f"check_select: {self.pool}: k={k}, rows {bad} are invalid"):
            check_refused(lambda: self._called(k), bad)

    def _called(self, k: int, excluded: Any = None) -> Found:
        """What the function returns for copies of the arrays, which it must leave as they are."""
        pool = self.pool.logits.copy()
        options = {} if excluded is None else {"exclude": excluded.copy()}
        try:
            return self._select(pool, k, **options)
        finally:
            if not np.array_equal(pool, self.pool.logits, equal_nan=True):
                raise AssertionError("the pool was written to")
            if options and not np.array_equal(options["exclude"], excluded):
                raise AssertionError("exclude was written to")
