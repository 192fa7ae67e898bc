"""The choice of the backend that computes an op, and the reasons against the others.

The choice is made on every call, from the tensor's device and dtype. There is no global state.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastal.base.argument_values import BACKENDS
from fastal.base.arrays import as_tensor


def choose(backend: str, x: Tensor, offers: Sequence[str] = BACKENDS[1:]) -> str:
    """The name of the backend that computes an op on rows `x`.

    Args:
        backend: one of `BACKENDS`. "auto" chooses the fastest backend that can be used.
        x: the rows.
        offers: the backends that have the op.

    Raises:
        ValueError: the name is unknown, or the backend cannot be used. The message has all reasons.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: wanted one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "auto":
        # On a CPU, Triton can only interpret kernels.
        best = "triton" if x.device.type == "cuda" else "native"
        return best if best in offers and not _REASONS[best](x) else "torch"
    reasons = _REASONS[backend](x)
    if backend not in offers:
        reasons = [f"this op has the backends {', '.join(offers)} for {x.dtype} rows", *reasons]
    if reasons:
        raise ValueError(f"backend: {backend!r} cannot be used: {'; '.join(reasons)}")
    return backend


def backend_reasons(logits: Any = None) -> dict[str, list[str]]:
    """The reasons why each backend cannot be used.

    `backend="auto"` uses "triton" for arrays on a GPU and "native" for arrays on the CPU, if there
    are no reasons against it, else "torch". "torch" can always be used.

    Args:
        logits: the array [N, C] to be scored, of any library. Its device and dtype count, not its
            values. None: the reasons are about this machine only.

    Returns:
        A dict from "triton", "native" and "torch" to a list of sentences. An empty list means that
        the backend can be used.

    Raises:
        TypeError: `logits` is no array.

    Example:
        >>> import fastal, torch
        >>> reasons = fastal.backend_reasons(torch.zeros(2, 3, dtype=torch.int32))
        >>> reasons["torch"]
        []
        >>> reasons["native"][-1]
        'torch.int32 rows: it takes float16, bfloat16, float32 and float64'
    """
    x = None if logits is None else as_tensor(logits, "logits")
    return {name: reasons(x) for name, reasons in _REASONS.items()}


def instruction_set() -> str | None:
    """The instruction set that the native backend uses here; None if it cannot be used."""
    from fastal_kernels import native

    return None if native.reasons() else native.variant()


def device_for(logits: Tensor) -> torch.device:
    """The device on which the Triton kernels read these logits.

    This is the GPU that holds them. Logits on the host are read on the current GPU. The interpreter
    reads them where they are.
    """
    if logits.device.type == "cpu" and torch.cuda.is_available() and not _interprets():
        return torch.device("cuda", torch.cuda.current_device())
    return logits.device


def _triton_reasons(x: Tensor | None) -> list[str]:
    if importlib.util.find_spec("triton") is None:
        return ["the package triton is not installed (it is made for Linux)"]
    reasons = []
    has_gpu = torch.cuda.is_available()
    if x is None:
        return [] if has_gpu or _interprets() else ["torch sees no CUDA or ROCm device"]
    on_host = x.device.type == "cpu" and (has_gpu or _interprets())  # see `device_for`
    if x.device.type != "cuda" and not on_host:
        reasons.append(f"the rows are on {x.device.type}, not on a CUDA or ROCm device")
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        reasons.append(f"{x.dtype} rows: the kernels take float16, bfloat16 and float32")
    return reasons


def _interprets() -> bool:
    # Triton reads this variable when a kernel is defined. The interpreter serves tests.
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


def _native_reasons(x: Tensor | None) -> list[str]:
    from fastal_kernels import native

    reasons = native.reasons()
    if x is not None and x.device.type != "cpu":
        reasons.append(f"the rows are on {x.device.type}, not on the host")
    if x is not None and x.dtype not in native.DTYPES:
        reasons.append(f"{x.dtype} rows: it takes float16, bfloat16, float32 and float64")
    return reasons


def _torch_reasons(_: Tensor | None) -> list[str]:
    return []


_REASONS: dict[str, Callable[[Tensor | None], list[str]]] = {
    "triton": _triton_reasons,
    "native": _native_reasons,
    "torch": _torch_reasons,
}
