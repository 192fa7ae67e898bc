"""The data of a job: the same arrays for every tool, drawn from the job's name and size."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.tasks import Size

Inputs: TypeAlias = dict[str, NDArray[Any]]  # numbers are arrays without axes

GROUPS, PER_GROUP = 20, 50
VALIDATION = 1000
LABELLED = 10  # rows of a core-set that are labelled, the first of the pool
SIMILAR = 0.95
WARM_ROWS = 1000


def inputs(task: str, size: Size) -> Inputs:
    """The arrays of a job."""
    rng = np.random.default_rng([len(task), *map(ord, task), *size.values()])
    return _MAKERS[task](rng, **size)


def warm_size(size: Size) -> Size:
    """A small job of the same kind, which the first run of a process does."""
    return size | {"rows": min(size["rows"], WARM_ROWS)}


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


def _logits(rng: np.random.Generator, rows: int, classes: int) -> Inputs:
    x = _normal(rng, rows, classes)
    x *= 3
    return {"logits": x, "k": np.array(min(1000, rows // 10))}


def _probabilities(rng: np.random.Generator, rows: int, classes: int) -> Inputs:
    made = _logits(rng, rows, classes)
    p = np.exp(made.pop("logits").astype(np.float64))
    return {"probs": (p / p.sum(1, keepdims=True)).astype(np.float32), **made}


def _quotas(rng: np.random.Generator, rows: int, classes: int) -> Inputs:
    groups = rng.choice(GROUPS, rows, p=rng.dirichlet(np.full(GROUPS, 5.0)))
    return {**_logits(rng, rows, classes), "groups": groups, "k": np.array(PER_GROUP)}


def _bald(rng: np.random.Generator, rows: int, draws: int, classes: int) -> Inputs:
    """Draws around logits of their own, as networks with dropout give."""
    x = _normal(rng, rows, draws, classes)
    x += 2 * _normal(rng, rows, 1, classes)
    return {"logits": x, "k": np.array(min(1000, rows // 10))}


def _core_set(rng: np.random.Generator, rows: int, width: int) -> Inputs:
    return {"x": _around_centres(rng, rows, width), "k": np.array(min(100, rows // 10))}


def _badge(rng: np.random.Generator, rows: int, classes: int, width: int) -> Inputs:
    x = _around_centres(rng, rows, width)
    return {**_logits(rng, rows, classes), "x": x, "k": np.array(min(100, rows // 10))}


def _kmeans(rng: np.random.Generator, rows: int, width: int) -> Inputs:
    return {"x": _around_centres(rng, rows, width), "k": np.array(min(100, rows // 10))}


def _outliers(rng: np.random.Generator, rows: int, width: int) -> Inputs:
    return {
        "x": _normal(rng, rows, width),
        "validation": _normal(rng, VALIDATION, width),
        "k": np.array(min(1000, rows // 10)),
    }


def _dedup(rng: np.random.Generator, rows: int, width: int) -> Inputs:
    """Random directions, and noisy copies of a third of them, shuffled.

    Copies have a similarity of about 0.99 to what they copy and to each other. Other rows are far
    below the threshold.
    """
    of = rng.permutation(np.concatenate([np.arange(rows - rows // 3), np.arange(rows // 3)]))
    x = _normal(rng, rows, width)
    return {"x": x[of] + 0.1 * _normal(rng, rows, width), "of": of}


def _temperature(rng: np.random.Generator, rows: int, classes: int) -> Inputs:
    """Labels drawn from the distributions that a temperature of 2.5 gives."""
    x = _logits(rng, rows, classes)["logits"]
    labels = (x / 2.5 + rng.gumbel(size=x.shape).astype(np.float32)).argmax(1)
    return {"logits": x, "labels": labels}


def _around_centres(rng: np.random.Generator, rows: int, width: int) -> NDArray[np.float32]:
    """Rows around 200 centres of unequal weight."""
    centres = 2 * _normal(rng, 200, width)
    x = _normal(rng, rows, width)
    x += centres[rng.choice(200, rows, p=rng.dirichlet(np.ones(200)))]
    return x


_MAKERS = {
    "three": _logits,
    "top": _logits,
    "scores": _logits,
    "batch": _probabilities,
    "quotas": _quotas,
    "bald": _bald,
    "core_set": _core_set,
    "badge": _badge,
    "kmeans": _kmeans,
    "outliers": _outliers,
    "dedup": _dedup,
    "temperature": _temperature,
}
