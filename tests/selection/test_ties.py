"""How ties are broken: larger scores first, of equal scores the lower row number."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastal.selection.ties import Best, beat, best_first

SCORES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, np.inf])
PAIRS = st.lists(st.tuples(SCORES, st.integers(0, 99)), unique_by=lambda pair: pair[1])


def columns(pairs):
    scores, rows = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(scores, np.float32), np.array(rows, np.int64)


@given(PAIRS)
def test_best_first_is_a_sort_by_falling_score_then_rising_row(pairs):
    order = best_first(*columns(pairs))
    assert [pairs[i] for i in order] == sorted(pairs, key=lambda pair: (-pair[0], pair[1]))


@given(PAIRS, SCORES, st.integers(0, 99))
def test_a_row_beats_another_if_it_is_sorted_before_it(pairs, score, row):
    want = [(-pair[0], pair[1]) < (-score, row) for pair in pairs]
    assert beat(*columns(pairs), score, row).tolist() == want


def test_nan_beats_nothing_and_is_beaten_by_nothing():
    nan = np.array([np.nan])
    assert not beat(nan, np.array([0]), 0.0, 1).any()
    assert not beat(np.array([0.0]), np.array([0]), nan, 1).any()


@given(PAIRS.filter(bool), st.randoms())
def test_the_best_of_rows_in_any_order_is_the_first_of_the_sorted(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    best = None
    for score, row in shuffled:
        best = Best(score, row, f"payload {row}").or_better(best)
    score, row = min(pairs, key=lambda pair: (-pair[0], pair[1]))
    assert best == (score, row, f"payload {row}")
