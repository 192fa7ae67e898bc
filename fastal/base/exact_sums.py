"""Exact sums of float64 numbers: no order of the numbers or of partial sums changes a bit."""

import numpy as np
from numpy.typing import NDArray

# A float64 is a whole number of 53 bits and a sign, times a power of 2 that is at least UNIT.
_DIGITS, _LEAST_EXPONENT = 53, -1073
_UNIT_EXPONENT = _LEAST_EXPONENT - _DIGITS
# Whole numbers are added in two halves. Float64 adds 2^26 of these without rounding.
_HALF = 27
_MOST = 1 << (_DIGITS - _HALF)


def exact_sums(values: NDArray[np.float64], places: NDArray[np.int64], n_sums: int) -> list[int]:
    """Sums of finite numbers, each without any rounding.

    Args:
        values: [m] float64, finite, at most 2^26 of them.
        places: [m] int64, which sum each value is added to, from 0 to `n_sums` - 1.
        n_sums: how many sums there are.

    Returns:
        `n_sums` integers, in units of 2^-1126. Integers of several calls may be added.
    """
    totals = [0] * n_sums
    if not len(values):
        return totals
    assert len(values) <= _MOST
    fraction, exponent = np.frexp(values)
    whole = np.ldexp(fraction, _DIGITS).astype(np.int64)
    least = int(exponent.min())
    span = int(exponent.max()) - least + 1
    keys = places * span + (exponent - least)
    high, low = (
        np.bincount(keys, half, n_sums * span) for half in (whole >> _HALF, whole % (1 << _HALF))
    )
    for key in np.flatnonzero((high != 0) | (low != 0)).tolist():
        place, above = divmod(key, span)
        found = (int(high[key]) << _HALF) + int(low[key])
        totals[place] += found << (least + above - _DIGITS - _UNIT_EXPONENT)
    return totals


def mean_of(total: int, n: int) -> float:
    """The mean of n numbers whose sum is `total`, in units of `exact_sums`, correctly rounded."""
    return total / (n << -_UNIT_EXPONENT)
