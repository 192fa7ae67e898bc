"""assert_scores passes equal scores, and says what differs."""

import numpy as np
import pytest

import fastal
from fastal.testing import assert_scores

NAN = float("nan")


def assert_margins(found, wanted):
    assert_scores({"margin": found}, {"margin": wanted}, names=["margin"])


def test_nan_is_right_where_it_is_wanted_and_nowhere_else():
    x = np.array([[0.0, 1.0], [NAN, 0.0]])
    scores = fastal.score(x, on_invalid="skip")
    assert_scores(scores, scores)
    for found, wanted in (([0.5, NAN], [0.5, 0.5]), ([0.5, 0.5], [0.5, NAN])):
        with pytest.raises(AssertionError, match=r"margin: row 1: .*nan.*1 of 2 rows are wrong"):
            assert_margins(found, wanted)


@pytest.mark.parametrize("off", [0, 0.5])
def test_scores_of_other_dimensions_are_refused(off):
    square = np.full((2, 2), 0.25)
    for shaped in (square, square[0, 0]):
        with pytest.raises(AssertionError, match=r"margin: wanted scores \[N\] .*, got float64 \["):
            assert_margins(shaped + off, shaped)


@pytest.mark.parametrize("names", [[], "margin", ["doubt"], None])
def test_names_are_names_of_scores(names):
    with pytest.raises(
        ValueError, match=r"names: wanted any of least_confidence, margin, .*, got "
    ):
        assert_scores({}, {}, names=names)
