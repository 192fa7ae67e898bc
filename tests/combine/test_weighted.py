"""`weighted` against its definition, written as loops in float64."""

import math
import sys

import numpy as np
import pytest

import fastal
from fastal import combine, diversity
from tests.support.combined import CENTROIDS, cosine, margins, pools

LOGITS, X = pools()
DISTANCE = diversity.CentroidDistance(CENTROIDS)
WEIGHTS = [0.7, 0.3]


def scores():
    """The scores of both parts, in float32, whose ranks are exact."""
    distance = np.full(len(X), np.nan, np.float32)
    picks = fastal.select(X, len(X), DISTANCE)
    distance[picks.rows] = picks.scores
    return [fastal.score(LOGITS).margin, distance]


def rank(values):
    n = len(values)
    lower = [sum(float(b < a) for b in values) for a in values]
    equal = [sum(float(b == a) for b in values) - 1 for a in values]
    return [(i + j / 2) / (n - 1) for i, j in zip(lower, equal, strict=True)]


def in_range(values):
    low, high = float(min(values)), float(max(values))
    return [(float(value) - low) / (high - low) for value in values]


def mean(values):
    return sum(w * v for w, v in zip(WEIGHTS, values, strict=True)) / sum(WEIGHTS)


def product(values):
    return math.prod(v ** (w / sum(WEIGHTS)) for w, v in zip(WEIGHTS, values, strict=True))


def by_definition(parts, k, scaled, combined):
    """The rows and the scores of the picks, ranked in float32."""
    columns = [scaled(values) for values in parts]
    found = [np.float32(combined(values)) for values in zip(*columns, strict=True)]
    rows = sorted(range(len(found)), key=lambda row: (-found[row], row))[:k]
    return rows, [found[row] for row in rows]


def assert_picks(picks, parts, k, scaled, combined):
    rows, want = by_definition(parts, k, scaled, combined)
    assert picks.rows.tolist() == rows
    # Both are float64 figures with a few roundings, rounded to float32: they differ by one step.
    np.testing.assert_allclose(picks.scores, want, rtol=2.0**-23)


def weighted(k, **how):
    return combine.weighted([(LOGITS, "margin", WEIGHTS[0]), (X, DISTANCE, WEIGHTS[1])], k, **how)


@pytest.mark.parametrize(("scale", "scaled"), [("rank", rank), ("range", in_range)])
@pytest.mark.parametrize(("combination", "combined"), [("mean", mean), ("product", product)])
def test_picks_follow_the_definition(scale, scaled, combination, combined):
    for k in (1, 40, 400):
        picks = weighted(k, scale=scale, combination=combination)
        assert_picks(picks, scores(), k, scaled, combined)


def test_the_scores_are_those_of_the_parts():
    margin, distance = scores()
    # Relative 1e-5 is the bound of `fastal.score`; (D + 8) 2^-24 that of a similarity.
    np.testing.assert_allclose(margin, margins(LOGITS), rtol=1e-5)
    want = [1 - max(cosine(row, centroid) for centroid in CENTROIDS) for row in X]
    np.testing.assert_allclose(distance, want, rtol=0, atol=14 * 2.0**-24)


def test_a_wrong_scale_or_combination_is_found():
    picks = weighted(40)
    for scaled, combined in ((in_range, mean), (rank, product), (rank, lambda v: mean(v[::-1]))):
        with pytest.raises(AssertionError):
            assert_picks(picks, scores(), 40, scaled, combined)


def test_equal_scores_have_equal_ranks():
    given = np.array([0.5, 0.1, 0.5, 0.9, 0.5], np.float32)
    picks = combine.weighted([(given, "score", 2)], 5)
    assert picks.rows.tolist() == [3, 0, 2, 4, 1]
    assert picks.scores.tolist() == [1, 0.5, 0.5, 0.5, 0]
    assert combine.weighted([(given[:1], "score", 2)], 1).scores.tolist() == [0.5]


def test_only_the_ratios_of_weights_matter():
    one, other = (
        combine.weighted([(LOGITS, "margin", 2 * a), (X, DISTANCE, 2 * b)], 40)
        for a, b in (WEIGHTS, [weight * 4 for weight in WEIGHTS])
    )
    assert one.scores.tobytes() == other.scores.tobytes()


def test_weights_whose_sum_overflows_are_those_of_equal_ratios():
    huge, one = (
        combine.weighted([(LOGITS, "margin", weight), (X, DISTANCE, weight)], 40)
        for weight in (1e308, 1)
    )
    assert huge.scores.tobytes() == one.scores.tobytes()


def test_rows_that_are_invalid_in_a_part_have_no_rank():
    logits, x = LOGITS.copy(), X.copy()
    logits[3], x[4] = np.nan, np.nan
    picks = combine.weighted([(logits, "margin", 0.7), (x, DISTANCE, 0.3)], 9, on_invalid="skip")
    kept = np.setdiff1d(np.arange(400), [3, 4])
    rows, _ = by_definition([part[kept] for part in scores()], 9, rank, mean)
    assert picks.rows.tolist() == kept[rows].tolist()
    assert picks.invalid == 2


def test_a_part_says_what_its_pool_holds():
    probs = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    parts = [combine.Part(probs, "entropy", kind="probs"), (X, DISTANCE, 1)]
    assert combine.weighted(parts, 9).rows.tolist() == (
        combine.weighted([(LOGITS, "entropy", 1), (X, DISTANCE, 1)], 9).rows.tolist()
    )


def test_blocks_change_nothing(monkeypatch):
    for how in ({}, {"scale": "range", "combination": "product"}):
        want = weighted(40, **how)
        with monkeypatch.context() as patched:
            patched.setattr(sys.modules["fastal.combine.weighted"], "_BLOCK", 7)
            assert weighted(40, **how).scores.tobytes() == want.scores.tobytes()


def test_bad_parts_are_named():
    for parts, error, match in (
        ([], ValueError, "parts: wanted at least one"),
        ([LOGITS], TypeError, r"parts\[0\]: wanted a Part or a tuple \(pool, by, weight\)"),
        ([(LOGITS, "margin")], TypeError, r"parts\[0\]: wanted a Part or a tuple"),
        ([(LOGITS, "margin", 0)], ValueError, r"parts\[0\]: weight: wanted a finite number above"),
        ([(LOGITS, "margin", "1")], TypeError, r"parts\[0\]: weight: wanted a number"),
        ([(LOGITS, "doubt", 1)], ValueError, r"parts\[0\]: by: wanted one of"),
    ):
        with pytest.raises(error, match=match):
            combine.weighted(parts, 3)
    with pytest.raises(ValueError, match=r"scale: wanted one of rank, range, got 'log'"):
        weighted(3, scale="log")
    with pytest.raises(ValueError, match=r"combination: wanted one of mean, product"):
        weighted(3, combination="sum")
    with pytest.raises(ValueError, match=r"parts\[0\]: scale: 'range' wanted finite scores that d"):
        combine.weighted([(np.ones(9, np.float32), "score", 1)], 3, scale="range")
