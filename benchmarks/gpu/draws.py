"""Checks the scores of draws against float64, and times them beside torch's operations."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.cases import Draws
from benchmarks.gpu.clock import Stopwatch, Variant, summary
from benchmarks.gpu.device import release
from benchmarks.gpu.truth import RELATIVE, Findings, name_of
from fastal import ops
from fastal.base.argument_values import DRAWS_SCORES

# The error of these scores is held against the larger of the score and this. The kernel computes
# BALD as a difference of two entropies: `kernels/README.md` has the bound. The variance of equal
# draws is 0, and its definition gives a rounding error.
LEAST = {"bald": 1e-6, "kl_to_mean": 1e-6, "variance": 1e-10}
Record = dict[str, Any]


def check_draws(device: str, cases: Sequence[Draws]) -> Iterator[Record]:
    """A record for each case: draws that agree, nearly agree and disagree, and invalid ones."""
    for case in cases:
        what = f"{case.n_draws} draws of {case.n_classes} classes, {name_of(case.dtype)}"
        findings = Findings()
        for temperature in (1.0, 0.3, 20.0):
            with findings.check(f"{what}, temperature {temperature}"):
                x = _draws(case, device)
                x[3, -1, 0] = math.nan
                found = _scores(x, DRAWS_SCORES, temperature)
                _assert_near(found, x, temperature)
        yield findings.record(case=what)


def timed_draws(watch: Stopwatch, device: str, case: Draws) -> Iterator[Record]:
    """A record for each variant of scoring draws. Torch gets half of the items at a time."""
    release(device)
    name = f"{case.n_items} x {case.n_draws} draws x {case.n_classes} {name_of(case.dtype)}"
    shape = (case.n_items, case.n_draws, case.n_classes)
    x = torch.empty(shape, dtype=case.dtype, device=device).normal_(0, 2)
    variants = {
        "kernel, bald": Variant(partial(_scores, x, ["bald"]), "gpu"),
        "kernel, 11 scores": Variant(partial(_scores, x, DRAWS_SCORES), "gpu"),
        "torch eager, bald": Variant(partial(_eager_bald, x), "gpu"),
    }
    for variant, times in watch.rounds(variants, 2.0).items():
        found = summary(times, x.nbytes)
        yield {"case": name, "variant": variant, "clock": variants[variant].clock, **found}


def _scores(x: Tensor, measures: Sequence[str], temperature: float = 1.0) -> list[Tensor]:
    return ops.draws(x, measures, "logits", temperature, backend="triton")


def _draws(case: Draws, device: str) -> Tensor:
    """Draws whose disagreement grows from none in the first item."""
    generator = torch.Generator().manual_seed(case.n_draws * case.n_classes)
    shape = (case.n_items, case.n_draws, case.n_classes)
    common = 4 * torch.randn(case.n_items, 1, case.n_classes, generator=generator)
    spread = torch.linspace(0, 3, case.n_items)[:, None, None]
    return (common + spread * torch.randn(shape, generator=generator)).to(case.dtype).to(device)


def _assert_near(found: Sequence[Tensor], x: Tensor, temperature: float) -> None:
    want = definitions_of_draws(x, temperature)
    off = []
    for name, scores in zip(DRAWS_SCORES, found, strict=True):
        assert torch.equal(scores.isnan(), want[name].isnan()), f"{name}: NaN in other items"
        error = (scores.double() - want[name]).abs() / want[name].clamp(min=LEAST.get(name, 0))
        if (worst := float(error.nan_to_num(0).max())) > RELATIVE:
            off.append(f"{name} is off by {worst:.1e}")
    assert not off, "; ".join(off)


def definitions_of_draws(x: Tensor, temperature: float) -> dict[str, Tensor]:
    """Every score of draws [N, S, C] by its definition, in float64: [N]; NaN for invalid items."""
    x = x.double()
    n = x.shape[2]
    p = torch.softmax(x / temperature, 2)
    mean = p.mean(1)
    p1, p2 = mean.topk(2, 1).values.unbind(1)
    others = _others(mean)
    votes = torch.nn.functional.one_hot(x.nan_to_num().argmax(2), n).double().mean(1)
    log_p, log_mean = _log(p), _log(mean)
    mean_entropy = -(mean * log_mean).sum(1)
    divergence = (p * (log_p - log_mean[:, None])).sum(2).mean(1)
    scores = {
        "bald": divergence,
        "mean_entropy": mean_entropy,
        "expected_entropy": -(p * log_p).sum(2).mean(1),
        "variation_ratio": 1 - votes.amax(1),
        "vote_entropy": -torch.xlogy(votes, votes).sum(1),
        "kl_to_mean": divergence,
        "variance": p.var(1, correction=0).mean(1),
        "least_confidence": n * others / (n - 1),
        "margin": others + p2,
        "ratio": p2 / p1,
        "entropy": mean_entropy / math.log(n),
    }
    invalid = x.isnan().any(2).any(1)
    return {name: score.masked_fill(invalid, math.nan) for name, score in scores.items()}


def _others(p: Tensor) -> Tensor:
    """1 - max p without a subtraction of nearly equal numbers: the sum of the others."""
    return p.scatter(-1, p.argmax(-1, keepdim=True), 0).sum(-1)


def _log(p: Tensor) -> Tensor:
    """The logarithm of probabilities, which keeps its digits where one is nearly 1."""
    of_largest = torch.log1p(-_others(p)).unsqueeze(-1)
    above_0 = p.clamp(min=torch.finfo(p.dtype).tiny)  # 0 log 0 is 0
    return above_0.log().scatter(-1, p.argmax(-1, keepdim=True), of_largest)


def _eager_bald(x: Tensor) -> None:
    """The mean divergence as a careful user of torch writes it, in float32."""
    for part in x.chunk(2):
        p = torch.softmax(part, 2, dtype=torch.float32)
        mean = p.mean(1)
        -torch.xlogy(mean, mean).sum(1) + torch.xlogy(p, p).sum(2).mean(1)
