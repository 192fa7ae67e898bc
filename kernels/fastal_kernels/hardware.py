"""What a device offers to the kernels."""

import functools

import torch
import triton

from fastal_kernels.launch import Isa


@functools.cache
def isa_of(device: torch.device) -> Isa:
    """The instructions and the shared memory of a device; the defaults where it interprets."""
    if device.type != "cuda" or triton.knobs.runtime.interpret:
        return Isa()
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index)
    shared = properties["max_shared_mem"]
    if torch.version.hip is not None:
        warp_size = torch.cuda.get_device_properties(device).warp_size
        return Isa(warp_size=warp_size, shared=shared)
    major, _ = torch.cuda.get_device_capability(device)
    return Isa(ptx=major >= 8, pairs=major >= 10, shared=shared)
