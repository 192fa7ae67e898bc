"""Checks and times rows in host memory, as shares of the bus's rate."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import fastal
from benchmarks.gpu.cases import Cases
from benchmarks.gpu.clock import Stopwatch, Variant, summary
from benchmarks.gpu.device import pinned, usable_bytes
from benchmarks.gpu.picks import assert_picked
from benchmarks.gpu.truth import Findings
from fastal.ops.formulas import UNCERTAINTY_SCORES

SECONDS = 5


def host(device: str, cases: Cases) -> Iterator[dict[str, Any]]:
    """A record for each memory and variant. The plain copy of pinned rows gives the bus's rate."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    n_bytes, n_classes, picked = cases.host
    n_bytes = min(n_bytes, free // 4, usable_bytes(device) // 2)
    x = torch.empty(
        n_bytes // 2 // n_classes, n_classes, dtype=torch.bfloat16, device=device
    ).normal_()
    target = torch.empty_like(x)
    watch = Stopwatch(device)
    pageable = x.cpu()
    bus = None
    for memory, pool in (("pinned", pinned(pageable, device)), ("pageable", pageable)):
        yield {"memory": memory, "variant": "check", **_checked(pool, x, picked)}
        score = partial(fastal.score, pool, backend="triton")
        select = partial(fastal.select, pool, picked, backend="triton")
        variants = {
            "copy to the GPU": Variant(partial(target.copy_, pool, non_blocking=True), "host"),
            "fastal.score": Variant(score, "host"),
            f"fastal.select, k={picked}": Variant(select, "host"),
        }
        for name, times in watch.rounds(variants, SECONDS).items():
            found = summary(times, pool.nbytes)
            bus = bus or found["gb_per_s"]
            found |= {"bytes": pool.nbytes, "share_of_bus": round(found["gb_per_s"] / bus, 4)}
            yield {"memory": memory, "variant": name, "clock": "host", **found}


def _checked(pool: torch.Tensor, on_gpu: torch.Tensor, k: int) -> dict[str, Any]:
    """Rows on the host have the same scores and picks, bit for bit, as the same rows on the GPU."""
    findings = Findings()
    with findings.check("fastal.select"):
        picks, want = (fastal.select(x, k, backend="triton") for x in (pool, on_gpu))
        assert_picked(picks, want.rows.cpu(), want.scores.cpu())
    with findings.check("fastal.score"):
        scores, want = (fastal.score(x, backend="triton") for x in (pool, on_gpu))
        for measure in UNCERTAINTY_SCORES:
            same = torch.equal(getattr(scores, measure), getattr(want, measure).cpu())
            assert same, f"{measure} differs from that of the same rows on the GPU"
    return findings.record()
