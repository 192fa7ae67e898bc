"""The device that is checked: a GPU, or the CPU in its place if kernels are interpreted."""

import torch
from torch import Tensor

STAND_IN_BYTES = 1 << 24  # the assumed memory of a CPU that stands in for a GPU


def on_gpu(device: str) -> bool:
    """Whether the device is a GPU."""
    return device != "cpu"


def synchronize(device: str) -> None:
    """Waits for all work of the device."""
    if on_gpu(device):
        torch.cuda.synchronize(device)


def usable_bytes(device: str) -> int:
    """The bytes of the free memory that a matrix may take."""
    free = torch.cuda.mem_get_info(device)[0] if on_gpu(device) else STAND_IN_BYTES
    return int(0.6 * free)


def cache_bytes(device: str) -> int:
    """The bytes that the device's caches hold."""
    return torch.cuda.get_device_properties(device).L2_cache_size if on_gpu(device) else 1 << 16


def pinned(x: Tensor, device: str) -> Tensor:
    """A copy of the rows in pinned memory, which a GPU can copy by itself."""
    return x.pin_memory() if on_gpu(device) else x


def release(device: str) -> None:
    """Frees the memory that torch keeps for later tensors."""
    if on_gpu(device):
        torch.cuda.empty_cache()


def most_held(device: str) -> int | None:
    """The most bytes of tensors since the last call; None if the device does not count them."""
    if not on_gpu(device):
        return None
    held = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return held
