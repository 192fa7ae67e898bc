"""Times fastal and torch. Rates count the logits read, as shares of the run's own copy rate."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.cases import Cases, Embeddings
from benchmarks.gpu.clock import Stopwatch, summary
from benchmarks.gpu.device import release, usable_bytes
from benchmarks.gpu.draws import timed_draws
from benchmarks.gpu.rates import rates
from benchmarks.gpu.truth import name_of, sentence
from benchmarks.gpu.variants import nearest, ours, problem, theirs

COMPILE_SECONDS = 60
Record = dict[str, Any]


def timings(device: str, seconds: float, cases: Cases) -> Iterator[Record]:
    """A record for each case and variant. The rates of the memory come first."""
    end = time.monotonic() + seconds - 5
    watch = Stopwatch(device)
    memory = rates(watch, device)
    for name, found in memory.items():
        yield {"case": "memory", "variant": name, "clock": "gpu", **found}
    for embeddings in cases.timed_cosine:
        yield from _timed_nearest(watch, device, embeddings)
    for draws in cases.timed_draws:
        yield from timed_draws(watch, device, draws)
    for i, (n_rows, n_classes, dtype) in enumerate(cases.timed):
        left = end - time.monotonic()
        case = f"{n_rows} x {n_classes} {name_of(dtype)}"
        try:
            release(device)
            while n_rows * n_classes * dtype.itemsize > usable_bytes(device):
                n_rows //= 2
            case = f"{n_rows} x {n_classes} {name_of(dtype)}"
            x = torch.empty(n_rows, n_classes, dtype=dtype, device=device).normal_(0, 2)
            share = left / (len(cases.timed) - i)
            for record in _timed(watch, x, memory, left, share, cases.timed_picks):
                yield {"case": case, **record}
        except Exception as error:  # the other cases are timed in any case
            yield {"case": case, "variant": "all", "failures": [f"{case}: {sentence(error)}"]}
        x = None


def _timed_nearest(watch: Stopwatch, device: str, of: Embeddings) -> Iterator[Record]:
    """A record for each variant of the nearest centroids, with the rate of their products."""
    release(device)
    case = f"{of.n_rows} x {of.n_columns} {name_of(of.dtype)}, {of.n_centroids} centroids"
    x = torch.empty(of.n_rows, of.n_columns, dtype=of.dtype, device=device).normal_(0, 2)
    variants = nearest(x, of.n_centroids)
    for name, times in watch.rounds(variants, 1.0).items():
        found = summary(times, x.nbytes)
        operations = 2 * of.n_rows * of.n_columns * of.n_centroids
        found["tflop_per_s"] = round(operations / found["ms"] / 1e9, 1)
        yield {"case": case, "variant": name, "clock": variants[name].clock, **found}


def _timed(
    watch: Stopwatch, x: torch.Tensor, memory: dict[str, Record], left: float, share: float,
    picked: tuple[int, ...],
) -> Iterator[Record]:  # fmt: skip
    """A record for each variant, in about `share` seconds and at most `left` seconds."""
    end = time.monotonic() + share
    variants = ours(x, picked) | theirs(x)
    for name, variant in list(variants.items()):
        if reason := problem(variant.call, min(COMPILE_SECONDS, max(1.0, left / 3)), x.device.type):
            del variants[name]
            failures = [] if name.startswith("torch") else [f"{tuple(x.shape)}, {name}: {reason}"]
            yield {"variant": name, "skipped": reason, "failures": failures}
    for name, times in watch.rounds(variants, max(5.0, end - time.monotonic())).items():
        reads_logits = not name.startswith("torch.topk")
        found = summary(times, x.nbytes if reads_logits else None)
        for rate in ("copy", "read") if reads_logits else ():
            found[f"share_of_{rate}"] = round(found["gb_per_s"] / memory[rate]["gb_per_s"], 4)
        yield {"variant": name, "clock": variants[name].clock, "bytes": x.nbytes, **found}
