"""Truth for scores of draws: the textbook definitions, in more digits than float64 has."""

import math

import mpmath
import numpy as np
import torch

from tests.support.matrices import regimes
from tests.support.oracle import RELATIVE, TINY, as_numpy, of_probabilities

BOOK = ("least_confidence", "margin", "ratio", "entropy")
# BALD is the difference of two entropies: its error is held against the larger of it and this.
LEAST_BALD = 1e-6
# e, its sum and their quotient are rounded: in float64, p is off by at most this share of itself.
# p is at most 1. So the standard deviation is off by at most as much.
ROUNDING_OF_P = 4 * 2.0**-53


def draws_oracle(x, kind="logits", temperature=1.0):
    """Every score of valid items x [N, S, C], by name: [N] float64.

    In C's long double, 64 bits of mantissa at least. Differences as 1 − p1 are right to 1e-7 of
    themselves from 1e-12 on.
    """
    assert np.finfo(np.longdouble).eps < 2e-19
    items = [_item(item, kind, temperature) for item in as_numpy(x)]
    return {name: np.array([item[name] for item in items], np.float64) for name in _NAMES}


def _item(x, kind, temperature):
    x = x.astype(np.longdouble)
    n_draws, n_classes = x.shape
    if kind == "probs":
        p = x.clip(min=0)
    else:
        p = np.exp((x - x.max(1, keepdims=True)) / np.longdouble(temperature))
    p /= p.sum(1, keepdims=True)
    mean = p.mean(0)
    divergences = [_sum_of_p_log_ratio(draw, mean) for draw in p]
    votes = np.unique(x.argmax(1), return_counts=True)[1] / np.longdouble(n_draws)
    book = of_probabilities(mean[None], n_classes)
    return {
        "bald": np.mean(divergences),
        "mean_entropy": -_sum_of_p_log_ratio(mean, 1),
        "expected_entropy": -np.mean([_sum_of_p_log_ratio(draw, 1) for draw in p]),
        "variation_ratio": 1 - votes.max(),
        "vote_entropy": -_sum_of_p_log_ratio(votes, 1),
        "kl_to_mean": np.mean(divergences),
        "variance": _variance(p),
        **{name: score[0] for name, score in zip(BOOK, book, strict=True)},
    }


def _variance(p):
    """Half the mean square of the differences of two draws: equal draws give exactly 0."""
    p = p.copy()
    for c in np.flatnonzero((p > 0.5).all(0)):
        p[:, c] = np.delete(p, c, 1).sum(1)  # 1 − p has the same variance, and more digits
    return sum(((p - draw) ** 2).mean() for draw in p) / (2 * len(p))


def _sum_of_p_log_ratio(p, q):
    """The sum Σ p ln(p / q), of the terms whose p is not 0."""
    kept = p > 0
    q = q[kept] if isinstance(q, np.ndarray) else q
    return (p[kept] * np.log(p[kept] / q)).sum()


def draws_to_any_digit(x, kind="logits", temperature=1.0):
    """The same in 400 digits, for draws so confident that no hardware float can hold 1 − p1."""
    with mpmath.workdps(400):
        items = [_exact_item(item.tolist(), kind, temperature) for item in as_numpy(x)]
        return {name: np.array([float(item[name]) for item in items]) for name in _NAMES}


def _exact_item(x, kind, temperature):
    n_draws, n_classes = len(x), len(x[0])
    draws = [_exact_draw(draw, kind, temperature) for draw in x]
    mean = [mpmath.fsum(column) / n_draws for column in zip(*draws, strict=True)]
    votes = [draw.index(max(draw)) for draw in x]
    shares = [mpmath.mpf(votes.count(vote)) / n_draws for vote in set(votes)]
    bald = mpmath.fsum(
        p * mpmath.log(p / m) for draw in draws for p, m in zip(draw, mean, strict=True) if p
    )
    squares = mpmath.fsum((p - m) ** 2 for draw in draws for p, m in zip(draw, mean, strict=True))
    first, second = sorted(mean, reverse=True)[:2]
    return {
        "bald": bald / n_draws,
        "mean_entropy": _exact_entropy(mean),
        "expected_entropy": mpmath.fsum(map(_exact_entropy, draws)) / n_draws,
        "variation_ratio": 1 - max(shares),
        "vote_entropy": _exact_entropy(shares),
        "kl_to_mean": bald / n_draws,
        "variance": squares / n_draws / n_classes,
        "least_confidence": n_classes * (1 - first) / (n_classes - 1),
        "margin": 1 - (first - second),
        "ratio": second / first,
        "entropy": _exact_entropy(mean) / mpmath.log(n_classes),
    }


def _exact_draw(x, kind, temperature):
    if kind == "probs":
        weights = [mpmath.mpf(max(value, 0.0)) for value in x]
    else:
        most = mpmath.mpf(max(x))
        weights = [
            mpmath.exp((mpmath.mpf(value) - most) / temperature) if value > -math.inf else 0
            for value in x
        ]
    total = mpmath.fsum(weights)
    return [weight / total for weight in weights]


def _exact_entropy(p):
    return -mpmath.fsum(value * mpmath.log(value) for value in p if value)


_NAMES = (
    "bald", "mean_entropy", "expected_entropy", "variation_ratio", "vote_entropy", "kl_to_mean",
    "variance", *BOOK,
)  # fmt: skip


def assert_draws(scores, truth):
    """Holds scores by name against the truth; NaN nowhere, every score at least 0."""
    for name, got in scores.items():
        got, want = as_numpy(got).astype(np.longdouble), np.asarray(truth[name], np.longdouble)
        assert got.shape == want.shape, name
        assert (got >= 0).all(), f"{name}: {got}"
        if name in ("bald", "kl_to_mean"):
            allowed = RELATIVE * np.maximum(want, LEAST_BALD)
        elif name == "variance":
            allowed = np.where(want < TINY, TINY, RELATIVE * want)
            allowed += ROUNDING_OF_P * (2 * np.sqrt(want) + ROUNDING_OF_P)
        else:
            allowed = np.where(want < TINY, TINY, RELATIVE * want)
        excess = np.abs(got - want) - allowed
        worst = np.argmax(excess) if len(want) else 0
        assert (excess <= 0).all(), f"{name}: item {worst}: {got[worst]} for {want[worst]}"


def draws_in_regimes(n_draws, n_classes, dtype):
    """Valid items [N, S, C] of logits: each regime of rows, with each kind of disagreement."""
    rows = regimes(n_classes, torch.float64)
    rows = rows.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).where(rows.isfinite(), rows)
    n_rows = len(rows)
    generator = torch.Generator().manual_seed(n_draws * n_classes)
    noise = torch.randn(n_rows, n_draws, n_classes, generator=generator, dtype=torch.float64)
    equal = rows[:, None].expand(-1, n_draws, -1)
    one_differs = equal.clone()
    one_differs[:, -1] = rows.roll(1, 0)
    items = [
        equal,
        equal + 1e-3 * noise,
        equal + noise,
        one_differs,
        torch.stack([rows.roll(s, 0) for s in range(n_draws)], 1),  # the regimes differ
        torch.stack([rows.roll(s, 1) for s in range(n_draws)], 1),  # the classes differ
    ]
    return torch.cat(items).to(dtype)
