"""Core-sets in few passes: the picks are those of one pass a pick, also where bounds are close."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastal.combine.greedy import Greedy
from fastal.diversity import CoreSet, candidates, k_center, metrics
from fastal.scoring.scoring_options import ScoringOptions

METRICS = ["cosine", "euclidean"]
U = 2.0**-24


def nearest_float32(square):
    """The float32 that is nearest to the square root of a fraction, found without rounding."""
    found = np.float32(math.sqrt(square))
    for guess in (np.nextafter(found, np.float32(0)), found, np.nextafter(found, np.float32(9e9))):
        up = np.nextafter(guess, np.float32(math.inf), dtype=np.float32)
        middle = (Fraction(float(guess)) + Fraction(float(up))) / 2
        if square < middle * middle:
            return guess
    raise AssertionError


def euclidean(a, b):
    return nearest_float32(
        sum((Fraction(float(x)) - Fraction(float(y))) ** 2 for x, y in zip(a, b, strict=True))
    )


def cosine(a, b):
    dot = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
    squares = [sum(Fraction(float(x)) ** 2 for x in row) for row in (a, b)]
    if not dot:
        return np.float32(1)
    similarity = nearest_float32(dot * dot / (squares[0] * squares[1]))
    return np.float32(1) - (similarity if dot > 0 else -similarity)


def by_definition(x, k, distance):
    """The picks of greedy k-centre by exact fractions; ties go to the lower row."""
    rows, nearest = [0], [np.float32(math.inf)] * len(x)
    scores = [math.inf]
    while len(rows) < min(k, len(x)):
        nearest = [min(n, distance(row, x[rows[-1]])) for n, row in zip(nearest, x, strict=True)]
        left = [row for row in range(len(x)) if row not in rows]
        rows.append(max(left, key=lambda row: (nearest[row], -row)))
        scores.append(float(nearest[rows[-1]]))
    scores[0] = scores[1] if len(scores) > 1 else 0.0
    return rows, scores


def assert_exact(x, k, metric, **options):
    picks = k_center(x, k, metric=metric, **options)
    rows, scores = by_definition(x, k, {"cosine": cosine, "euclidean": euclidean}[metric])
    assert picks.rows.tolist() == rows
    assert picks.scores.tolist() == scores


def memory_for(n_rows, width):
    return 16 * width * n_rows


@settings(deadline=None, max_examples=60)
@given(data=st.data(), metric=st.sampled_from(METRICS))
def test_ties_and_equal_rows_are_picked_as_by_exact_fractions(data, metric):
    width = data.draw(st.integers(1, 3))
    some = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    rows = data.draw(st.lists(some, min_size=1, max_size=24))
    x = np.array(rows, np.float32)
    memory = memory_for(data.draw(st.integers(0, 9)), width) + 1
    chunk_bytes = data.draw(st.integers(1, 12)) * 4 * width
    assert_exact(
        x, data.draw(st.integers(1, 24)), metric, memory_bytes=memory, chunk_bytes=chunk_bytes
    )


def on_a_line(steps):
    """Rows (0), (1 + some units in the last place)."""
    return np.array([0, *(1 + 2 * U * np.array(steps))], np.float32)[:, None]


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.integers(0, 3), min_size=1, max_size=16),
    n_held=st.integers(1, 5),
    rows_a_chunk=st.integers(1, 17),
)
@example(steps=[0, 0, 0, 1], n_held=2, rows_a_chunk=2)
def test_distances_one_unit_apart_are_told_apart(steps, n_held, rows_a_chunk):
    memory, chunk_bytes = memory_for(n_held, 1), 4 * rows_a_chunk
    assert_exact(on_a_line(steps), 5, "euclidean", memory_bytes=memory, chunk_bytes=chunk_bytes)
    turned = np.concatenate([on_a_line(steps) * 1e-3, np.ones((len(steps) + 1, 1))], 1)
    turned = turned.astype(np.float32)
    memory = memory_for(n_held, 2)
    assert_exact(turned, 5, "cosine", memory_bytes=memory, chunk_bytes=2 * chunk_bytes)


# The pass after row 0 holds rows 2 and 3. Row 2 is picked. Then row 3 ties with row 1.
TIED_WITH_A_DROPPED_ROW = np.array([[0], [-1], [10], [9]], np.float32)


def picks_with_two_candidates():
    return k_center(
        TIED_WITH_A_DROPPED_ROW, 3, metric="euclidean", memory_bytes=memory_for(2, 1)
    ).rows.tolist()


def test_a_row_that_ties_with_a_dropped_one_waits_for_the_next_pass():
    assert picks_with_two_candidates() == [0, 2, 1]


def test_a_bound_that_is_one_unit_too_low_is_found(monkeypatch):
    def too_low(self, rows, centres, *, fast):
        exact = self.exact(self.points(rows.x), centres)
        return torch.from_numpy(np.nextafter(exact, np.float32(-1)))

    monkeypatch.setattr(metrics.Euclidean, "upper", too_low)
    assert picks_with_two_candidates() == [0, 2, 3]


def test_an_order_that_forgets_row_numbers_is_found(monkeypatch):
    def wrong(self, other):
        return other is None or self.worth >= other.worth

    monkeypatch.setattr(candidates.Place, "precedes", wrong)
    assert picks_with_two_candidates() == [0, 2, 3]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_bounds_hold(metric, dtype, data):
    width = data.draw(st.sampled_from([1, 3, 17, 100]))
    scale = data.draw(st.sampled_from([1e-3, 1.0, 1e3]))
    offset = data.draw(st.sampled_from([0.0, 30.0]))
    draws = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x = (torch.randn(40, width, generator=draws) * scale + offset * scale).to(dtype)
    n_centres = data.draw(st.integers(1, 40))
    distance = metrics.METRICS[metric]()
    reducer = CoreSet(1, metric=metric)
    rows = reducer._prepare(x, 0)
    centres = distance.points(x[:n_centres])
    exact = distance.exact(distance.points(x), centres)
    assert (distance.upper(rows, centres, fast=False).numpy() >= exact).all()
    prepared = distance.prepared(x)
    for centre in centres[:3]:
        of_one = distance.exact(distance.points(x), centre[None])
        lower, upper = distance.bounds(prepared, centre)
        assert ((lower <= of_one) & (of_one <= upper)).all()
    # No row's distance depends on the rows and centres beside it.
    alone = [
        distance.exact(distance.points(x[i : i + 1]), centre[None])[0]
        for i in (0, 5, 39)
        for centre in centres
    ]
    assert np.array(alone).reshape(3, -1).min(1).tolist() == exact[[0, 5, 39]].tolist()


def passes_of(reducer, x):
    n_passes = 1
    reducer.update(x, 0)
    while reducer.next_pass():
        reducer.update(x, 0)
        n_passes += 1
    return n_passes


@pytest.mark.parametrize("kind", ["gaussian", "clusters", "low rank", "one-hot"])
@pytest.mark.parametrize("metric", METRICS)
def test_k_picks_take_at_most_a_25th_as_many_passes(kind, metric):
    draws = np.random.default_rng(0)
    x = draws.standard_normal((6000, 24), dtype=np.float32)
    if kind == "clusters":
        x = np.repeat(x[:60], 100, 0) + x / 4
    elif kind == "low rank":
        x = (x[:, :4] @ x[:4]).astype(np.float32)
    elif kind == "one-hot":
        x = np.eye(600, dtype=np.float32)[draws.integers(0, 600, 6000)]
    reducer = CoreSet(500, metric=metric, memory_bytes=memory_for(1024, x.shape[1]))
    assert passes_of(reducer, x) <= 500 / 25
    assert reducer.result().rows.tolist() == k_center(x, 500, metric=metric).rows.tolist()


def ranked_by_definition(x, uncertainty, k, n_labelled, labelled):
    """Ranked batches by a loop over the picks, in float64."""
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest = np.full(len(x), math.inf)
    for row in labelled / np.linalg.norm(labelled, axis=1, keepdims=True):
        nearest = np.minimum(nearest, 1 - units @ row)
    rows = []
    while len(rows) < k:
        alpha = (len(x) - len(rows)) / (len(x) + n_labelled)
        worth = uncertainty.astype(np.float64)
        if np.isfinite(nearest).all():
            worth = alpha * nearest / 2 + (1 - alpha) * worth
        worth[rows] = -math.inf
        rows.append(int(worth.argmax()))
        nearest = np.minimum(nearest, 1 - units @ units[rows[-1]])
    return rows


@settings(deadline=None, max_examples=30)
@given(
    n_labelled=st.sampled_from([0, 2, 200]),
    n_held=st.sampled_from([1, 4, 40, 300]),
    seed=st.integers(0, 50),
)
def test_ranked_batches_are_those_of_one_pass_a_pick(n_labelled, n_held, seed):
    draws = np.random.default_rng(seed)
    x, labelled = draws.standard_normal((300, 5)), draws.standard_normal((n_labelled, 5))
    uncertainty = draws.random(300, np.float32)
    reducer = Greedy(
        40, uncertainty, labelled, n_unlabelled=300, options=ScoringOptions(),
        memory_bytes=2 * memory_for(n_held, 5),
    )  # fmt: skip
    passes_of(reducer, x)
    want = ranked_by_definition(x, uncertainty, 40, n_labelled, labelled)
    assert reducer.result().rows.tolist() == want


def test_a_bound_that_forgets_what_rows_gain_is_found(monkeypatch):
    draws = np.random.default_rng(3)
    x, labelled = draws.standard_normal((300, 5)), draws.standard_normal((200, 5))
    uncertainty = draws.random(300, np.float32)
    monkeypatch.setattr(Greedy, "_most_gained", lambda _, n_picks: 0.0)
    found = []
    for n_held in range(1, 60):
        reducer = Greedy(
            40, uncertainty, labelled, n_unlabelled=300, options=ScoringOptions(),
            memory_bytes=2 * memory_for(n_held, 5),
        )  # fmt: skip
        passes_of(reducer, x)
        found.append(reducer.result().rows.tolist())
    want = ranked_by_definition(x, uncertainty, 40, 200, labelled)
    assert any(rows != want for rows in found)
