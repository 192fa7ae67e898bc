"""The device that is checked: a GPU; or the CPU in its place, where kernels are interpreted."""

import torch
from torch import Tensor

STAND_IN_BYTES = 1 << 24  # what the CPU that stands in for a GPU is taken to have


def on_gpu(device: str) -> bool:
    """Whether it is a GPU."""
    return device != "cpu"


def synchronize(device: str) -> None:
    """Waits for all that the device was given to do."""
    if on_gpu(device):
        torch.cuda.synchronize(device)


def usable_bytes(device: str) -> int:
    """What a matrix may take of the memory that is free now."""
    free = torch.cuda.mem_get_info(device)[0] if on_gpu(device) else STAND_IN_BYTES
    return int(0.6 * free)


def cache_bytes(device: str) -> int:
    """How much its caches hold."""
    return torch.cuda.get_device_properties(device).L2_cache_size if on_gpu(device) else 1 << 16


def pinned(x: Tensor, device: str) -> Tensor:
    """The same rows in memory that a GPU can copy by itself."""
    return x.pin_memory() if on_gpu(device) else x


def release(device: str) -> None:
    """Gives back what is kept for later tensors."""
    if on_gpu(device):
        torch.cuda.empty_cache()


def most_held(device: str) -> int | None:
    """The most bytes of tensors since it was asked last; None where nothing counts them."""
    if not on_gpu(device):
        return None
    held = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return held
