"""Pools of logits and embeddings, the definitions that combined strategies share, and the calls."""

import math

import numpy as np

from fastal import combine, diversity

N_ROWS, N_CLASSES, WIDTH = 400, 5, 6


def pools(n=N_ROWS, seed=0):
    """Logits [n, C] and embeddings [n, D] of the same rows."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n, N_CLASSES))
    embeddings = rng.standard_normal((n, WIDTH)) + 2 * np.eye(WIDTH)[rng.integers(3, size=n)]
    return logits.astype(np.float32), embeddings.astype(np.float32)


VALIDATION, CENTROIDS = pools(50, 1)[1], np.eye(3, WIDTH)


def margins(logits):
    """1 - (p1 - p2) of each row, in float64."""
    scores = []
    for row in np.asarray(logits, np.float64):
        p = np.sort(np.exp(row - row.max()) / np.exp(row - row.max()).sum())
        scores.append(1 - (p[-1] - p[-2]))
    return np.array(scores)


def uncertain_rows(scores, m, allowed=None):
    """The m rows with the largest scores, best first; ties go to the lower row."""
    rows = range(len(scores)) if allowed is None else allowed
    return sorted(rows, key=lambda row: (-scores[row], row))[:m]


def mean_rank(row, validation):
    """The mean rank of a row's activations among the validation activations."""
    ranks = []
    for value, column in zip(row, np.sort(validation.astype(np.float64), axis=0).T, strict=True):
        i = np.count_nonzero(column <= value)
        if i in (0, len(column)):
            ranks.append(i / len(column))
        else:
            a, b = column[i - 1], column[i]
            ranks.append((i - 1 + (value - a) / (b - a)) / len(column))
    return float(np.mean([rank if rank < 1 else 1.0 for rank in ranks]))


def model_outliers_of_uncertain(
    logits, x, k, share, outlier=lambda row: 1 - mean_rank(row, VALIDATION)
):
    """The k model outliers of the most uncertain rows, best first, and their outlier scores."""
    candidates = uncertain_rows(margins(logits), max(k, math.ceil(len(logits) * share)))
    scores = {row: outlier(x[row]) for row in candidates}
    rows = sorted(candidates, key=lambda row: (-scores[row], row))[:k]
    return rows, [scores[row] for row in rows]


def cosine(a, b):
    """The cosine similarity of two rows, in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def clustered_picks(picks):
    """(row, cluster, role) of each pick."""
    return list(zip(picks.rows.tolist(), picks.groups.tolist(), picks["role"], strict=True))


STRATEGIES = {
    "clustered_uncertainty": lambda logits, x, k, **how: combine.clustered_uncertainty(
        logits, x, k, **how
    ),
    "uncertain_model_outliers": lambda logits, x, k, **how: combine.uncertain_model_outliers(
        logits, x, VALIDATION, k, **how
    ),
    "clustered_model_outliers": lambda logits, x, k, **how: combine.clustered_model_outliers(
        logits, x, VALIDATION, x, k, **how
    ),
    "most_uncertain_cluster": lambda logits, x, k, **how: combine.most_uncertain_cluster(
        logits, x, k, **how
    ),
    "weighted": lambda logits, x, k, **how: combine.weighted(
        [(logits, "margin", 0.7), (x, diversity.CentroidDistance(CENTROIDS), 0.3)], k, **how
    ),
}
STRATEGIES |= {
    "diverse": lambda logits, x, k, **how: combine.diverse(logits, x, k, **how),
    "ranked_batch": lambda logits, x, k, **how: combine.ranked_batch(logits, x, k, **how),
}
# What the pools are called.
FIRST = dict.fromkeys(STRATEGIES, "logits") | {"weighted": r"parts\[0\]"}
OTHER = dict.fromkeys(STRATEGIES, "embeddings") | {
    "uncertain_model_outliers": "activations",
    "clustered_model_outliers": "activations",
    "weighted": r"parts\[1\]",
}
