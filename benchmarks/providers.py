"""Ways to compute uncertainty scores on CPUs: fastal, torch, and what other libraries do.

Each takes logits or probabilities [N, C], and returns least confidence, margin, ratio and entropy,
[N] each. A score that a library does not have is None.
"""

import functools
import math

import numpy as np
import torch
from scipy.stats import entropy

import fastal

NAIVE = "eager, sort"


def sorted_eagerly(logits):
    """The scores as they are most often written: softmax, sort, entropy."""
    log_p = torch.log_softmax(logits, 1)
    p = log_p.exp()
    ranked = p.sort(1, descending=True).values
    return from_ranked(ranked[:, 0], ranked[:, 1], p, log_p)


def topk_eagerly(logits):
    """The same with topk instead of the sort: the best that a careful user would write."""
    log_p = torch.log_softmax(logits, 1)
    p = log_p.exp()
    p1, p2 = p.topk(2, 1).values.unbind(1)
    return from_ranked(p1, p2, p, log_p)


def topk_in_chunks(logits, n_elements=1 << 18):
    """`topk_eagerly` on blocks that stay in the cache."""
    rows = max(1, n_elements // logits.shape[1])
    parts = [topk_eagerly(block) for block in logits.split(rows)]
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


def compiled(logits):
    """`topk_eagerly` by torch.compile, compiled for the given shape."""
    return _compiled()(logits)


@functools.cache
def _compiled():
    return torch.compile(topk_eagerly, dynamic=False)


def from_ranked(p1, p2, p, log_p):
    n = p.shape[1]
    return n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, -(p * log_p).sum(1) / math.log(n)


def scikit_activeml(p):
    """The computation of scikit-activeml 1.0.1's `uncertainty_scores`, for its three scores."""
    assert np.allclose(p.sum(1), 1, rtol=0, atol=1e-3)
    n = p.shape[1]
    best = -np.partition(-p, 1, axis=1)[:, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        nats = np.nansum(-p * np.log(p), axis=1)
    confidence = (1 - p.max(1)) * n / (n - 1)
    return confidence, 1 - (best[:, 0] - best[:, 1]), None, nats / math.log(n)


def modal(p):
    """The computation of modAL 0.4.2's uncertainty, margin and entropy measures."""
    n = p.shape[1]
    best = -np.partition(-p, 1, axis=1)
    confidence = (1 - np.max(p, axis=1)) * n / (n - 1)
    nats = np.transpose(entropy(np.transpose(p)))
    return confidence, 1 - (best[:, 0] - best[:, 1]), None, nats / math.log(n)


# By name: the function, and whether it takes probabilities as a NumPy array instead of logits. The
# time to compute those probabilities is not counted.
PROVIDERS = {
    NAIVE: (sorted_eagerly, False),
    "eager, topk": (topk_eagerly, False),
    "eager, topk in chunks": (topk_in_chunks, False),
    "torch.compile, topk": (compiled, False),
    "NumPy, as scikit-activeml": (scikit_activeml, True),
    "SciPy, as modAL": (modal, True),
    "fastal torch": (lambda logits: fastal.score(logits, backend="torch"), False),
    "fastal native": (lambda logits: fastal.score(logits, backend="native"), False),
}
