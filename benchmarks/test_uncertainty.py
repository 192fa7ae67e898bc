"""Uncertainty scores of logits in memory: fastal's torch backend against eager torch.

    .venv/bin/python -m pytest benchmarks --benchmark-enable

Every provider computes all four scores, and is held against the reference before it is timed.
"""

import math

import pytest
import torch

import fastal

BYTES = 256e6  # of logits in each case: well beyond the caches
CLASSES = [2, 10, 100, 1000, 32_000]


def sorted_eagerly(logits):
    """The scores as they are most often written: softmax, sort, entropy."""
    log_p = torch.log_softmax(logits, 1)
    p = log_p.exp()
    ranked = p.sort(1, descending=True).values
    return from_ranked(ranked[:, 0], ranked[:, 1], p, log_p)


def topk_eagerly(logits):
    """The same with topk in place of the sort, the best that a careful user would write."""
    log_p = torch.log_softmax(logits, 1)
    p = log_p.exp()
    p1, p2 = p.topk(2, 1).values.unbind(1)
    return from_ranked(p1, p2, p, log_p)


def topk_in_chunks(logits, n_elements=1 << 18):
    """The careful form on blocks that stay in cache."""
    rows = max(1, n_elements // logits.shape[1])
    parts = [topk_eagerly(block) for block in logits.split(rows)]
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


def from_ranked(p1, p2, p, log_p):
    n = p.shape[1]
    return n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, -(p * log_p).sum(1) / math.log(n)


PROVIDERS = {
    "eager, sort": sorted_eagerly,
    "eager, topk": topk_eagerly,
    "eager, topk in chunks": topk_in_chunks,
    "fastal torch": lambda logits: fastal.score(logits, backend="torch"),
}


@pytest.fixture(scope="module", params=CLASSES, ids="C={}".format)
def logits(request):
    n_rows = int(BYTES / 4 / request.param)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n_rows, request.param, generator=generator)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_scores(benchmark, logits, provider):
    score = PROVIDERS[provider]
    sample = logits[:500]
    for got, want in zip(score(sample), fastal.score(sample.double()), strict=True):
        # The eager forms take differences of float32 probabilities: absolute, not relative.
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    benchmark.extra_info |= {
        "case": f"C = {logits.shape[1]}", "provider": provider, "bytes": logits.nbytes,
    }  # fmt: skip
    benchmark.pedantic(score, (logits,), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("by", ["least_confidence", "entropy"])
def test_select(benchmark, logits, by):
    """Selection of k = 1000 by one score, on top of computing it."""
    scores = getattr(fastal.score(logits), by)
    want = torch.sort(scores, descending=True, stable=True).indices[:1000]
    assert torch.equal(fastal.select(logits, 1000, by).rows, want)
    benchmark.extra_info |= {
        "case": f"C = {logits.shape[1]}", "provider": f"fastal select, {by}",
        "bytes": logits.nbytes,
    }  # fmt: skip
    benchmark.pedantic(lambda: fastal.select(logits, 1000, by), rounds=3, warmup_rounds=1)
