"""Sums without rounding, against fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastal.base.exact_sums import exact_sums, mean_of

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
UNIT = Fraction(1, 2**1126)


def sums_of(values, places=None, n_sums=1):
    places = [0] * len(values) if places is None else places
    return exact_sums(np.array(values, float), np.array(places, np.int64), n_sums)


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 2)), max_size=40))
def test_sums_are_those_of_fractions(pairs):
    values, places = [v for v, _ in pairs], [p for _, p in pairs]
    for place, found in enumerate(sums_of(values, places, 3)):
        assert found * UNIT == sum(Fraction(v) for v, p in pairs if p == place)


@given(st.lists(NUMBERS, max_size=30), st.integers(0, 30))
def test_no_order_and_no_cut_changes_a_sum(values, cut):
    (whole,) = sums_of(values)
    assert sums_of(values[::-1]) == [whole]
    assert sums_of(values[:cut])[0] + sums_of(values[cut:])[0] == whole


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_means_are_correctly_rounded(values):
    (total,) = sums_of(values)
    assert mean_of(total, len(values)) == float(sum(map(Fraction, values)) / len(values))


def test_a_sum_in_floats_would_be_caught():
    values = [1e300, 1.0, -1e300, 5e-324]
    (total,) = sums_of(values)
    assert total * UNIT == 1 + Fraction(5e-324)
    assert np.sum(values) != 1
    assert mean_of(total, 4) == 0.25 == math.fsum(values) / 4


@pytest.mark.full
def test_many_equal_numbers_fit_the_halves():
    values = np.full(1 << 20, np.nextafter(1.0, 0))
    assert sums_of(values)[0] * UNIT == (1 << 20) * Fraction(values[0])
    assert sums_of(-values)[0] == -sums_of(values)[0]
