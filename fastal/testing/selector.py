"""Checks an object that selects rows of a stream of chunks."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.testing.arrays import as_floats, as_integers
from fastal.testing.compare import checking
from fastal.testing.options import check_invalid_option, check_n_rows, choices
from fastal.testing.pool import KnownPool, check_by, invalid_count, known_pool, rows_and_scores
from fastal.testing.refusal import check_refused

_FAR = 2**62  # a row number that float64 does not hold


def check_selector(
    new: Callable[[int], Any],
    *,
    by: str = "margin",
    on_invalid: str | None = "raise",
    ties: str = "first",
    merges: bool = True,
    saves: bool = True,
    n_rows: int = 500,
    seed: int = 0,
) -> None:
    """Raises unless a streaming selection gives the same picks, bit for bit, for any chunks.

    The rows are the pool of `check_select`. It checks chunks of several sizes, empty ones too, in
    the order of the rows and in any order; memory of chunks that is used again; a result that is
    asked for midway, and kept; row numbers beyond 2^53; selectors that are merged in any order;
    states that are pickled, and loaded after the selector has read more rows; and invalid rows. It
    takes less than a second, besides the selector's own time, for 500 rows.

    Args:
        new: called as new(k). It returns an object with the methods of `fastal.Selector`:
            update(chunk) for the rows after the last chunk, update(chunk, start) for rows from a
            row number on, and result(), which returns what `check_select` describes. chunk is a
            NumPy array [n, 10] float32 of logits.
        by: as in `check_select`.
        on_invalid: as in `check_select`. After "raise", the selector is as it was before the chunk.
        ties: as in `check_select`. Which of equal rows are picked may not depend on the chunks.
        merges: whether it has a method merge(other), which adds a selector that saw other rows, and
            leaves that as it is.
        saves: whether it has state_dict(), and load_state_dict(state) for a new selector. Later
            updates do not change a state.
        n_rows: as in `check_select`.
        seed: of the pool, the chunks and their order.

    Raises:
        AssertionError: the selector is wrong, or raised an error. The message names the case, the
            pool, the seed, the place in the order, what came and what was wanted.
        ValueError: a bad argument; the message names it.

    Example:
        >>> import fastal
        >>> from fastal.testing import check_selector
        >>> check_selector(fastal.Selector)
        >>> class Wrong(fastal.Selector):
        ...     def merge(self, other):
        ...         pass
        >>> check_selector(Wrong)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AssertionError: check_selector: pool [500, 10] by margin, seed 0: k=1, merged from 3: ...
    """
    check_by(by)
    check_invalid_option(on_invalid)
    choices("ties", [ties], ("first", "any"))
    check_n_rows(n_rows)
    pool = known_pool(by, n_rows, seed)
    for k in sorted({1, pool.tie_cut(), n_rows + 5}):
        check = _Check(new, pool, k, ties)
        check.chunks()
        check.any_order()
        check.midway()
        check.far_rows()
        if merges:
            check.merging()
        if saves:
            check.saving()
        if on_invalid is not None:
            bad = _Check(new, pool.with_bad_rows(), k, ties)
            bad.skips(merges) if on_invalid == "skip" else bad.raises()


class _Check:
    """The checks of one pool and k."""

    def __init__(self, new: Callable[[int], Any], pool: KnownPool, k: int, ties: str) -> None:
        self._new, self._pool, self._k, self._ties = new, pool, k, ties
        self._first: tuple[NDArray[np.int64], NDArray[Any]] | None = (
            None  # rows and scores of one chunk
        )

    def chunks(self) -> None:
        """Chunks of several sizes, one after the other."""
        n_rows = len(self._pool.logits)
        for size in (n_rows, 64, 7, 1):
            with self._checking(f"chunks of {size} rows"):
                selector = self._new(self._k)
                for start, stop in _parts(n_rows, range(size, n_rows, size)):
                    self._update(selector, start, stop, named=False)
                self._compare(selector.result())

    def any_order(self) -> None:
        """Chunks of random sizes in a random order."""
        for number in range(3):
            with self._checking(f"shuffled chunks, draw {number}"):
                selector = self._new(self._k)
                for start, stop in self._shuffled(number):
                    self._update(selector, start, stop)
                self._compare(selector.result())

    def midway(self) -> None:
        """Results before the last chunk."""
        n_rows = len(self._pool.logits)
        half = n_rows // 2
        with self._checking(f"a result after {half} rows"):
            selector = self._new(self._k)
            self._update(selector, 0, half)
            found, unread = selector.result(), range(half, n_rows)
            self._pool.check(found, self._k, ties=self._ties, excluded=unread)
            self._update(selector, half, n_rows, named=False)
            self._compare(selector.result())
            with checking("after the last chunk"):
                self._pool.check(found, self._k, ties=self._ties, excluded=unread)

    def far_rows(self) -> None:
        """Row numbers that a float cannot hold."""
        with self._checking(f"rows from {_FAR} on"):
            selector = self._new(self._k)
            self._update(selector, 0, len(self._pool.logits), _FAR)
            self._pool.check(selector.result(), self._k, ties=self._ties, first_row=_FAR)

    def merging(self) -> None:
        """Selectors of parts of the rows, in every order."""
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            with self._checking(f"merged from 3: {order}"):
                selectors = [self._new(self._k) for _ in order]
                unread = [np.ones(len(self._pool.logits), bool) for _ in order]
                for number, (start, stop) in enumerate(self._shuffled(0)):
                    self._update(selectors[number % 2], start, stop)  # the third sees nothing
                    unread[number % 2][start:stop] = False
                first, *others = order
                for other in others:
                    selectors[first].merge(selectors[other])
                self._compare(selectors[first].result())
                for other in others:
                    with checking(f"the merged selector {other}"):
                        self._pool.check(
                            selectors[other].result(), self._k, ties=self._ties,
                            excluded=np.flatnonzero(unread[other]),
                        )  # fmt: skip

    def saving(self) -> None:
        """States that are saved before a chunk is read, and loaded after it."""
        with self._checking("saved before each chunk, loaded after it"):
            selector = self._new(self._k)
            n_rows = len(self._pool.logits)
            for start, stop in _parts(n_rows, range(97, n_rows, 97)):
                state = selector.state_dict()
                self._update(selector, start, stop, named=False)
                selector = self._new(self._k)
                selector.load_state_dict(pickle.loads(pickle.dumps(state)))
                self._update(selector, start, stop, named=False)
            self._compare(selector.result())

    def skips(self, merges: bool) -> None:
        """Leaves out bad rows and counts them."""
        n_bad = int((~self._pool.is_valid).sum())
        with self._checking(f"{n_bad} rows are invalid"):
            selectors = [self._new(self._k) for _ in range(1 + merges)]
            for number, (start, stop) in enumerate(self._shuffled(0)):
                self._update(selectors[number % len(selectors)], start, stop)
            if merges:
                selectors[0].merge(selectors[1])
            found = selectors[0].result()
            self._pool.check(found, self._k, ties=self._ties)
            if (count := invalid_count(found)) != n_bad:
                raise AssertionError(f"{count} rows are said to be skipped")

    def raises(self) -> None:
        """Refuses chunks with bad rows, and goes on as if it had not seen them."""
        n_rows = len(self._pool.logits)
        with self._checking("chunks with invalid rows are refused, then given without them"):
            selector = self._new(self._k)
            left_out: list[int] = []
            for start, stop in _parts(n_rows, range(64, n_rows, 64)):
                bad = [row for row in range(start, stop) if not self._pool.is_valid[row]]
                if not bad:
                    self._update(selector, start, stop)
                    continue
                check_refused(partial(self._update, selector, start, stop), bad)
                for row in range(start, stop):
                    if row not in bad:
                        self._update(selector, row, row + 1)
                left_out += bad
            self._pool.check(selector.result(), self._k, ties=self._ties, excluded=left_out)

    def _update(
        self, selector: Any, start: int, stop: int, offset: int = 0, *, named: bool = True
    ) -> None:
        """Gives rows to a selector, in memory that is then used for something else."""
        chunk = self._pool.logits[start:stop].copy()
        try:
            selector.update(chunk, start + offset) if named else selector.update(chunk)
        finally:
            if not np.array_equal(chunk, self._pool.logits[start:stop], equal_nan=True):
                raise AssertionError(f"the chunk of rows {start} to {stop - 1} was written to")
            chunk[:] = 0

    def _compare(self, found: Any) -> None:
        """Compares picks to the truth, and to the bits of the first picks of the same pool."""
        self._pool.check(found, self._k, ties=self._ties)
        numbers, scores = rows_and_scores(found)
        rows = as_integers(numbers, "rows")
        bits = as_floats([] if scores is None else scores)
        if self._first is None:
            self._first = rows, bits
        if not np.array_equal(rows, self._first[0]):
            raise AssertionError("other rows are picked than from one chunk")
        if not np.array_equal(bits, self._first[1]):
            raise AssertionError("the scores have other bits than those from one chunk")

    def _shuffled(self, number: int) -> list[tuple[int, int]]:
        n_rows = len(self._pool.logits)
        rng = np.random.default_rng([self._pool.seed, number])
        parts = list(_parts(n_rows, np.sort(rng.integers(0, n_rows, 9)).tolist()))
        return [parts[place] for place in rng.permutation(len(parts))]

    def _checking(self, case: str) -> Any:
        return checking(f"check_selector: {self._pool}: k={self._k}, {case}")


def _parts(n_rows: int, cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Consecutive parts of the rows. The first and the last are empty."""
    return pairwise([0, 0, *cuts, n_rows, n_rows])
