"""Chooses the backend that computes an op, and says why the others were passed over.

The only importer of `fastal_kernels`. The choice is made on every call, from the tensor's device
and dtype; there is no global state.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from fastal import reference
from fastal.arrays import as_tensor
from fastal.staging import staged

BACKENDS = ("auto", "triton", "native", "torch")


def uncertainty(
    logits: Tensor, measures: Sequence[str], kind: str = "logits", *, backend: str
) -> list[Tensor]:
    """`fastal.reference.uncertainty`, computed by `backend`, a name that `choose` gave."""
    if backend == "torch":
        return reference.uncertainty(logits, measures, kind)
    if backend == "native":
        from fastal_kernels import native

        return native.uncertainty(logits, measures, kind)
    from fastal_kernels.uncertainty import uncertainty

    device = device_for(logits)
    if device == logits.device:
        return uncertainty(logits, measures, kind)
    pieces = [uncertainty(piece, measures, kind) for _, piece in staged(logits, device)]
    return [torch.cat(scores) for scores in zip(*pieces, strict=True)]


def nearest(x: Tensor, units: Tensor, fast: bool = False, *, backend: str) -> tuple[Tensor, Tensor]:
    """`fastal.reference.nearest`, computed by `backend`, "torch" or "triton"."""
    if backend == "torch":
        return reference.nearest(x, units, fast)
    from fastal_kernels import cosine

    clusters, similarities = [], []
    for piece, on_device in _pieces(x, units):
        cluster, similarity = cosine.nearest(piece, on_device, fast)
        reference.look_again(piece, on_device, similarity, cluster)
        clusters.append(cluster)
        similarities.append(similarity)
    return torch.cat(clusters), torch.cat(similarities)


def similarities(x: Tensor, units: Tensor, fast: bool = False, *, backend: str) -> Tensor:
    """`fastal.reference.similarities`, computed by `backend`, "torch" or "triton"."""
    if backend == "torch":
        return reference.similarities(x, units, fast)
    from fastal_kernels import cosine

    found = []
    for piece, on_device in _pieces(x, units):
        similarity = cosine.similarities(piece, on_device, fast)
        reference.look_again(piece, on_device, similarity)
        found.append(similarity)
    return torch.cat(found)


def _pieces(x: Tensor, units: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows where the kernels look at them, in pieces, each good until the next; with centroids."""
    device = device_for(x)
    units = units.to(device)
    if device == x.device:
        yield x, units
    else:
        for _, piece in staged(x, device):
            yield piece, units


def counted(
    logits: Tensor, measures: Sequence[str], kind: str, *, backend: str
) -> tuple[list[Tensor], int]:
    """What `uncertainty` returns, of one measure at least, and how many rows are invalid."""
    if backend == "native":
        from fastal_kernels import native

        return native.counted(logits, measures, kind)
    scores = uncertainty(logits, measures, kind, backend=backend)
    return scores, int(scores[0].isnan().sum())


def device_for(logits: Tensor) -> torch.device:
    """Where the kernels look at these logits: on their GPU; those on the host, on the current one.

    The interpreter looks at them where they are.
    """
    if logits.device.type == "cpu" and torch.cuda.is_available() and not _interprets():
        return torch.device("cuda", torch.cuda.current_device())
    return logits.device


def candidates(k: int, device: torch.device, segment: int, bar: tuple[float, int] | None) -> Any:
    """`fastal_kernels.topk.Candidates`: what `select` lets through on a device."""
    from fastal_kernels.topk import Candidates

    return Candidates(k, device, segment, bar)


def select(logits: Tensor, measure: str, kind: str, first_row: int, into: Any) -> int:
    """`fastal_kernels.uncertainty.select`: scores and selects at once; the invalid rows' count."""
    from fastal_kernels.uncertainty import select

    device = device_for(logits)
    if device == logits.device:
        return select(logits, measure, kind, first_row, into)
    return sum(
        select(piece, measure, kind, first_row + start, into)
        for start, piece in staged(logits, device)
    )


def above(
    logits: Tensor, measure: str, kind: str, first_row: int, bar: tuple[float, int] | None
) -> tuple[Tensor, Tensor, int]:
    """`fastal_kernels.native.above`: scores and rows above a bar, and how many rows are invalid."""
    from fastal_kernels import native

    return native.above(logits, measure, kind, first_row, bar)


def guarded(x: Tensor) -> AbstractContextManager[Any]:
    """`fastal_kernels.native.guarded`: whether pages of `x` were lost, which otherwise is fatal.

    Its guard is never `broken` where the kernels were not compiled: nothing is watched there.
    """
    from fastal_kernels import native

    return native.guarded(x)


def instruction_set() -> str | None:
    """The instruction set that the native backend uses on this machine; None: there is none."""
    from fastal_kernels import native

    return None if native.reasons() else native.variant()


def choose(backend: str, logits: Tensor) -> str:
    """The name of the backend to use for `logits`.

    Raises:
        ValueError: an unknown name, or a backend that cannot take these logits, with every reason.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: wanted one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "auto":
        # On a CPU, triton could at most be interpreted.
        best = "triton" if logits.device.type == "cuda" else "native"
        return "torch" if _REASONS[best](logits) else best
    reasons = _REASONS[backend](logits)
    if reasons:
        raise ValueError(f"backend: {backend!r} cannot be used: {'; '.join(reasons)}")
    return backend


def backend_reasons(logits: Any = None) -> dict[str, list[str]]:
    """Why each backend is not usable: a list of reasons by name, empty where it is usable.

    Args:
        logits: the array it would be used on; without one, the answer is about this machine.

    Raises:
        TypeError: `logits` is no array.
    """
    x = None if logits is None else as_tensor(logits, "logits")
    return {name: reasons(x) for name, reasons in _REASONS.items()}


def _triton_reasons(x: Tensor | None) -> list[str]:
    if importlib.util.find_spec("triton") is None:
        return ["the package triton is not installed (it is made for Linux)"]
    reasons = []
    has_gpu = torch.cuda.is_available()
    if x is None:
        return [] if has_gpu or _interprets() else ["torch sees no CUDA or ROCm device"]
    on_host = x.device.type == "cpu" and (has_gpu or _interprets())  # see `device_for`
    if x.device.type != "cuda" and not on_host:
        reasons.append(f"the logits are on {x.device.type}, not on a CUDA or ROCm device")
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        reasons.append(f"{x.dtype} logits: the kernels take float16, bfloat16 and float32")
    return reasons


def _interprets() -> bool:
    # Triton reads this variable when a kernel is defined; its interpreter serves tests.
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


def _native_reasons(x: Tensor | None) -> list[str]:
    from fastal_kernels import native

    reasons = native.reasons()
    if x is not None and x.device.type != "cpu":
        reasons.append(f"the logits are on {x.device.type}, not on the host")
    if x is not None and x.dtype not in native.DTYPES:
        reasons.append(f"{x.dtype} logits: it takes float16, bfloat16, float32 and float64")
    return reasons


def _torch_reasons(_: Tensor | None) -> list[str]:
    return []


_REASONS: dict[str, Callable[[Tensor | None], list[str]]] = {
    "triton": _triton_reasons,
    "native": _native_reasons,
    "torch": _torch_reasons,
}
