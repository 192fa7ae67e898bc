"""Checks that picks equal the sorted scores of the same rows, for any chunks."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

import fastal
from benchmarks.gpu.truth import Findings, name_of
from fastal.ops.formulas import UNCERTAINTY_SCORES

Pool = tuple[int, int, torch.dtype]


def check_picks(
    device: str, pools: Sequence[Pool], backend: str = "triton"
) -> Iterator[dict[str, Any]]:
    """A record for each pool: random rows, some of them invalid, and rows that mostly tie."""
    generator = torch.Generator(device).manual_seed(0)
    for turn, (n_rows, n_classes, dtype) in enumerate(pools):
        findings = Findings()
        by = UNCERTAINTY_SCORES[turn % len(UNCERTAINTY_SCORES)]
        what = f"{n_classes} classes, {name_of(dtype)}, by {by}"
        with findings.check(what):
            x = torch.empty(n_rows, n_classes, dtype=dtype, device=device)
            x.normal_(generator=generator)
            _check(findings, what, x, by, backend)
            x[::97, 0] = torch.nan
            _check(findings, f"{what}, invalid rows", x, by, backend)
            x.random_(0, 3, generator=generator)
            x[:, 2:] = 0
            _check(findings, f"{what}, ties", x, by, backend)
        x = None
        yield findings.record(pool=what, rows=n_rows, backend=backend)


def assert_picked(picks: fastal.Picks, rows: torch.Tensor, scores: torch.Tensor) -> None:
    """Raises AssertionError if picks are not exactly these rows and scores, in this order."""
    assert len(picks.rows) == len(rows), f"{len(picks.rows)} rows, not {len(rows)}"
    differ = int((picks.rows != rows).sum())
    assert differ == 0, f"{differ} of {len(rows)} rows differ"
    assert torch.equal(picks.scores, scores), "scores differ"


def _check(findings, what, x, by, backend):
    options = {"by": by, "on_invalid": "skip", "backend": backend}
    with findings.check(f"{what}, scores"):
        scores = getattr(fastal.score(x, on_invalid="skip", backend=backend), by)
        best = ranked(scores)
        for k in sorted({1, -(-len(x) // 1000), len(x) // 10}):
            for chunks in ("whole", "whole again", "shuffled chunks"):
                with findings.check(f"{what}, k = {k}, {chunks}"):
                    in_chunks = chunks == "shuffled chunks"
                    picks = (_in_chunks if in_chunks else fastal.select)(x, k, **options)
                    assert_picked(picks, best[:k], scores[best[:k]])
                    assert picks.invalid == len(x) - len(best), f"{picks.invalid} invalid rows"


def ranked(scores: torch.Tensor) -> torch.Tensor:
    """The rows by score, best first, without NaN. Ties go to the lower row."""
    valid = scores.isnan().logical_not().nonzero()[:, 0]
    return valid[scores[valid].sort(descending=True, stable=True).indices]


def _in_chunks(x, k, **options):
    """Picks from chunks of one row to half of all rows, in random order; some begin at odd rows."""
    n = len(x)
    chunks = list(pairwise(sorted({0, 1, n // 1000, n // 9, n // 3 | 1, n // 2, n})))
    np.random.default_rng(0).shuffle(chunks)
    selector = fastal.Selector(k, **options)
    for start, stop in chunks:
        selector.update(x[start:stop], start)
    return selector.result()
