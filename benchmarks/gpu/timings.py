"""How fast? As shares of the copy rate that the same run measured; rates are of logits read."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.clock import Stopwatch, summary, usable_bytes
from benchmarks.gpu.rates import rates
from benchmarks.gpu.truth import name_of, sentence
from benchmarks.gpu.variants import ours, problem, theirs

CASES = (
    (1_000_000, 1000, torch.bfloat16),
    (65_536, 131_072, torch.bfloat16),
    (100_000_000, 10, torch.float32),
    (100_000_000, 2, torch.float32),
    (1_000_000, 1001, torch.bfloat16),
    (262_144, 32_000, torch.bfloat16),
)
COMPILE_SECONDS = 60
Record = dict[str, Any]


def timings(device: str, seconds: float, quick: bool) -> Iterator[Record]:
    """A record for each case and variant, the rates of the memory first."""
    end = time.monotonic() + seconds - 5
    watch = Stopwatch(device)
    memory = rates(watch, device)
    for name, found in memory.items():
        yield {"case": "memory", "variant": name, "clock": "gpu", **found}
    cases = CASES[:3] if quick else CASES
    for i, (n_rows, n_classes, dtype) in enumerate(cases):
        left = end - time.monotonic()
        torch.cuda.empty_cache()
        n_rows //= 8 if quick else 1
        while n_rows * n_classes * dtype.itemsize > usable_bytes():
            n_rows //= 2
        case = f"{n_rows} x {n_classes} {name_of(dtype)}"
        try:
            x = torch.empty(n_rows, n_classes, dtype=dtype, device=device).normal_(0, 2)
            for record in _timed(watch, x, memory, left, left / (len(cases) - i)):
                yield {"case": case, **record}
        except Exception as error:  # the other cases are still worth timing
            yield {"case": case, "variant": "all", "failures": [f"{case}: {sentence(error)}"]}
        x = None


def _timed(
    watch: Stopwatch, x: torch.Tensor, memory: dict[str, Record], left: float, share: float
) -> Iterator[Record]:
    """A record for each variant; `left` seconds may pass at most, and about `share` should."""
    end = time.monotonic() + share
    variants = ours(x) | theirs(x)
    for name, variant in list(variants.items()):
        if reason := problem(variant.call, min(COMPILE_SECONDS, max(1.0, left / 3))):
            del variants[name]
            failures = [] if name.startswith("torch") else [f"{tuple(x.shape)}, {name}: {reason}"]
            yield {"variant": name, "skipped": reason, "failures": failures}
    for name, times in watch.rounds(variants, max(5.0, end - time.monotonic())).items():
        reads_logits = not name.startswith("torch.topk")
        found = summary(times, x.nbytes if reads_logits else None)
        for rate in ("copy", "read") if reads_logits else ():
            found[f"share_of_{rate}"] = round(found["gb_per_s"] / memory[rate]["gb_per_s"], 4)
        yield {"variant": name, "clock": variants[name].clock, "bytes": x.nbytes, **found}
