"""The rates of the GPU's memory: of a copy, which counts reads and writes, and of a sum."""

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.clock import Stopwatch, Variant, summary
from benchmarks.gpu.device import usable_bytes


def rates(watch: Stopwatch, device: str) -> dict[str, dict[str, Any]]:
    """Summaries with the rates of a copy and of a read, of 4 GB if they fit."""
    source = torch.empty(min(2**30, usable_bytes(device) // 8), device=device).normal_()
    target = torch.empty_like(source)
    times = watch.rounds(
        {
            "copy": Variant(partial(target.copy_, source), "gpu"),
            "read": Variant(partial(torch.sum, source), "gpu"),
        }
    )
    return {
        "copy": summary(times["copy"], 2 * source.nbytes),
        "read": summary(times["read"], source.nbytes),
    }
