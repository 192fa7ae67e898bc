"""Noise on the scores: a function of seed and row, drawn with the right probabilities."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.row_numbers import RowNumbers
from fastal.selection import noise as noises
from fastal.selection.noise import Noise
from tests.support.marks import needs_triton

no_deadline = settings(deadline=None, max_examples=25)
ON_ROWS = ("power", "softmax")
# Ties, both zeros, NaN, the largest and a tiny score.
VALUES = [0.0, -0.0, 0.25, 0.5, 0.5, 1.0, 1e-45, 3e38, math.nan]


def as_they_are(scores):
    return scores


def gumbel(seed, row):
    """The definition, one row at a time, without NumPy's logarithm."""
    word = int(np.random.Philox(key=seed, counter=row // 4).random_raw(4)[row % 4])
    return -math.log(-math.log(((word >> 12) + 0.5) / 2**52))


def key(name, score, row, seed, beta):
    if name == "softmax":
        return beta * score + gumbel(seed, row)
    return -math.inf if score == 0 else beta * math.log(score) + gumbel(seed, row)


def drawn(name, scores, k, seed=0, beta=1.0, first=0):
    """The k rows with the largest keys, in float32, and their scores: by sorting tuples."""
    with np.errstate(over="ignore"):
        keys = {
            row: np.float32(key(name, float(score), first + row, seed, beta))
            for row, score in enumerate(scores)
            if score == score
        }
    rows = sorted(keys, key=lambda row: (-keys[row], row))[:k]
    return [first + row for row in rows], [float(scores[row]) for row in rows]


def picks_of(scores, k, name, first=0, **options):
    selector = fastal.Selector(k, as_they_are, on_invalid="skip", noise=name, **options)
    selector.update(np.asarray(scores, np.float32), first)
    return selector.result()


def assert_picks(picks, rows, scores):
    assert picks.rows.tolist() == rows
    assert picks.scores.tobytes() == np.array(scores, np.float32).tobytes()
    assert picks.rows.dtype == np.int64


@pytest.mark.parametrize("name", ON_ROWS)
@pytest.mark.parametrize("first", [0, 3, 2**32 - 5, 2**62 - 1, 2**63 - 201])
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_keys_are_score_and_gumbel(name, first, seed):
    scores = np.random.default_rng(1).random(200, np.float32)
    got = Noise(name, seed, 2.5).keys(torch.from_numpy(scores), RowNumbers(200, first))
    want = [key(name, float(s), first + i, seed, 2.5) for i, s in enumerate(scores)]
    assert got.dtype == torch.float32
    # A rounding to float32, and a few of float64.
    np.testing.assert_allclose(got.numpy(), want, rtol=2**-24 + 1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ON_ROWS)
def test_chunks_change_no_bit_of_a_key(name):
    scores = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    noise = Noise(name, 7)
    want = noise.keys(scores, RowNumbers(200_000, 10**12))
    rng = np.random.default_rng(0)
    for start in rng.integers(0, 199_900, 300).tolist():
        stop = start + int(rng.integers(0, 100))
        numbers = RowNumbers(stop - start, 10**12 + start)
        assert torch.equal(noise.keys(scores[start:stop], numbers), want[start:stop])


def test_gumbel_stays_finite_at_both_ends(monkeypatch):
    class Extremes:
        def __init__(self, key, counter):
            pass

        def random_raw(self, n):
            return np.array([0, 2**64 - 1], np.uint64)

    monkeypatch.setattr(np.random, "Philox", Extremes)
    low, high = noises.gumbel(0, RowNumbers(2, 0))
    assert low == pytest.approx(-math.log(53 * math.log(2)))
    assert high == pytest.approx(53 * math.log(2))


@no_deadline
@given(
    scores=st.lists(st.sampled_from(VALUES), max_size=40),
    name=st.sampled_from(ON_ROWS),
    k=st.integers(1, 50),
    seed=st.integers(0, 2**64 - 1),
    beta=st.sampled_from([0.01, 1.0, 30.0]),
    first=st.sampled_from([0, 2**62 - 7]),
)
def test_picks_are_the_largest_keys_with_their_own_scores(scores, name, k, seed, beta, first):
    scores = np.array(scores, np.float32)
    picks = picks_of(scores, k, name, first, seed=seed, beta=beta)
    assert_picks(picks, *drawn(name, scores, k, seed, beta, first))
    assert picks.invalid == np.isnan(scores).sum()


def test_rows_worth_nothing_come_last_in_their_order():
    picks = picks_of([0, 0.5, 0, 1e-30, 0], 4, "power", beta=5.0)
    assert set(picks.rows[:2].tolist()) == {1, 3}
    assert picks.rows[2:].tolist() == [0, 2]
    assert picks.scores[2:].tolist() == [0, 0]


@no_deadline
@given(
    data=st.data(),
    name=st.sampled_from(noises.NOISES),
    by=st.sampled_from(["margin", as_they_are]),
    k=st.sampled_from([1, 17, 100, 300]),
)
def test_any_chunks_order_merging_and_resuming(data, name, by, k):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((200, 5)) if by == "margin" else rng.random(200)).round(1)
    x[[3, 90]] = np.nan
    options = {"noise": name, "seed": 11, "beta": 2.0, "on_invalid": "skip"}
    whole = fastal.Selector(k, by, **options)
    whole.update(x)
    cuts = sorted(data.draw(st.lists(st.integers(0, 200), max_size=6)))
    selectors = [fastal.Selector(k, by, **options) for _ in range(2)]
    for start, stop in data.draw(st.permutations(list(pairwise([0, *cuts, 200])))):
        index = data.draw(st.integers(0, 1))
        selectors[index].update(x[start:stop], start)
        state = selectors[index].state_dict()
        selectors[index] = fastal.Selector(k, by, **options)
        selectors[index].load_state_dict(state)
        assert selectors[index].result().rows.shape[0] <= k  # changes nothing
    selectors[0].merge(selectors[1])
    want, got = whole.result(), selectors[0].result()
    assert len(want.rows) == min(k, 198)
    assert got.rows.tobytes() == want.rows.tobytes()
    assert got.scores.tobytes() == want.scores.tobytes()
    assert got.invalid == 2


# --- softrank


@pytest.mark.parametrize("n", [0, 1, 7, 70])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_ranks_are_the_largest_keys(monkeypatch, k, n):
    monkeypatch.setattr(noises, "_BLOCK", 16)
    noise = Noise("softrank", 5, 0.7)
    keys = {r: np.float32(gumbel(5, r - 1) - 0.7 * math.log(r)) for r in range(1, n + 1)}
    want = sorted(keys, key=lambda r: (-keys[r], r))[:k]
    assert noise.ranks(k, n).tolist() == want
    assert noise.ranks(k, n).dtype == np.int64


def test_softrank_picks_the_rows_of_the_ranks():
    scores = np.random.default_rng(3).standard_normal(60).round(1).astype(np.float32)
    scores[[5, 59]] = np.nan
    by_rank = sorted(np.flatnonzero(scores == scores).tolist(), key=lambda r: (-scores[r], r))
    rows = [by_rank[rank - 1] for rank in Noise("softrank", 9).ranks(8, 58).tolist()]
    assert_picks(picks_of(scores, 8, "softrank", seed=9), rows, scores[rows])


# --- distribution


def chi_square(counts, probabilities):
    expected = np.asarray(probabilities) * np.sum(counts)
    return float(((np.asarray(counts) - expected) ** 2 / expected).sum())


SCORES = np.array([0.1, 0.9, 0.35, 0.6], np.float32)
N_SEEDS = 2000
# Of chi-square with 3 degrees of freedom, exceeded once in 10^4: P(X > x) =
# erfc(sqrt(x / 2)) + sqrt(2 x / pi) e^(-x / 2). Seeds are fixed, so it is exceeded never or always.
BOUND = 21.11


def weights(name, beta):
    if name == "power":
        return SCORES.astype(float) ** beta
    if name == "softmax":
        return np.exp(beta * SCORES.astype(float))
    return (np.argsort(np.argsort(-SCORES)) + 1.0) ** -beta


def first_picks(name, beta, draw=None):
    draw = draw or (lambda seed: picks_of(SCORES, 1, name, seed=seed, beta=beta).rows[0])
    return np.bincount([draw(seed) for seed in range(N_SEEDS)], minlength=4)


def test_the_bound_is_what_it_says():
    tail = math.erfc(math.sqrt(BOUND / 2)) + math.sqrt(2 * BOUND / math.pi) * math.exp(-BOUND / 2)
    assert tail == pytest.approx(1e-4, rel=0.01)


@pytest.mark.parametrize("name", noises.NOISES)
def test_one_draw_is_in_proportion_to_the_weights(name):
    p = weights(name, 1.5)
    assert chi_square(first_picks(name, 1.5), p / p.sum()) < BOUND


@pytest.mark.parametrize("name", noises.NOISES)
def test_two_draws_are_without_replacement(name):
    """All ordered pairs: p_i p_j / (1 - p_i). 11 degrees of freedom: 37.37 once in 10^4."""
    p = weights(name, 1.0)
    p /= p.sum()
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    counts = dict.fromkeys(pairs, 0)
    for seed in range(N_SEEDS):
        counts[tuple(picks_of(SCORES, 2, name, seed=seed).rows.tolist())] += 1
    assert chi_square(list(counts.values()), [p[i] * p[j] / (1 - p[i]) for i, j in pairs]) < 37.37


def test_wrong_noise_is_caught():
    p = weights("softmax", 1.5)

    def normal(seed):
        noise = np.random.default_rng(seed).standard_normal(4)
        return np.argmax(1.5 * SCORES + noise)

    def one_sided(seed):  # Gumbel's mirror image, of its minimum
        return np.argmax(1.5 * SCORES + [-gumbel(seed, row) for row in range(4)])

    assert chi_square(first_picks("softmax", 1.5, normal), p / p.sum()) > BOUND
    assert chi_square(first_picks("softmax", 1.5, one_sided), p / p.sum()) > BOUND
    assert chi_square(first_picks("softmax", 1.0), p / p.sum()) > BOUND


# --- the threshold


@pytest.mark.parametrize("name", [None, *ON_ROWS])
@pytest.mark.parametrize("by", ["ratio", as_they_are])
def test_the_threshold_is_the_kth_best(name, by):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((900, 4)) if by == "ratio" else rng.random(900)
    selector = fastal.Selector(40, by, noise=name, seed=3)
    for start in range(0, 900, 30):
        selector.update(x[start : start + 30])
        threshold = selector.kth_score  # before the best are selected, and after: the same
        picks = selector.result()
        assert threshold == selector.kth_score
        if start == 0:
            assert threshold is None
            continue
        last = torch.from_numpy(picks.scores[-1:])
        noise = Noise(name, 3)
        assert threshold == noise.keys(last, RowNumbers(1, int(picks.rows[-1]))).item()


@needs_triton
def test_the_threshold_disturbs_nothing_and_lags_only_on_a_gpu():
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    plain, watched = (fastal.Selector(5, backend="triton") for _ in range(2))
    seen = []
    for start in range(0, 50, 10):
        plain.update(x[start : start + 10])
        watched.update(x[start : start + 10])
        seen.append(watched.kth_score)
    assert seen == sorted(seen)
    picks = watched.result()
    assert picks.rows.tolist() == plain.result().rows.tolist()
    assert 0 < seen[-1] <= picks.scores[-1] == watched.kth_score


def test_softrank_has_no_threshold():
    selector = fastal.Selector(2, as_they_are, noise="softrank")
    selector.update(np.arange(10.0))
    assert selector.kth_score is None


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"noise": "gumbel"}, ValueError, "noise: wanted one of power, softmax, softrank or None"),
        ({"seed": -1}, ValueError, r"seed: wanted 0 to 2\^64 - 1, got -1"),
        ({"seed": 2**64}, ValueError, "seed: wanted 0 to"),
        ({"seed": 1.0}, TypeError, "seed: wanted an integer, got 1.0"),
        ({"seed": True}, TypeError, "seed: wanted an integer, got True"),
        ({"beta": 0}, ValueError, "beta: wanted a finite number above 0, got 0"),
        ({"beta": math.inf}, ValueError, "beta: wanted a finite number"),
        ({"beta": math.nan}, ValueError, "beta: wanted a finite number"),
        ({"beta": "1"}, TypeError, "beta: wanted a number, got '1'"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        fastal.Selector(3, **{"noise": "power", **arguments})


def test_power_refuses_a_score_below_0_and_takes_nothing_of_the_chunk():
    selector = fastal.Selector(3, as_they_are, noise="power")
    selector.update(np.ones(2), 100)
    with pytest.raises(ValueError, match=r"by: noise 'power' .* row 104 has -0.5"):
        selector.update(np.array([3, -0.0, -0.5, -1]), 102)
    assert selector.state_dict()["scorer"]["next_row"] == 102
    assert set(selector.result().rows.tolist()) == {100, 101}
    assert picks_of([-1, -2, 5], 1, "softmax", beta=100.0).rows.tolist() == [2]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"noise": None}, "noise=None, this one noise='power'"),
        ({"noise": "softmax"}, "noise='softmax', this one noise='power'"),
        ({"seed": 8}, "seed=8, this one seed=7"),
        ({"beta": 2}, r"beta=2.0, this one beta=1.0"),
    ],
)
def test_only_equals_merge_and_restore(other, words):
    one = fastal.Selector(3, noise="power", seed=7)
    other = fastal.Selector(3, **{"noise": "power", "seed": 7, **other})
    with pytest.raises(ValueError, match=f"merge: the other has {words}"):
        one.merge(other)
    with pytest.raises(ValueError, match=f"load_state_dict: the state has {words}"):
        one.load_state_dict(other.state_dict())


def test_a_state_without_the_scores_is_refused():
    selector = fastal.Selector(2, as_they_are, noise="power")
    selector.update(np.ones(5))
    state = selector.state_dict()
    for payload in (np.ones(1), np.ones((2, 2))):
        with pytest.raises(ValueError, match="not one score"):
            selector.load_state_dict({**state, "top": {**state["top"], "payload": payload}})
    del state["top"]["payload"]
    with pytest.raises(ValueError, match="the state lacks 'payload'"):
        selector.load_state_dict(state)
