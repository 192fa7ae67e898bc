"""Where the loss has its minimum: a bracket of inverse temperatures that narrows pass by pass."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastal.labelled.loss_sums import LEAST_BETA, MOST_BETA, Point

# The first pass has both ends of the range, and temperatures from 1/8 to 8 in factors of 2.
FIRST_BETAS = (1.0, LEAST_BETA, *(2.0**e for e in (-3, -2, -1, 1, 2, 3)), MOST_BETA)
# A bracket is narrow enough if its ends differ by less than a relative 5e-7. Trial points are
# not closer than 6e-8 to the estimate, so that rounding of the slopes does not blur their signs.
_ENOUGH, _CLOSEST = 2.0**-21, 2.0**-24
# A bracket that is narrower, in logarithms of beta, has a slope that a cubic fits.
_WIDE = 1.5
_PARTS = 8  # of a wide bracket
_STEPS = (1, 2, 3, 4, 6, 8, 128)  # in powers of 2, towards an end of the range


@dataclass(frozen=True)
class Bracket:
    """Two points between which the convex loss has its minimum.

    Attributes:
        low: has a slope below 0.
        high: has a slope of 0 or more, at a larger beta.
    """

    low: Point
    high: Point

    @property
    def width(self) -> float:
        """The logarithm of the ratio of the two betas."""
        return math.log(self.high.beta / self.low.beta)

    @property
    def is_enough(self) -> bool:
        """Whether each of its ends is the minimum, to a relative 5e-7."""
        return self.width <= _ENOUGH

    def narrowed(self, points: Sequence[Point]) -> "Bracket":
        """The bracket between neighbours among its ends and points within it."""
        ordered = [self.low, *sorted(points, key=lambda point: point.beta), self.high]
        above = next(i for i, point in enumerate(ordered) if point.slope >= 0)
        return Bracket(ordered[above - 1], ordered[above])

    def trials(self) -> list[float]:
        """The betas to evaluate next, all within the bracket. The first may be the minimum."""
        low, high, width = self.low.beta, self.high.beta, self.width
        if high == MOST_BETA:
            return [beta for beta in (low * 2.0**step for step in _STEPS) if beta < high]
        if low == LEAST_BETA:
            return [beta for beta in (high / 2.0**step for step in _STEPS) if beta > low]
        if width > _WIDE:
            steps = sorted(range(1, _PARTS), key=lambda i: abs(i - _PARTS / 2))
            return [low * math.exp(width * i / _PARTS) for i in steps]
        centre = low * math.exp(width * self._root())
        near = max(width**3 / 256, _CLOSEST)
        around = (centre * math.exp(offset) for offset in (-8 * near, -near, near, 8 * near))
        return [centre, *(beta for beta in around if low < beta < high)]

    def _root(self) -> float:
        """Where the slope is 0, by the cubic that has its values and derivatives at both ends.

        The slope is taken as a function of the logarithm of beta. Near the minimum, this is
        Newton's method from both ends at once. The root is found by bisection, so it is within the
        bracket, from 0 to 1.
        """
        width = self.width
        y0, y1 = self.low.slope, self.high.slope
        m0, m1 = (width * (end.slope + end.curvature) for end in (self.low, self.high))
        below, above = 0.0, 1.0
        for _ in range(60):
            s = (below + above) / 2
            r = 1 - s
            y = r * r * ((1 + 2 * s) * y0 + s * m0) + s * s * ((1 + 2 * r) * y1 - r * m1)
            below, above = (s, above) if y < 0 else (below, s)
        return (below + above) / 2
