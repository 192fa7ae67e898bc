"""The mean over seeds, and how far it may be from the mean over all seeds."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CONFIDENCE = 0.95
_HALVINGS = 60


class Interval(NamedTuple):
    """A mean and its 95% confidence interval, by Student's t distribution.

    The interval says how far the mean over these seeds may be from the mean over all seeds, on the
    same data. It says nothing about other data.

    Attributes:
        mean: the mean of n values.
        low: the mean - t s / sqrt(n), where s is the standard deviation and t the quantile for
            n - 1 degrees of freedom. NaN if there is one value.
        high: the mean + t s / sqrt(n); NaN likewise.

    Example:
        >>> from fastal.simulation.interval import interval
        >>> print(interval([0.8, 0.9, 1.0]))
        0.9000 ± 0.2484
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ± {self.high - self.mean:.4f}"


def interval(values: NDArray[np.float64] | list[float]) -> Interval:
    """The mean of values and its interval."""
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Interval(mean, math.nan, math.nan)
    half = student_t(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def student_t(degrees: int) -> float:
    """The t that |T| exceeds with probability 5%, for a T of Student's distribution."""
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _within(middle, degrees) < _CONFIDENCE:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(high)


def _within(angle: float, degrees: int) -> float:
    """The probability of |T| < sqrt(degrees) tan(angle).

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    is_odd = degrees % 2
    term = math.cos(angle) if is_odd else 1.0
    total = 0.0
    for i in range(2 + is_odd, degrees + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (i - 1) / i
    if is_odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
