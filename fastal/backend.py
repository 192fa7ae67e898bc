"""Chooses the backend that computes an op, and says why the others were passed over.

The only importer of `fastal_kernels`. The choice is made on every call, from the tensor's device
and dtype; there is no global state.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastal import reference
from fastal.arrays import as_tensor

BACKENDS = ("auto", "triton", "torch")


def uncertainty(
    logits: Tensor, measures: Sequence[str], kind: str = "logits", *, backend: str
) -> list[Tensor]:
    """`fastal.reference.uncertainty`, computed by `backend`, a name that `choose` gave."""
    if backend == "torch":
        return reference.uncertainty(logits, measures, kind)
    from fastal_kernels.uncertainty import uncertainty

    return uncertainty(logits, measures, kind)


def choose(backend: str, logits: Tensor) -> str:
    """The name of the backend to use for `logits`.

    Raises:
        ValueError: an unknown name, or a backend that cannot take these logits, with every reason.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: wanted one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "auto":
        # On a CPU, triton could at most be interpreted.
        on_gpu = logits.device.type == "cuda"
        return "triton" if on_gpu and not _REASONS["triton"](logits) else "torch"
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
    # Triton reads this variable when a kernel is defined; its interpreter serves tests.
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if x is None:
        if not interpreted and not torch.cuda.is_available():
            reasons.append("torch sees no CUDA or ROCm device")
        return reasons
    if x.device.type != "cuda" and not (interpreted and x.device.type == "cpu"):
        reasons.append(f"the logits are on {x.device.type}, not on a CUDA or ROCm device")
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        reasons.append(f"{x.dtype} logits: the kernels take float16, bfloat16 and float32")
    return reasons


def _torch_reasons(_: Tensor | None) -> list[str]:
    return []


_REASONS: dict[str, Callable[[Tensor | None], list[str]]] = {
    "triton": _triton_reasons,
    "torch": _torch_reasons,
}
