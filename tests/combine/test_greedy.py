"""`diverse` and `ranked_batch` against their definitions, written as loops in float64."""

import numpy as np
import pytest

from fastal import combine
from tests.support.combined import cosine, margins, pools, uncertain_rows

LOGITS, X = pools()
LABELLED = X[::9] + np.float32(0.5)


def distance(row, centres):
    """Half the cosine distance to the nearest centre."""
    return min((1 - cosine(row, centre)) / 2 for centre in centres)


def share(n_unlabelled, n_labelled):
    return n_unlabelled / (n_unlabelled + n_labelled)


def by_definition(k, rows, labelled=(), alpha=share, scores=margins, distance=distance):
    """The rows and what they were worth, by a loop over the picks."""
    uncertainty, centres, left, picks, worth = scores(LOGITS), [*labelled], sorted(rows), [], []
    while left and len(picks) < k:
        values = [uncertainty[row] for row in left]
        if centres:
            a = alpha(len(left), len(centres))
            values = [a * distance(X[row], centres) + (1 - a) * uncertainty[row] for row in left]
        best = int(np.argmax(values))
        worth.append(values[best])
        picks.append(left.pop(best))
        centres.append(X[picks[-1]])
    return picks, worth


@pytest.mark.parametrize("n_labelled", [0, 1, 40])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.3, 1.0])
def test_ranked_batches_follow_the_definition(n_labelled, alpha):
    labelled = LABELLED[:n_labelled]
    picks = combine.ranked_batch(LOGITS, X, 12, labelled=labelled, alpha=alpha)
    given = share if alpha is None else lambda *_: alpha
    rows, worth = by_definition(12, range(400), labelled, given)
    assert picks.rows.tolist() == rows
    # Half of (D + 8) 2^-24 of the similarity, and 1e-5 of the uncertainty.
    np.testing.assert_allclose(picks.scores, worth, rtol=1e-5, atol=7 * 2.0**-24)


@pytest.mark.full
def test_a_wrong_weight_or_distance_is_found():
    picks = combine.ranked_batch(LOGITS, X, 12, labelled=LABELLED)
    for wrong in (
        {"alpha": lambda u, n: n / (u + n)},  # the other way round
        {"distance": lambda row, centres: max(1 - cosine(row, c) for c in centres) / 2},
        {"distance": lambda row, centres: 1 - distance(row, centres)},
        {"scores": lambda z: -margins(z)},
    ):
        rows, _ = by_definition(12, range(400), LABELLED, **wrong)
        assert picks.rows.tolist() != rows


def test_with_alpha_0_the_most_uncertain_rows_are_picked():
    picks = combine.ranked_batch(LOGITS, X, 20, alpha=0)
    assert picks.rows.tolist() == uncertain_rows(margins(LOGITS), 20)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_other_weights_are_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha: wanted a number from 0 to 1"):
        combine.ranked_batch(LOGITS, X, 2, alpha=alpha)


@pytest.mark.parametrize("n_labelled", [0, 1, 40])
@pytest.mark.parametrize("oversample", [1, 3, 50])
def test_diverse_rows_follow_the_definition(n_labelled, oversample):
    labelled = LABELLED[:n_labelled]
    picks = combine.diverse(LOGITS, X, 12, oversample=oversample, labelled=labelled)
    candidates = uncertain_rows(margins(LOGITS), 12 * oversample)
    assert picks.rows.tolist() == by_definition(12, candidates, labelled, lambda *_: 1)[0]
    np.testing.assert_allclose(picks.scores, margins(LOGITS)[picks.rows], rtol=1e-5)


def test_diverse_rows_are_farther_apart_than_the_most_uncertain():
    def nearest(rows):
        return np.mean([distance(X[row], X[[r for r in rows if r != row]]) for row in rows])

    diverse = combine.diverse(LOGITS, X, 12)
    assert nearest(diverse.rows) > 1.5 * nearest(uncertain_rows(margins(LOGITS), 12))


def test_a_second_row_like_a_pick_is_picked_last():
    x, logits = X.copy(), LOGITS.copy()
    x[:30], logits[:30] = x[0], 0  # the most uncertain rows are one row
    picks = combine.diverse(logits, x, 12)
    assert np.count_nonzero(picks.rows < 30) == 1


def test_labelled_rows_of_another_width_are_refused():
    for strategy in (combine.diverse, combine.ranked_batch):
        with pytest.raises(ValueError, match=r"labelled: wanted 6 columns, as the embeddings have"):
            strategy(LOGITS, X, 2, labelled=X[:2, 1:])
