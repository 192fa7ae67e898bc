"""Adaptive representative sampling: guesses that are checked change no pick."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal import diversity
from fastal.diversity.adaptive_representative import Adaptive, Guess
from fastal.diversity.representative import Representativeness
from fastal.ops.reference import unit_sums
from fastal.scoring.scoring_options import ScoringOptions

SKIP = ScoringOptions(on_invalid="skip")


def direction(x):
    return unit_sums(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.int64), 1)


def reducer(x, training, k, **options):
    return Adaptive(
        k, direction(x[np.isfinite(x).all(1)]), direction(training), Representativeness, SKIP,
        **options,
    )  # fmt: skip


def picks_of(one, chunks):
    """Rows, scores, and how many rows each pass picked."""
    found, goes_on = [], True
    while goes_on:
        for start, chunk in chunks:
            one.update(chunk, start)
        before = len(one.result())
        goes_on = one.next_pass()
        found.append(len(one.result()) - before)
    picks = one.result()
    return picks.rows.tolist(), picks.scores.tolist(), found


def by_definition(x, training, k):
    """A loop over the picks, in extended precision; ties go to the lower row.

    Sums are those of `unit_sums`: their rounding is part of the definition, since a sum may be much
    shorter than its terms.
    """
    given, known = x, direction(training)[0].numpy().astype(np.longdouble)
    x = x.astype(np.longdouble)
    with np.errstate(invalid="ignore"):
        units = x / np.where((length := np.sqrt((x * x).sum(1))) == 0, 1, length)[:, None]
    valid = np.isfinite(units).all(1)
    pool = direction(given[valid])[0].numpy().astype(np.longdouble)
    rows, scores = [], []
    while len(rows) < min(k, valid.sum()):
        along = [sums / (math.sqrt((sums * sums).sum()) or 1) for sums in (pool, known)]
        score = np.where(valid, units @ along[0] - units @ along[1], -np.inf).astype(np.float32)
        score[rows] = -np.inf
        rows.append(int(score.argmax()))
        scores.append(score[rows[-1]])
        known = known + direction(given[rows[-1:]])[0].numpy()
    return rows, scores


def cut(x, places):
    bounds = [0, *sorted(places), len(x)]
    return [(a, x[a:b]) for a, b in pairwise(bounds)]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 99))
def test_picks_are_those_of_a_loop(data, seed):
    draws = np.random.default_rng(seed)
    width = data.draw(st.sampled_from([2, 5, 40]))
    x = draws.standard_normal((90, width)).astype(np.float32) + np.float32(0.5)
    x[draws.integers(0, 90, 30)] = x[draws.integers(0, 90, 30)]  # equal rows tie
    x[data.draw(st.lists(st.integers(0, 89), max_size=2))] = np.nan
    training = draws.standard_normal((data.draw(st.sampled_from([1, 9, 400])), width))
    training = training.astype(np.float32)
    k = data.draw(st.integers(1, 30))
    memory = data.draw(st.sampled_from([1, 16 * width * 8, 1 << 20]))
    places = data.draw(st.lists(st.integers(0, 90), max_size=5))
    rows, scores, _ = picks_of(reducer(x, training, k, memory_bytes=memory), cut(x, places))
    want, expected = by_definition(x, training, k)
    assert rows == want
    # Both are rounded to float32, from float64 and from extended precision.
    np.testing.assert_allclose(scores, expected, rtol=2**-23, atol=1e-12)


def far_from_training(n=2000, width=16, n_training=3000):
    draws = np.random.default_rng(0)
    x = draws.standard_normal((n, width)).astype(np.float32) + np.float32(0.5)
    return x, -x[draws.integers(0, n, n_training)]


def test_guesses_save_most_passes_while_the_training_data_are_unlike_the_pool():
    x, training = far_from_training()
    rows, _, of_passes = picks_of(reducer(x, training, 200), [(0, x)])
    assert len(of_passes) <= 8
    assert rows == by_definition(x, training, 200)[0]
    few = reducer(x, training, 200, memory_bytes=16 * 16 * 300)
    assert picks_of(few, cut(x, [700, 1200]))[0] == rows


def test_without_candidates_each_pass_picks_one_row():
    x, training = far_from_training(300)
    rows, _, of_passes = picks_of(reducer(x, training, 9, memory_bytes=1), [(0, x)])
    assert rows == by_definition(x, training, 9)[0]
    assert len(of_passes) >= 5


def test_equal_rows_are_compared_once_and_picked_in_order():
    x = np.ones((9000, 3), np.float32)
    x[5] = [1, 0, 0]
    rows, _, _ = picks_of(reducer(x, x[5:6], 4), cut(x, [4000]))
    assert rows == [0, 1, 2, 3]


def test_guesses_that_are_taken_unchecked_are_found(monkeypatch):
    x, training = far_from_training(n_training=20)
    want = by_definition(x, training, 40)[0]
    honest = reducer(x, training, 40)
    assert picks_of(honest, [(0, x)])[0] == want

    def unchecked(self, n):
        return [Guess(row, 0.0, direction(x[row : row + 1])) for row in range(n)]

    # Wrong guesses change no pick, since the best rows are found for the first state.
    monkeypatch.setattr(Adaptive, "_guessed", unchecked)
    assert picks_of(reducer(x, training, 40), [(0, x)])[0] == want
    # What follows the first wrong guess belongs to a state that never was.
    monkeypatch.setattr(Guess, "row", property(lambda _: -1), raising=False)
    always = type("Always", (int,), {"__ne__": lambda *_: False, "__hash__": int.__hash__})
    monkeypatch.setattr(Guess, "row", always(-1), raising=False)
    assert picks_of(reducer(x, training, 40), [(0, x)])[0] != want


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype(dtype):
    x, training = far_from_training(400)
    x = torch.from_numpy(x).to(dtype)
    picks = diversity.adaptive_representative(x, training, 20)
    assert picks.rows.tolist() == by_definition(x.double().numpy(), training, 20)[0]


def test_pools_without_any_chunk_have_no_picks():
    picks = diversity.adaptive_representative(iter(()), iter(()), 3)
    assert picks.rows.tolist() == []
