"""What the numbers depend on: the card, its driver and clocks, the software."""

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


def environment(device: str) -> dict[str, Any]:
    """One record; leaves with a message where there is no GPU."""
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
    if device == "cpu":
        return found
    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA or ROCm GPU on this machine")
    return found | _gpu(device)


def _gpu(device: str) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    reasons = fastal.backend_reasons(torch.empty(1, 2, device=device))["triton"]
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
        "failures": [f"the kernels cannot be used: {reason}" for reason in reasons],
    }


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
