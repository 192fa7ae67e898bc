"""check_select and check_selector pass right selections, and catch wrong ones."""

import numpy as np
import pytest
import torch

import fastal
from fastal.testing import check_select, check_selector
from fastal.testing.pool import known_pool

NAMES = fastal.Scores._fields


def by_sorting(pool, k, exclude=(), *, by="margin", step=1):
    """Selection in a few lines. With step=-1, the last of equal rows comes first."""
    left = np.delete(pool, exclude, axis=0) if len(exclude) else pool
    scores = np.full(len(pool), -1, np.float32)
    scores[np.delete(np.arange(len(pool)), list(exclude))] = getattr(fastal.score(left), by)
    rows = np.lexsort((step * np.arange(len(pool)), -scores))[: min(k, (scores >= 0).sum())]
    return rows, scores[rows]


def in_chunks(pool, k, exclude=(), *, size=64, off_by=0):
    """Selection from chunks. Row numbers may be wrong from the second chunk on."""
    selector = fastal.Selector(k, exclude=np.asarray(exclude, np.int64))
    for start in range(0, len(pool), size):
        selector.update(pool[start : start + size], start + (off_by if start else 0))
    return selector.result()


@pytest.mark.full
@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
def test_every_backend_passes(backend, on_invalid):
    name, device = backend
    how = {"on_invalid": on_invalid, "backend": name}

    def select(pool, k, exclude=None):
        return fastal.select(torch.from_numpy(pool).to(device), k, exclude=exclude, **how)

    class Moved(fastal.Selector):
        def update(self, chunk, start=None):
            super().update(torch.from_numpy(chunk).to(device), start)

    n_rows = 20 if backend == ("triton", "cpu") else 500
    check_select(select, on_invalid=on_invalid, n_rows=n_rows)
    if backend != ("torch", "cuda"):  # torch's own CUDA sums depend on the chunk
        check_selector(lambda k: Moved(k, **how), on_invalid=on_invalid, n_rows=n_rows)


@pytest.mark.parametrize("n_rows", [10, 11, 500, 4000])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_selection_in_a_few_lines_passes(n_rows, seed):
    for by in NAMES:

        def select(pool, k, exclude=(), by=by):
            return by_sorting(pool, k, exclude, by=by)

        check_select(select, by=by, n_rows=n_rows, seed=seed)


@pytest.mark.parametrize("size", [1, 7, 500])
def test_a_selection_in_chunks_passes(size):
    check_select(lambda pool, k, exclude=(): in_chunks(pool, k, exclude, size=size))


def test_rows_may_come_without_scores():
    check_select(lambda pool, k, exclude=(): (by_sorting(pool, k, exclude)[0], None))


def test_pools_have_ties_and_else_gaps():
    for by in NAMES:
        for n_rows in (10, 500, 30_000):
            pool = known_pool(by, n_rows, 0)
            values, counts = np.unique(pool.scores, return_counts=True)
            assert len(pool.logits) == n_rows
            assert counts.max() > 1
            assert (np.diff(values) > 1e-4 * values[1:]).all()
            rows = fastal.select(pool.logits, n_rows, by).rows
            assert rows.tolist() == pool.best(n_rows, pool.is_valid).tolist()
            kth, after = pool.best(pool.tie_cut() + 1, pool.is_valid)[-2:]
            assert pool.scores[kth] == pool.scores[after]


# --- wrong selections


def at_random(pool, k, exclude=()):
    rows, scores = by_sorting(pool, len(pool), exclude)
    keys = np.random.default_rng(0).random(len(rows))
    order = np.lexsort((keys, -scores))[:k]
    return rows[order], scores[order]


def nan_first(pool, k, exclude=()):
    """NumPy's order of NaN, reversed."""
    scores = np.array(fastal.score(pool, on_invalid="skip").margin)
    rows = np.argsort(-np.nan_to_num(scores, nan=np.inf), kind="stable")
    rows = rows[~np.isin(rows, exclude)][:k]
    return rows, scores[rows], int(np.isnan(scores).sum())


def miscounting(pool, k, exclude=()):
    picks = fastal.select(pool, k, exclude=exclude, on_invalid="skip")
    return picks.rows, picks.scores, min(picks.invalid, 1)


def writing(pool, k, exclude=()):
    found = by_sorting(pool, k, exclude)
    pool -= pool.max(1, keepdims=True)
    return found


def refusing_large_k(pool, k, exclude=()):
    if k > len(pool):
        raise IndexError("k out of range")
    return by_sorting(pool, k, exclude)


def empty_leaves_nothing(pool, k, exclude=None):
    if exclude is None:
        return by_sorting(pool, k)
    return by_sorting(pool, k, exclude if len(exclude) else range(len(pool)))


def repeating(pool, k, exclude=()):
    rows, scores = by_sorting(pool, k, exclude)
    rows[1:2] = rows[:1]
    return rows, scores


def sorting_exclude(pool, k, exclude=()):
    if len(exclude):
        exclude.sort()
    return by_sorting(pool, k, exclude)


def refusing_infinity(pool, k, exclude=()):
    """-inf is a class that is impossible."""
    bad = np.flatnonzero(~np.isfinite(pool).all(1))
    if len(bad):
        raise ValueError(f"row {bad[0]} is invalid")
    return by_sorting(pool, k, exclude)


def dropping_infinity(pool, k, exclude=()):
    bad = np.flatnonzero(~np.isfinite(pool).all(1))
    return *by_sorting(pool, k, [*exclude, *bad]), len(bad)


def without_the_maximum(pool, k, exclude=()):
    """e^x itself, which is infinite from x = 710 on."""
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.exp(pool.astype(float))
        p = -np.sort(-powers / powers.sum(1, keepdims=True))
    scores = 1 - (p[:, 0] - p[:, 1])
    scores[list(exclude)] = -1
    rows = np.argsort(-scores, kind="stable")[: min(k, len(pool) - len(exclude))]
    return rows, scores[rows]


def the_maximum_of_all_rows(pool, k, exclude=()):
    return without_the_maximum(pool - pool.max(), k, exclude)


def writing_where_it_refuses(pool, k, exclude=()):
    try:
        return by_sorting(pool, k, exclude)
    finally:
        pool[np.isnan(pool)] = 0


def refusing_without_a_name(pool, k, exclude=()):
    if np.isnan(pool).any():
        raise ValueError("1 or more rows are invalid")
    return by_sorting(pool, k, exclude)


def refusing_excluded_rows(pool, k, exclude=()):
    fastal.score(pool)
    return by_sorting(pool, k, exclude)


def scores_in_float16(pool, k, exclude=()):
    rows, scores = by_sorting(pool, k, exclude)
    return rows, scores.astype(np.float16)


WRONG = {
    "the last of equal rows": (
        lambda pool, k, exclude=(): by_sorting(pool, k, exclude, step=-1),
        "has the same score and a higher number; wanted row",
    ),
    "any of equal rows": (at_random, "has the same score and a higher number"),
    "row numbers off by one from the second chunk on": (
        lambda pool, k, exclude=(): in_chunks(pool, k, exclude, off_by=1),
        r"k=1: at place 0, row \d+ (has score|is no row)",
    ),
    "certain rows first": (
        lambda pool, k, exclude=(): tuple(part[::-1] for part in by_sorting(pool, k, exclude)),
        "k=7: at place 0, row",
    ),
    "by another score": (
        lambda pool, k, exclude=(): by_sorting(pool, k, exclude, by="entropy"),
        "at place",
    ),
    "scores of other rows": (
        lambda pool, k, exclude=(): (by_sorting(pool, k, exclude)[0], np.ones(min(k, 500))),
        "the score at place 0: got 1, wanted 0.9",
    ),
    "scores in float16": (scores_in_float16, "the score at place .*relative error"),
    "exclude is ignored": (lambda pool, k, exclude=(): by_sorting(pool, k), "exclude=.*excluded"),
    "an empty exclude leaves nothing": (
        empty_leaves_nothing,
        r"exclude=\[\]: wanted 366 rows, got 0",
    ),
    "a row twice": (repeating, "k=7: at place 1"),
    "one row too few": (
        lambda pool, k, exclude=(): by_sorting(pool, max(1, k - 1), exclude),
        "k=7: wanted 7 rows, got 6",
    ),
    "k beyond the pool": (refusing_large_k, "k=505: raised IndexError: k out of range"),
    "the pool is written to": (writing, "k=1: the pool was written to"),
    "the pool is written to where it is refused": (
        writing_where_it_refuses,
        "are invalid: the pool was written to",
    ),
    "exclude is written to": (sorting_exclude, r"exclude=\[499, .*\]: exclude was written to"),
    "-inf is refused": (refusing_infinity, r"k=1: raised ValueError: row \d+ is invalid"),
    "no maximum subtracted": (
        without_the_maximum,
        "k=1: at place 0, row|k=1: the score at place 0",
    ),
    "the maximum of all rows subtracted": (the_maximum_of_all_rows, r"k=\d+: at place"),
    "rows alone": (lambda pool, k, exclude=(): by_sorting(pool, k)[0], "wanted Picks, or a tuple"),
    "rows as floats": (
        lambda pool, k, exclude=(): (by_sorting(pool, k)[0] * 1.0, None),
        r"rows: wanted integers \[n\], got float64 \[1\]",
    ),
    "NaN is not found": (nan_first, "are invalid: wanted ValueError that names row 67, got"),
    "rows that are excluded are refused": (
        refusing_excluded_rows,
        r"k=500, exclude=\[67, 166, 250, 499\]: raised InvalidRows: row 67",
    ),
    "an error names no row": (refusing_without_a_name, "are invalid: wanted an error that names"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_selections_are_caught(name):
    select, message = WRONG[name]
    where = r"^check_select: pool \[500, 10\] by margin, seed 0: .*"
    with pytest.raises(AssertionError, match=where + message):
        check_select(select)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (nan_first, r"k=1: at place 0, row \d+ is invalid; wanted row"),
        (dropping_infinity, r"k=7: at place 2, row \d+ has score"),
        (miscounting, "k=1, 4 rows are invalid: 1 rows are said to be skipped"),
        (lambda pool, k, exclude=(): miscounting(pool, k, exclude)[:2], "wanted the number of"),
    ],
)
def test_wrong_counts_and_orders_of_invalid_rows_are_caught(select, message):
    with pytest.raises(AssertionError, match=message):
        check_select(select, on_invalid="skip")


def test_one_of_equal_rows_picked_twice_is_caught_where_any_of_them_is_right():
    def select(pool, k, exclude=()):
        rows, scores = by_sorting(pool, k, exclude)
        rows[1:] = np.where(scores[1:] == scores[:-1], rows[:-1], rows[1:])
        return rows, scores

    with pytest.raises(AssertionError, match="k=7: a row is picked twice"):
        check_select(select, ties="any")


def test_what_is_not_asked_for_is_not_checked():
    check_select(at_random, ties="any")
    check_select(nan_first, on_invalid=None)
    check_select(lambda pool, k: by_sorting(pool, k), exclude=False)


# --- wrong selectors


class Simple:
    """A selector in a few lines, of which each subclass has one fault."""

    def __init__(self, k):
        self.k, self.next_row = k, 0
        self.rows, self.scores = np.empty(0, np.int64), np.empty(0, np.float32)

    def update(self, chunk, start=None):
        start = self.next_row if start is None else start
        try:
            scores = fastal.score(chunk).margin
        except fastal.InvalidRows as error:
            rows = [row + start for row in error.rows]
            raise fastal.InvalidRows(rows, error.count, error.span, error.reason) from error
        self.add(start + np.arange(len(chunk)), scores)
        self.next_row = start + len(chunk)

    def add(self, rows, scores):
        self.rows = np.concatenate([self.rows, rows])
        self.scores = np.concatenate([self.scores, scores])
        self.cut()

    def cut(self):
        order = np.lexsort((self.rows, -self.scores))[: self.k]
        self.rows, self.scores = self.rows[order], self.scores[order]

    def merge(self, other):
        self.add(other.rows, other.scores)

    def state_dict(self):
        return {name: value for name, value in vars(self).items() if name != "k"}

    def load_state_dict(self, state):
        vars(self).update(state)

    def result(self):
        return self.rows, self.scores


class TiesByArrival(Simple):
    def cut(self):
        order = np.argsort(-self.scores, kind="stable")[: self.k]
        self.rows, self.scores = self.rows[order], self.scores[order]


class OffByOne(Simple):
    def update(self, chunk, start=None):
        if start is None and self.next_row:
            start = self.next_row + 1
        super().update(chunk, start)


class StartIgnored(Simple):
    def update(self, chunk, start=None):
        super().update(chunk)


class FloatNumbers(Simple):
    def update(self, chunk, start=None):
        super().update(chunk, None if start is None else int(float(start) + 1e-9))

    def add(self, rows, scores):
        super().add(rows.astype(float).astype(np.int64), scores)


class KeepsTheChunk(Simple):
    """Scores what it was given when it is asked for the result."""

    def __init__(self, k):
        super().__init__(k)
        self.chunks = []

    def update(self, chunk, start=None):
        fastal.score(chunk)
        self.chunks.append((chunk, start))

    def result(self):
        whole = Simple(self.k)
        for chunk, start in self.chunks:
            whole.update(chunk, start)
        return whole.result()


class ResultEnds(Simple):
    def result(self):
        found = super().result()
        self.__init__(self.k)
        return found


class MergeTakesOver(Simple):
    def merge(self, other):
        self.rows, self.scores = other.rows, other.scores


class StateForgets(Simple):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "next_row": 0})


class CountsRefusedRows(Simple):
    """Adds the rows before it finds those that are invalid."""

    def update(self, chunk, start=None):
        start = self.next_row if start is None else start
        scores = np.array(fastal.score(chunk, on_invalid="skip").margin)
        valid = ~np.isnan(scores)
        self.add((start + np.arange(len(chunk)))[valid], scores[valid])
        super().update(chunk[valid][:0], start + len(chunk))
        if not valid.all():
            super().update(chunk, start)


class ChunkedScores(Simple):
    """The last bit of a score depends on the chunk."""

    def add(self, rows, scores):
        bits = np.float32(1 + 2.0**-23 * (len(rows) % 2))
        super().add(rows, scores * bits if len(rows) < 100 else scores)


class Writes(Simple):
    def update(self, chunk, start=None):
        super().update(chunk, start)
        chunk += 1


class LiveResult(Simple):
    """The rows of a result are its own memory."""

    def __init__(self, k):
        super().__init__(k)
        self.picked = np.empty(k, np.int64)

    def cut(self):
        super().cut()
        self.picked[: len(self.rows)] = self.rows

    def result(self):
        return self.picked[: len(self.rows)], None


class MergeEmpties(Simple):
    def merge(self, other):
        super().merge(other)
        other.__init__(other.k)


class MergeBothWays(Simple):
    def merge(self, other):
        super().merge(other)
        other.rows, other.scores = self.rows, self.scores


class LiveState(Simple):
    def state_dict(self):
        return vars(self)


class StateOfFunctions(Simple):
    def state_dict(self):
        return {**super().state_dict(), "add": lambda rows, scores: None}


class WritesWhereItRefuses(Simple):
    def update(self, chunk, start=None):
        try:
            super().update(chunk, start)
        finally:
            chunk[np.isnan(chunk)] = 0


FAULTY = {
    TiesByArrival: "shuffled chunks, draw .*has the same score and a higher number",
    OffByOne: "chunks of 64 rows: at place",
    StartIgnored: "shuffled chunks, draw 0: at place",
    FloatNumbers: "rows from 4611686018427387904 on: at place",
    KeepsTheChunk: "chunks of 500 rows: at place",
    ResultEnds: "a result after 250 rows: at place",
    MergeTakesOver: r"merged from 3: \(0, 1, 2\): wanted 1 rows, got 0",
    StateForgets: "saved before each chunk, loaded after it: at place",
    LiveState: "saved before each chunk, loaded after it: at place",
    StateOfFunctions: "saved before each chunk, loaded after it: raised .*pickle",
    LiveResult: "a result after 250 rows: after the last chunk: at place",
    MergeEmpties: r"merged from 3: \(0, 1, 2\): the merged selector 1: wanted 1 rows, got 0",
    MergeBothWays: r"merged from 3: \(0, 1, 2\): the merged selector 2: wanted 0 rows, got 1",
    WritesWhereItRefuses: "the chunk of rows .* was written to",
    CountsRefusedRows: "chunks with invalid rows are refused, then given without them: at place",
    ChunkedScores: "chunks of 7 rows: the scores have other bits than those from one chunk",
    Writes: "the chunk of rows 0 to 499 was written to",
}


def test_a_selector_in_a_few_lines_passes():
    check_selector(Simple)


@pytest.mark.parametrize("kind", FAULTY, ids=lambda kind: kind.__name__)
def test_wrong_selectors_are_caught(kind):
    where = r"^check_selector: pool \[500, 10\] by margin, seed 0: k=\d+, .*"
    with pytest.raises(AssertionError, match=where + f"({FAULTY[kind]})"):
        check_selector(kind)


def test_selectors_without_merging_or_saving_pass_if_neither_is_asked_for():
    class Plain(Simple):
        merge = state_dict = load_state_dict = None

    check_selector(Plain, merges=False, saves=False)
    for options in ({"merges": False}, {"saves": False}):
        with pytest.raises(AssertionError, match="raised TypeError: 'NoneType'"):
            check_selector(Plain, **options)


@pytest.mark.parametrize("check", [check_select, check_selector])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "doubt"}, "by: wanted one of least_confidence, .*, got 'doubt'"),
        ({"on_invalid": "drop"}, "on_invalid: wanted raise, skip or None, got 'drop'"),
        ({"ties": "last"}, r"ties: wanted any of first, any, got \['last'\]"),
        ({"n_rows": 3}, "n_rows: wanted an integer of at least 10, got 3"),
        ({"n_rows": 20.5}, "n_rows: wanted an integer of at least 10, got 20.5"),
    ],
)
def test_wrong_options_are_errors(check, options, message):
    with pytest.raises(ValueError, match=message):
        check(None, **options)
