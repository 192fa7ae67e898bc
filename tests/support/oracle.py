"""Independent truth: the textbook definitions, in more digits than float64 has."""

import mpmath
import numpy as np
import torch

from fastal.testing import assert_scores as assert_scores
from fastal.testing.compare import RELATIVE as RELATIVE
from fastal.testing.compare import TINY as TINY


def definitions(logits):
    """The four scores of each row: softmax, sort, and the formulas as the book prints them.

    In C's long double, 64 bits of mantissa at least: 1 − p1 is right to 1e-7 at p1 = 1 − 1e-12.
    """
    assert np.finfo(np.longdouble).eps < 2e-19
    x = as_numpy(logits).astype(np.longdouble)
    n = x.shape[1]
    p = np.exp(x - x.max(1, keepdims=True))
    return of_probabilities(p / p.sum(1, keepdims=True), n)


def of_probabilities(p, n):
    ranked = -np.sort(-p, axis=1)
    p1, p2 = ranked[:, 0], ranked[:, 1]
    log_p = np.log2(p, where=p > 0, out=np.zeros_like(p))  # the limit of p log p at 0 is 0
    return n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, -(p * log_p).sum(1) / np.log2(n)


def definitions_to_any_digit(logits, temperature=1.0):
    """The same in 400 digits, for rows so confident that no hardware float can hold 1 − p1."""
    rows = as_numpy(logits).astype(np.float64)
    with mpmath.workdps(400):
        scores = [_row(row, mpmath.mpf(temperature)) for row in rows]
        return [np.array(column) for column in zip(*scores, strict=True)]


def _row(x, temperature):
    n = len(x)
    values, counts = np.unique(-x, return_counts=True)  # from the largest down
    counts = counts.tolist()
    d = [(-mpmath.mpf(float(v)) - float(x.max())) / temperature for v in values]
    e = [mpmath.exp(v) if v > -mpmath.inf else 0 for v in d]
    total = mpmath.fsum(count * v for count, v in zip(counts, e, strict=True))
    p = [v / total for v in e]
    p1, p2 = p[0], p[counts[0] == 1]
    terms = (count * v * mpmath.log(v) for count, v in zip(counts, p, strict=True) if v > 0)
    entropy = -mpmath.fsum(terms) / mpmath.log(n)
    scores = n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, entropy
    held = (score if score > 1e-300 else mpmath.mpf(0) for score in scores)  # as any hardware does
    return [np.longdouble(mpmath.nstr(score, 25)) for score in held]


def as_numpy(x):
    return x.detach().cpu().double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
