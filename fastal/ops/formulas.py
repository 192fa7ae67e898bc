"""The uncertainty scores: formula, range, orientation, source.

All four are functions of a row's softmax statistics, which one pass over its n logits x computes.
Let m = max x. Each sum leaves out the maximum, or one of the maxima if several values tie:

    tail      = Σ e^(x_i − m)
    runner_up = e^(x2 − m), x2 the second largest
    moment    = Σ (x_i − m) e^(x_i − m), at most 0

No formula subtracts nearly equal numbers, so a row with p1 = 1 − 1e-12 keeps an accurate score.
Every score is in [0, 1]. A larger score means that the model is less certain of the row.

Source: Robert Munro, Human-in-the-Loop Machine Learning (Manning, 2021), section 3.2.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from fastal.base.argument_values import KINDS as KINDS
from fastal.base.argument_values import UNCERTAINTY_SCORES as UNCERTAINTY_SCORES


class Statistics(NamedTuple):
    """Softmax statistics of N rows, each [N]. `moment` is None if no score needs it."""

    tail: Tensor
    runner_up: Tensor
    moment: Tensor | None
    n_classes: int


class Scores(NamedTuple):
    """The four uncertainty scores of N rows: each [N] float32 in [0, 1], where 1 is most uncertain.

    The scores are arrays of the same library as the input: NumPy for NumPy, torch for torch. All
    four scores of an invalid row are NaN.

    Example:
        >>> import fastal, numpy as np
        >>> scores = fastal.score(np.log([[0.0321, 0.6439, 0.0871, 0.2369]]))
        >>> {name: round(float(score[0]), 4) for name, score in scores._asdict().items()}
        {'least_confidence': 0.4748, 'margin': 0.593, 'ratio': 0.3679, 'entropy': 0.6835}
    """

    least_confidence: Any
    margin: Any
    ratio: Any
    entropy: Any


class DrawsScores(NamedTuple):
    """The scores of N items of S draws each: each [N] float32, where larger is more uncertain.

    p_s is the distribution of draw s, m is the mean of all of them. v are the shares of the classes
    that the draws vote for; a draw votes for its largest value, the first of equals.

    * bald: the mean over s of Σ p_s ln(p_s / m) = mean_entropy − expected_entropy, in nats
    * mean_entropy: −Σ m ln m, in nats
    * expected_entropy: the mean over s of −Σ p_s ln p_s, in nats
    * variation_ratio: 1 − the largest of v
    * vote_entropy: −Σ v ln v, in nats
    * kl_to_mean: the mean divergence of a draw from m, in nats, which equals bald
    * variance: the mean over the classes of the population variance of p_s
    * least_confidence, margin, ratio, entropy: of m, each in [0, 1]; see `fastal.score`

    The arrays are of the library of the input. All scores of an invalid item are NaN: one with a
    draw that is invalid.

    Sources: Houlsby et al., Bayesian Active Learning (2011); Munro, section 3.5; Dagan and
    Engelson, Committee-Based Sampling (1995); McCallum and Nigam, Employing EM (1998).

    Example:
        >>> import fastal, numpy as np
        >>> p = np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.5, 0.5], [0.5, 0.5]]])
        >>> scores = fastal.score(p, kind="probs", draws_axis=1)
        >>> scores.bald.round(4), scores.margin
        (array([0.3681, 0.    ], dtype=float32), array([1., 1.], dtype=float32))
    """

    bald: Any
    mean_entropy: Any
    expected_entropy: Any
    variation_ratio: Any
    vote_entropy: Any
    kl_to_mean: Any
    variance: Any
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
    # Adding 0 · tail keeps a NaN in the tail: every score of an invalid row is NaN.
    return s.runner_up + 0 * s.tail


def entropy(s: Statistics) -> Tensor:
    """Entropy divided by its largest value: −Σ p log p / log n."""
    assert s.moment is not None  # the backend computes it if entropy is asked for
    return (s.tail.log1p() - s.moment / (1 + s.tail)) / math.log(s.n_classes)


FORMULAS: dict[str, Callable[[Statistics], Tensor]] = {
    "least_confidence": least_confidence,
    "margin": margin,
    "ratio": ratio,
    "entropy": entropy,
}
