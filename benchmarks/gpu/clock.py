"""Times calls on a GPU, or by the host's clock if a CPU stands in for the GPU.

Each variant runs once a round. Before it, a large write empties the caches of the matrix, and hides
the cost of starting a kernel. The result is the median with the 20th and 80th percentiles.
"""

import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.gpu.device import cache_bytes, on_gpu, synchronize

ROUNDS, FEWEST_ROUNDS = 12, 3


class Variant(NamedTuple):
    """The call to time, and the clock to read: "gpu" or "host"."""

    call: Callable[[], Any]
    clock: str


class Stopwatch:
    """Times calls in milliseconds, by the GPU's clock or by the host's."""

    def __init__(self, device: str) -> None:
        n_bytes = max(4 * cache_bytes(device), 1 << 29 if on_gpu(device) else 0)
        self._other = torch.empty(n_bytes, dtype=torch.int8, device=device)
        self._device = device

    def __call__(self, call: Callable[[], Any], clock: str) -> float:
        self._other.zero_()
        if clock == "gpu" and on_gpu(self._device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end)
        synchronize(self._device)
        begun = time.perf_counter()
        call()
        synchronize(self._device)
        return 1e3 * (time.perf_counter() - begun)

    def rounds(
        self, variants: dict[str, Variant], seconds: float = math.inf
    ) -> dict[str, list[float]]:
        """The times of each variant. Variants run in turn, so that a drift of clocks affects all.

        The first round, which allocates memory and compiles kernels, does not count.
        """
        end = time.monotonic() + seconds
        most, fewest = (ROUNDS, FEWEST_ROUNDS) if on_gpu(self._device) else (1, 1)
        times: dict[str, list[float]] = {name: [] for name in variants}
        for done in range(-1, most):
            if done >= fewest and time.monotonic() > end:
                break
            for name, variant in variants.items():
                times[name].append(self(*variant))
        return {name: measured[1:] for name, measured in times.items()}


def summary(times: Sequence[float], n_bytes: int | None = None) -> dict[str, Any]:
    """The median and its spread, and the rate if the number of bytes is given."""
    ranked = sorted(times)
    last = len(ranked) - 1
    found = {
        "ms": median(ranked),
        "ms_p20": ranked[round(0.2 * last)],
        "ms_p80": ranked[round(0.8 * last)],
    }
    if n_bytes is not None:
        found["gb_per_s"] = n_bytes / found["ms"] / 1e6
    return {"n": len(ranked)} | {name: float(f"{x:.5g}") for name, x in found.items()}
