"""The facts that the figures depend on: the card, its driver and clocks, the software."""

import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton

import fastal
from benchmarks.gpu.device import on_gpu
from benchmarks.gpu.truth import sentence


def environment(device: str) -> dict[str, Any]:
    """One record, with a failure if no kernel runs on the device: then other steps are skipped."""
    found = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": triton.__version__,
        "numpy": np.__version__,
        "fastal": fastal.__version__,
        "cpus": os.cpu_count(),
        "device": "CPU",
    }
    if on_gpu(device):
        if not torch.cuda.is_available():
            return found | {"failures": ["torch sees no CUDA or ROCm GPU on this machine"]}
        found |= _gpu(device)
    try:
        fastal.score(torch.zeros(1, 2, device=device), backend="triton").entropy.tolist()
    except Exception as error:  # from Triton, its compilers or the driver
        found["failures"] = [f"no kernel runs here: {sentence(error)}"]
    return found


def _gpu(device: str) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    asked = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")
    query = f"--query-gpu={','.join(asked)}"
    answer = _output("nvidia-smi", query, "--format=csv,noheader", "--id=0")
    return {
        "device": properties.name,
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "architecture": getattr(properties, "gcnArchName", None),  # AMD's
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        **dict(zip(asked, answer.split(", ") if answer else (), strict=False)),
    }


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
