"""`uncertain_model_outliers` against its definition, written as loops in float64."""

import math

import numpy as np
import pytest

import fastal
from fastal import combine, diversity
from tests.support.combined import VALIDATION, margins, pools, uncertain_rows


def mean_rank(row, validation):
    """The mean rank of a row's activations among the validation activations."""
    ranks = []
    for value, column in zip(row, np.sort(validation.astype(np.float64), axis=0).T, strict=True):
        i = np.count_nonzero(column <= value)
        if i in (0, len(column)):
            ranks.append(i / len(column))
        else:
            a, b = column[i - 1], column[i]
            ranks.append((i - 1 + (value - a) / (b - a)) / len(column))
    return float(np.mean([rank if rank < 1 else 1.0 for rank in ranks]))


def by_definition(logits, x, k, share, outlier=lambda row: 1 - mean_rank(row, VALIDATION)):
    """The rows and the outlier scores of the picks."""
    candidates = uncertain_rows(margins(logits), max(k, math.ceil(len(logits) * share)))
    scores = {row: outlier(x[row]) for row in candidates}
    rows = sorted(candidates, key=lambda row: (-scores[row], row))[:k]
    return rows, [scores[row] for row in rows]


@pytest.mark.parametrize("share", [0.02, 0.1, 1])
@pytest.mark.parametrize("k", [1, 6, 40])
def test_picks_follow_the_definition(share, k):
    logits, x = pools()
    picks = combine.uncertain_model_outliers(logits, x, VALIDATION, k, share=share)
    rows, scores = by_definition(logits, x, k, share)
    assert picks.rows.tolist() == rows
    # The mean of 6 ranks, each rounded to float32 a few times: 16 roundings of at most 2^-25.
    np.testing.assert_allclose(picks.scores, scores, rtol=0, atol=2.0**-21)


def test_a_wrong_rank_is_found():
    logits, x = pools()
    picks = combine.uncertain_model_outliers(logits, x, VALIDATION, 9)
    for wrong in (lambda row: mean_rank(row, VALIDATION), lambda row: -float(np.mean(row))):
        assert picks.rows.tolist() != by_definition(logits, x, 9, 0.1, wrong)[0]


def test_it_is_model_outliers_among_the_most_uncertain():
    logits, x = pools()
    picks = combine.uncertain_model_outliers(logits, x, VALIDATION, 9, share=0.2, by="entropy")
    from_parts = diversity.model_outliers(
        x, VALIDATION, 9, among=fastal.select(logits, 80, "entropy")
    )
    assert picks.rows.tolist() == from_parts.rows.tolist()
    assert picks.scores.tobytes() == from_parts.scores.tobytes()


def test_validation_data_of_another_width_is_refused():
    logits, x = pools()
    with pytest.raises(ValueError, match=r"validation: wanted 6 columns, as the activations have"):
        combine.uncertain_model_outliers(logits, x, VALIDATION[:, 1:], 3)
