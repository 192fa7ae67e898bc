"""Which backend computes an op, and why the others were passed over.

The choice is made on every call, from the tensor's device and dtype; there is no global state.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastal.base.arrays import as_tensor
from fastal.base.choices import BACKENDS


def choose(backend: str, x: Tensor, offers: Sequence[str] = BACKENDS[1:]) -> str:
    """The name of the backend to use for rows `x`, of those that offer the op.

    Raises:
        ValueError: an unknown name, or a backend that cannot take these rows, with every reason.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: wanted one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "auto":
        # On a CPU, triton could at most be interpreted.
        best = "triton" if x.device.type == "cuda" else "native"
        return best if best in offers and not _REASONS[best](x) else "torch"
    reasons = _REASONS[backend](x)
    if backend not in offers:
        reasons = [f"for this there are {', '.join(offers)}", *reasons]
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


def instruction_set() -> str | None:
    """The instruction set that the native backend uses on this machine; None: there is none."""
    from fastal_kernels import native

    return None if native.reasons() else native.variant()


def device_for(logits: Tensor) -> torch.device:
    """Where the kernels look at these logits: on their GPU; those on the host, on the current one.

    The interpreter looks at them where they are.
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
    # Triton reads this variable when a kernel is defined; its interpreter serves tests.
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
