"""The variants that are timed on a matrix: fastal, and the same in torch's operations."""

import math
import signal
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

import fastal
from benchmarks.gpu.clock import Variant
from benchmarks.gpu.device import on_gpu, synchronize, usable_bytes
from benchmarks.gpu.truth import sentence
from fastal import ops
from fastal.ops import uncertainty
from fastal.ops.formulas import UNCERTAINTY_SCORES


def ours(x: Tensor, picked: Sequence[int]) -> dict[str, Variant]:
    """The kernels and functions of fastal, and torch's selection from scores computed before."""
    (scores,) = uncertainty(x, ["entropy"], backend="triton")
    variants = {
        "kernel, 4 scores": Variant(
            partial(uncertainty, x, UNCERTAINTY_SCORES, backend="triton"), "gpu"
        ),
        "kernel, entropy": Variant(partial(uncertainty, x, ["entropy"], backend="triton"), "gpu"),
        "kernel, 4 scores, temperature 2": Variant(
            partial(uncertainty, x, UNCERTAINTY_SCORES, temperature=2.0, backend="triton"), "gpu"
        ),
        "fastal.score": Variant(partial(fastal.score, x, backend="triton"), "host"),
    }
    for k in picked:
        if k <= len(x):
            variants[f"fastal.select, k={k}"] = Variant(
                partial(fastal.select, x, k, backend="triton"), "host"
            )
            variants[f"torch.topk of scores, k={k}"] = Variant(partial(scores.topk, k), "gpu")
    return variants


def nearest(x: Tensor, n_centroids: int) -> dict[str, Variant]:
    """The nearest centroids of rows, and the product that torch needs for them, in TF32."""
    units = torch.nn.functional.normalize(torch.randn(n_centroids, x.shape[1], device=x.device))
    columns = units.to(x.dtype).t()
    torch.backends.cuda.matmul.allow_tf32 = True  # our kernels do not depend on it
    kernel = partial(ops.nearest, x, units, backend="triton")
    return {
        "kernel, nearest": Variant(kernel, "gpu"),
        "kernel, nearest, fast": Variant(partial(kernel, fast=True), "gpu"),
        "torch product alone": Variant(partial(torch.matmul, x, columns), "gpu"),
    }


def theirs(x: Tensor) -> dict[str, Variant]:
    """Chains of torch's operations, on equal chunks whose temporaries fit the memory."""
    most = min(2**28, usable_bytes(x.device.type) // 20)
    chunks = x.chunk(2 ** max(0, math.ceil(math.log2(x.numel() / most))))
    compiler = "inductor" if on_gpu(x.device.type) else "eager"  # to compile for a CPU is slow

    @cache
    def compiled() -> Callable[[Tensor], Any]:
        torch.compiler.reset()
        return torch.compile(eager, dynamic=False, backend=compiler)

    # The first call compiles. If it fails, the other variants are timed in any case.
    chains = {"torch eager": eager, "torch.compile": lambda chunk: compiled()(chunk)}
    return {
        name: Variant(partial(_in_chunks, chain, chunks), "gpu") for name, chain in chains.items()
    }


def eager(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four scores as a careful user of torch writes them."""
    n = x.shape[1]
    log_p = torch.log_softmax(x, 1, dtype=torch.float32)
    p = log_p.exp()
    p1, p2 = p.topk(2, 1).values.unbind(1)
    return n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, -(p * log_p).sum(1) / math.log(n)


def _in_chunks(chain: Callable[[Tensor], Any], chunks: Sequence[Tensor]) -> None:
    for chunk in chunks:
        chain(chunk)


def problem(call: Callable[[], Any], seconds: float, device: str) -> str | None:
    """The error of a first call, or that it takes more than these seconds; None if it works."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took over {seconds:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        call()
        synchronize(device)
    except Exception as error:  # the other variants are timed in any case
        return sentence(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None
