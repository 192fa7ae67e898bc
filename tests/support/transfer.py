"""The small model of transfer learning as its definition says, in plain NumPy and float64."""

import numpy as np


def standardised(x, rows):
    """Rows, with the means and deviations of x, which the definition rounds to float32."""
    x, rows = np.asarray(x, np.float64), np.asarray(rows, np.float64)
    mean = x.mean(0).astype(np.float32).astype(np.float64)
    scale = x.std(0).astype(np.float32).astype(np.float64)
    is_constant = x.min(0) == x.max(0)
    return np.where(is_constant, 0, (rows - mean) / np.where(is_constant, 1, scale))


def regression(z, is_positive, l2=1.0, balanced=True, bias_is_free=True):
    """Weights and bias of the least loss, by Newton's method, row by row."""
    n, width = z.shape
    n_positive = int(np.sum(is_positive))
    w = np.zeros(width + 1)
    penalty = np.diag([l2] * width + [0 if bias_is_free else l2])
    for _ in range(60):
        slope, curvature = penalty @ w, penalty.copy()
        for row, positive in zip(z, is_positive, strict=True):
            c = n / (2 * (n_positive if positive else n - n_positive)) if balanced else 1
            a = np.append(row, 1)
            p = 1 / (1 + np.exp(-(w @ a)))
            slope += c * (p - positive) * a
            curvature += c * p * (1 - p) * np.outer(a, a)
        w = w - np.linalg.solve(curvature, slope)
        if np.abs(slope).max() < 1e-11 * n:
            break
    assert np.abs(slope).max() < 1e-9 * n  # it is a minimum, and the only one
    return w[:-1], w[-1]


def log_odds(x, is_positive, rows, l2=1.0, **how):
    """The log-odds of rows by a model that was trained on x, and a bound on their error.

    The definition rounds weight and bias to float32, each by a share of 2^-24 at most, and then the
    log-odds likewise. Newton's method is exact to about 1e-12.
    """
    weight, bias = regression(standardised(x, x), is_positive, l2, **how)
    products = standardised(x, rows) * weight
    found = products.sum(1) + bias
    bound = (np.abs(products).sum(1) + abs(bias) + np.abs(found)) * 2.0**-24 + 1e-9
    return found, bound


def pairs_in_order(scores, is_positive):
    """The AUC: the share of all pairs that are in order, counted one by one."""
    found = [
        1.0 if positive > other else 0.5 if positive == other else 0.0
        for positive in scores[is_positive]
        for other in scores[~is_positive]
    ]
    return sum(found) / len(found)
