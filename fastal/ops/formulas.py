"""The uncertainty measures: formula, range, orientation, source.

All four are functions of a row's softmax statistics, which one pass over its n logits x yields.
With m = max x and the maximum itself left out of each sum (one of them, where several tie):

    tail      = Σ e^(x_i − m)
    runner_up = e^(x2 − m), x2 the second largest
    moment    = Σ (x_i − m) e^(x_i − m), at most 0

No formula subtracts nearly equal numbers, so a row at p1 = 1 − 1e-12 keeps a meaningful score.
Every score is in [0, 1] and larger means more uncertain, hence more worth labelling.

Source: Robert Munro, Human-in-the-Loop Machine Learning (Manning, 2021), section 3.2.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from fastal.base.choices import KINDS as KINDS
from fastal.base.choices import UNCERTAINTY_SCORES as UNCERTAINTY_SCORES


class Statistics(NamedTuple):
    """Softmax statistics of N rows, each [N]; `moment` is None where no measure asks for it."""

    tail: Tensor
    runner_up: Tensor
    moment: Tensor | None
    n_classes: int


class Scores(NamedTuple):
    """The four uncertainty scores of N rows, each [N] float32 in [0, 1], 1 = most uncertain.

    The arrays are of the kind that was scored: NumPy for NumPy, torch for torch, and so on. An
    invalid row has NaN in all four.
    """

    least_confidence: Any
    margin: Any
    ratio: Any
    entropy: Any


def least_confidence(s: Statistics) -> Tensor:
    """Least confidence: n (1 − p1) / (n − 1)."""
    return s.tail / (1 + s.tail) * (s.n_classes / (s.n_classes - 1))


def margin(s: Statistics) -> Tensor:
    """Margin of confidence: 1 − (p1 − p2)."""
    return (s.tail + s.runner_up) / (1 + s.tail)


def ratio(s: Statistics) -> Tensor:
    """Ratio of confidence: p2 / p1."""
    # The zero makes a NaN in the tail one here too: every score of an invalid row is NaN.
    return s.runner_up + 0 * s.tail


def entropy(s: Statistics) -> Tensor:
    """Entropy over its largest value: −Σ p log p / log n."""
    assert s.moment is not None  # the backend computes it when entropy is asked for
    return (s.tail.log1p() - s.moment / (1 + s.tail)) / math.log(s.n_classes)


FORMULAS: dict[str, Callable[[Statistics], Tensor]] = {
    "least_confidence": least_confidence,
    "margin": margin,
    "ratio": ratio,
    "entropy": entropy,
}
