"""How well a small model tells two sides apart on rows that it was not trained on."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.row_numbers import RowNumbers
from fastal.base.row_random import uniform
from fastal.combine.small_model import Fit, log_odds

_MOST_FOLDS = 5


def held_out_auc(fit: Fit, x: Tensor, is_positive: Tensor, seed: int) -> float:
    """The mean AUC over folds, each scored by a model that was trained on the other folds.

    There are five folds, or as many as the smaller side has rows. Both sides are spread evenly over
    them, drawn by the seed.

    Args:
        fit: trains a small model.
        x: [n, H] float64 on the host.
        is_positive: [n] bool.
        seed: of the folds.

    Returns:
        From 0 to 1, 0.5 for a model that knows nothing; NaN if a side has a single row.
    """
    n_positive = int(is_positive.sum())
    n_folds = min(_MOST_FOLDS, n_positive, len(x) - n_positive)
    if n_folds < 2:
        return math.nan
    fold = torch.from_numpy(folds(is_positive.numpy(), n_folds, seed))
    found = []
    for i in range(n_folds):
        held = fold == i
        scores = log_odds(x[held], fit(x[~held], is_positive[~held]))
        found.append(auc(scores.numpy(), is_positive[held].numpy()))
    return math.fsum(found) / n_folds


def folds(is_positive: NDArray[np.bool_], n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row, [n]; in all folds, a side has equally many rows, or one more."""
    drawn = np.argsort(uniform(seed, RowNumbers(len(is_positive), 0)), kind="stable")
    fold = np.empty(len(is_positive), np.int64)
    for side in (True, False):
        places = drawn[is_positive[drawn] == side]
        fold[places] = np.arange(len(places)) % n_folds
    return fold


def auc(scores: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> float:
    """The share of pairs of a positive row and another in which the positive has the larger score.

    Equal scores count as half a pair. Both sides have at least one row.
    """
    others = np.sort(scores[~is_positive])
    positives = scores[is_positive]
    below = int(np.searchsorted(others, positives, "left").sum())
    not_above = int(np.searchsorted(others, positives, "right").sum())
    return (below + not_above) / (2 * len(others) * len(positives))
