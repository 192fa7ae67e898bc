"""Known data and a model of least squares, and the loop of active learning written by hand."""

import math

import numpy as np

import fastal

RNG = np.random.default_rng(0)
N, COLUMNS, CLASSES = 240, 6, 4
# The first column is the number of the row, which no model reads.
X = np.column_stack([np.arange(N), RNG.standard_normal((N, COLUMNS))])
Y = (X[:, 1:] @ RNG.standard_normal((COLUMNS, CLASSES))).argmax(1)


def fit(x, y, seed):
    rows = np.column_stack([x[:, 1:], np.ones(len(x))])
    return np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ np.eye(CLASSES)[y])


def predict(weights, x):
    return 5 * np.column_stack([x[:, 1:], np.ones(len(x))]) @ weights


def predict_probs(weights, x):
    e = np.exp(predict(weights, x))
    return e / e.sum(1, keepdims=True)


class Recorder:
    """A fit that remembers the numbers of the rows that it gets, and their labels and seeds."""

    def __init__(self):
        self.rows, self.labels, self.seeds = [], [], []

    def __call__(self, x, y, seed):
        self.rows.append(x[:, 0].astype(int).tolist())
        self.labels.append(np.asarray(y).tolist())
        self.seeds.append(seed)
        return fit(x, y, seed)


def uncertainty(name, p):
    """A score of one row of probabilities, by its definition."""
    first, second, *_ = sorted(p, reverse=True)
    n = len(p)
    return {
        "least_confidence": n * (1 - first) / (n - 1),
        "margin": 1 - (first - second),
        "ratio": second / first,
        "entropy": -sum(q * math.log(q) for q in p) / math.log(n),
    }[name]


def by_hand(name, seed, *, rounds, batch, initial, test=0.2, score=uncertainty):
    """The scores and the labelled rows of a run, written without any part of fastal.

    But random rows are those of `fastal.select`.
    """
    order = np.random.default_rng(seed).permutation(N).tolist()
    n_test = round(test * N)
    held_out = order[:n_test]
    labelled = order[n_test : n_test + initial]
    pool = sorted(order[n_test:])
    scores = []
    for number in range(1, rounds + 2):
        weights = fit(X[labelled], Y[labelled], seed)
        right = [predict(weights, X[[row]])[0].argmax() == Y[row] for row in held_out]
        scores.append(sum(right) / n_test)
        if name == "random":
            of_round = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
            known = [place for place, row in enumerate(pool) if row in labelled]
            zeros = np.zeros((len(pool), CLASSES))
            found = fastal.select(zeros, batch, "random", exclude=known, seed=int(of_round))
            best = [pool[place] for place in found.rows]
        else:
            left = [row for row in pool if row not in labelled]
            p = {row: predict_probs(weights, X[[row]])[0] for row in left}
            best = sorted(left, key=lambda row: (-score(name, p[row]), row))[:batch]
        if number <= rounds:
            labelled = labelled + best
    return scores, labelled
