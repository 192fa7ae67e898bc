"""NumPy and SciPy as a careful user would write it: partition instead of sort, no Python loops."""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from scipy.stats import entropy

from benchmarks.peers.inputs import LABELLED, SIMILAR


def scores(data):
    names = "least_confidence", "margin", "ratio", "entropy"
    return lambda: dict(zip(names, all_scores(data["logits"]), strict=True))


def all_scores(logits):
    p = softmax(logits, axis=1)
    n = p.shape[1]
    p2, p1 = np.partition(p, n - 2, axis=1)[:, n - 2 :].T
    return n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, entropy(p, axis=1) / math.log(n)


def three(data):
    def work():
        confidence, margin, _, nats = all_scores(data["logits"])
        ranked = [best(one, int(data["k"])) for one in (confidence, margin, nats)]
        return {"rows": np.stack(ranked)}

    return work


def top(data):
    return lambda: {"rows": best(margin(data["logits"]), int(data["k"]))}


def margin(logits):
    p = softmax(logits, axis=1)
    p2, p1 = np.partition(p, p.shape[1] - 2, axis=1)[:, p.shape[1] - 2 :].T
    return 1 - (p1 - p2)


def best(scores, k):
    rows = np.argpartition(-scores, k - 1)[:k]
    return rows[np.argsort(-scores[rows], kind="stable")]


def bald(data):
    def work():
        p = softmax(data["logits"], axis=2)
        scores = entropy(p.mean(1), axis=1) - entropy(p, axis=2).mean(1)
        return {"rows": best(scores, int(data["k"]))}

    return work


def quotas(data):
    def work():
        scores = margin(data["logits"])
        order = np.lexsort((-scores, data["groups"]))
        groups = data["groups"][order]
        place = np.arange(len(order)) - np.searchsorted(groups, groups)
        rows = order[place < int(data["k"])]
        return {"rows": rows[np.argsort(-scores[rows], kind="stable")]}

    return work


def core_set(data):
    """A running minimum of distances to the last pick."""
    x = data["x"]

    def work():
        nearest = np.full(len(x), np.inf, np.float32)
        rows = []
        for step in range(LABELLED + int(data["k"])):
            row = step if step < LABELLED else int(nearest.argmax())
            np.minimum(nearest, np.linalg.norm(x - x[row], axis=1), out=nearest)
            nearest[row] = -1
            rows.append(row)
        return {"rows": np.array(rows[LABELLED:])}

    return work


def outliers(data):
    x, validation = data["x"], data["validation"]
    n = len(validation)

    def work():
        ranks = np.zeros(len(x))
        for column, values in zip(x.T, np.sort(validation, 0).T, strict=True):
            above = np.searchsorted(values, column, side="right")
            low, high = values[(above - 1).clip(0)], values[above.clip(max=n - 1)]
            with np.errstate(divide="ignore", invalid="ignore"):
                rank = (above - 1 + (column - low) / (high - low)) / n
            ranks += np.where(above == 0, 0, np.where(above == n, 1, rank))
        return {"rows": best(1 - ranks / x.shape[1], int(data["k"]))}

    return work


def dedup(data):
    """The whole matrix of similarities at once."""
    x = data["x"]

    def work():
        units = x / np.linalg.norm(x, axis=1, keepdims=True)
        similar = np.tril(units @ units.T >= SIMILAR, -1)
        return {"rows": np.flatnonzero(similar.any(1))}

    return work


def temperature(data):
    logits, labels = data["logits"], data["labels"]

    def work():
        of_labels = logits[np.arange(len(logits)), labels]

        def loss(beta):
            return float(np.mean(logsumexp(beta * logits, axis=1) - beta * of_labels))

        return {"temperature": [1 / minimize_scalar(loss, bounds=(0.01, 100), method="bounded").x]}

    return work
