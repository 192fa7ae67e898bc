"""Counts the work of the host for a selection: kernel launches, and waits for the GPU."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import fastal
from benchmarks.gpu.device import on_gpu
from benchmarks.gpu.truth import Findings
from fastal_kernels import uncertainty

CLASSES = 2
# Launches and waits that are allowed beside one launch and two waits for each chunk (two, because
# the count is read again after a selection). The first launches are small, until there is a
# threshold.
ALLOWED_EXTRA = 24
_WAITS = ("item", "tolist", "cpu", "nonzero", "equal", "__bool__", "__int__", "__float__")


class HostCounts(TorchFunctionMode):
    """A context that counts launches of our kernels and reads from the device.

    On a GPU, torch's own warnings of waits are counted too. The larger number counts.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.launches = self.waits = 0
        self._on_gpu = on_gpu(device)
        self._warned = warnings.catch_warnings(record=True)

    def __enter__(self) -> "HostCounts":
        kind = type(uncertainty.narrow_kernel)
        self._kind, self._run = kind, kind.run

        def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            self.launches += 1
            return self._run(kernel, *args, **kwargs)

        kind.run = run
        self._seen = self._warned.__enter__()
        warnings.simplefilter("always")
        if self._on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        return super().__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.waits += getattr(func, "__name__", "") in _WAITS
        return func(*args, **(kwargs or {}))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._kind.run = self._run
        if self._on_gpu:
            torch.cuda.set_sync_debug_mode("default")
            seen = sum("called a synchronizing" in str(seen.message) for seen in self._seen)
            self.waits = max(self.waits, seen)
        self._warned.__exit__(*error)


def check_counts(device: str, n_rows: int, chunk_rows: int, k: int) -> Iterator[dict[str, Any]]:
    """A record for rows in random order, and one for ascending scores, which is the worst case."""
    for order in ("random", "ascending"):
        findings, counted = Findings(), HostCounts(device)
        x = torch.zeros(n_rows, CLASSES, device=device)
        x[:, 0] = torch.linspace(9, 0, n_rows, device=device)
        x = x[torch.randperm(n_rows, device=device)] if order == "random" else x
        most = math.ceil(n_rows / chunk_rows)
        with findings.check(f"{order} rows"):
            fastal.select(x[:1], 1, backend="triton")  # the work that is done once
            with counted:
                fastal.select(x, k, backend="triton", chunk_bytes=32 * chunk_rows)
            assert counted.launches <= most + ALLOWED_EXTRA, f"{counted.launches} launches"
            assert counted.waits <= 2 * most + ALLOWED_EXTRA, f"{counted.waits} waits"
        counts = {"rows": n_rows, "launches": counted.launches, "waits": counted.waits}
        yield findings.record(order=order, **counts)
