"""`uncertain_model_outliers` against its definition, written as loops in float64."""

import numpy as np
import pytest

import fastal
from fastal import combine, diversity
from tests.support.combined import (
    VALIDATION,
    mean_rank,
    model_outliers_of_uncertain,
    pools,
)


@pytest.mark.parametrize("share", [0.02, 0.1, 1])
@pytest.mark.parametrize("k", [1, 6, 40])
def test_picks_follow_the_definition(share, k):
    logits, x = pools()
    picks = combine.uncertain_model_outliers(logits, x, VALIDATION, k, share=share)
    rows, scores = model_outliers_of_uncertain(logits, x, k, share)
    assert picks.rows.tolist() == rows
    # The mean of 6 ranks, each rounded to float32 a few times: 16 roundings of at most 2^-25.
    np.testing.assert_allclose(picks.scores, scores, rtol=0, atol=2.0**-21)


def test_a_wrong_rank_is_found():
    logits, x = pools()
    picks = combine.uncertain_model_outliers(logits, x, VALIDATION, 9)
    for wrong in (lambda row: mean_rank(row, VALIDATION), lambda row: -float(np.mean(row))):
        assert picks.rows.tolist() != model_outliers_of_uncertain(logits, x, 9, 0.1, wrong)[0]


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


def test_a_message_about_ties_recommends_nothing_that_does_not_exist(caplog):
    logits, x = pools()
    combine.uncertain_model_outliers(logits, x, VALIDATION[:1], 20, share=1)  # few distinct ranks
    assert "rows have the score of the last pick" in caplog.text
    assert "ties=" not in caplog.text
