"""The float64 answer to a job, computed another way, and how far a tool's answer is from it."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from benchmarks.peers.inputs import LABELLED, Inputs

Answer: TypeAlias = dict[str, NDArray[Any]]
Agreement: TypeAlias = dict[str, float]

BLOCK = 1 << 22  # elements that are computed at once


def truth(task: str, data: Inputs) -> Answer:
    """The answer in float64; empty for jobs without one right answer."""
    return _TRUTHS[task](data) if task in _TRUTHS else {}


def agreement(task: str, data: Inputs, right: Answer, found: Answer) -> Agreement:
    """How far a tool's answer is from the right one.

    Returns:
        `shared`: the share of the right rows that the tool found. `error`: the largest relative
        error of a score, or that of the temperature. `inertia`: of clusters, per row. `cost`: the
        mean squared distance of gradients to the nearest pick's, as a share of that to the first.
    """
    if task == "kmeans":
        return {"inertia": inertia(data["x"], found["centroids"])}
    if task == "badge":
        return {"cost": seeding_cost(data["logits"], data["x"], found["rows"])}
    if "rows" in right:
        return {"shared": _shared(right["rows"], found["rows"])}
    return {"error": max(_error(found[name], right[name]) for name in found)}


def _shared(right: NDArray[Any], found: NDArray[Any]) -> float:
    """Of rows [k], or of one such list for each of several scores."""
    pairs = list(zip(np.atleast_2d(right), np.atleast_2d(found), strict=True))
    shared = sum(len(np.intersect1d(*pair)) for pair in pairs)
    return shared / sum(max(len(one), len(other)) for one, other in pairs)


def _error(found: NDArray[Any], right: NDArray[Any]) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(found.astype(np.float64) - right) / right
    return float(np.where(right == 0, np.abs(found), error).max())


def _blocks(x: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Rows in float64, so many at once that they fit into memory."""
    rows = max(1, BLOCK // max(1, x[:1].size))
    for start in range(0, len(x), rows):
        yield x[start : start + rows].astype(np.float64)


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.exp(x - x.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """In nats, over the last axis."""
    found: NDArray[np.float64] = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(-1)
    return found


def _scores(logits: NDArray[Any]) -> Answer:
    n = logits.shape[1]
    parts = []
    for x in _blocks(logits):
        p = _softmax(x)
        entropy = _entropy(p) / np.log(n)
        p.partition(n - 2, axis=1)
        best, second, rest = p[:, -1], p[:, -2], p[:, :-2].sum(1)  # 1 - best = second + rest
        parts.append(
            (n * (second + rest) / (n - 1), rest + 2 * second, second / best, entropy)
        )  # fmt: skip
    names = "least_confidence", "margin", "ratio", "entropy"
    return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def _best(scores: NDArray[Any], k: int) -> NDArray[np.int64]:
    """The k rows with the largest scores, best first; of equal scores, the lower row first."""
    return np.lexsort((np.arange(len(scores)), -scores))[:k]


def _top(data: Inputs) -> Answer:
    return {"rows": _best(_scores(data["logits"])["margin"], int(data["k"]))}


def _three(data: Inputs) -> Answer:
    scores = _scores(data["logits"])
    names = "least_confidence", "margin", "entropy"
    return {"rows": np.stack([_best(scores[name], int(data["k"])) for name in names])}


def _batch(data: Inputs) -> Answer:
    p = data["probs"].astype(np.float64)
    ranked = np.sort(p / p.sum(1, keepdims=True), axis=1)
    return {"rows": _best(ranked[:, -2] - ranked[:, -1], int(data["k"]))}


def _quotas(data: Inputs) -> Answer:
    """The best rows of each group, in the order of the whole."""
    margin = _scores(data["logits"])["margin"]
    picked = []
    for group in np.unique(data["groups"]):
        rows = np.flatnonzero(data["groups"] == group)
        picked.append(rows[_best(margin[rows], int(data["k"]))])
    rows = np.concatenate(picked)
    return {"rows": rows[_best(margin[rows], len(rows))]}


def _bald(data: Inputs) -> Answer:
    parts = []
    for x in _blocks(data["logits"]):
        p = _softmax(x)
        parts.append(_entropy(p.mean(1)) - _entropy(p).mean(1))
    return {"rows": _best(np.concatenate(parts), int(data["k"]))}


def _core_set(data: Inputs) -> Answer:
    """Greedy k-centre after the labelled rows, which are the first of the pool."""
    x = data["x"].astype(np.float64)
    squares = np.square(x).sum(1)
    nearest = np.full(len(x), np.inf)
    picked: list[int] = []
    for step in range(LABELLED + int(data["k"])):
        row = step if step < LABELLED else int(nearest.argmax())
        np.minimum(nearest, squares - 2 * (x @ x[row]) + squares[row], out=nearest)
        nearest[row] = -np.inf
        picked.append(row)
    return {"rows": np.array(picked[LABELLED:])}


def _outliers(data: Inputs) -> Answer:
    """1 - the mean rank: between neighbours a < b, the rank is (i - 1 + fraction) / V."""
    n_values, ranks = len(data["validation"]), np.zeros(len(data["x"]))
    for column, values in zip(data["x"].T.astype(np.float64), data["validation"].T, strict=True):
        ordered = np.sort(values.astype(np.float64))
        ranks += np.interp(column, ordered, np.arange(n_values) / n_values)
        ranks[column >= ordered[-1]] += 1 / n_values
    return {"rows": _best(1 - ranks / data["x"].shape[1], int(data["k"]))}


def _dedup(data: Inputs) -> Answer:
    """All copies but the first of each row: it is known of what each row is a copy."""
    _, first = np.unique(data["of"], return_index=True)
    return {"rows": np.setdiff1d(np.arange(len(data["x"])), first)}


def _temperature(data: Inputs) -> Answer:
    x = data["logits"].astype(np.float64)
    of_labels = x[np.arange(len(x)), data["labels"]].mean()

    def loss(log_t: float) -> float:
        beta = np.exp(-log_t)
        return float(logsumexp(x * beta, axis=1).mean() - beta * of_labels)

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    return {"temperature": np.exp(np.array([found.x]))}


def inertia(x: NDArray[Any], centroids: NDArray[Any]) -> float:
    """The mean squared distance of unit rows to the nearest direction of a centroid."""
    towards = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    total = 0.0
    for block in _blocks(x):
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        total += float((2 - 2 * (block @ towards.T).max(1)).sum())
    return total / len(x)


def seeding_cost(logits: NDArray[Any], x: NDArray[Any], rows: NDArray[Any]) -> float:
    """What k-means++ lowers, after all picks, divided by the same after the first."""
    a, x = _softmax(logits.astype(np.float64)), x.astype(np.float64)
    a[np.arange(len(a)), a.argmax(1)] -= 1
    squares = (a * a).sum(1) * (x * x).sum(1)
    nearest, costs = np.full(len(a), np.inf), []
    for row in rows:
        apart = squares - 2 * (a @ a[row]) * (x @ x[row]) + squares[row]
        np.minimum(nearest, apart.clip(min=0), out=nearest)
        costs.append(float(nearest.mean()))
    return costs[-1] / costs[0]


_TRUTHS = {
    "three": _three,
    "top": _top,
    "scores": lambda data: _scores(data["logits"]),
    "batch": _batch,
    "quotas": _quotas,
    "bald": _bald,
    "core_set": _core_set,
    "outliers": _outliers,
    "dedup": _dedup,
    "temperature": _temperature,
}
