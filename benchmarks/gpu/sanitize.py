"""A launch or two of each kind of kernel on tiny matrices, for compute-sanitizer."""

from typing import Any

import torch

import fastal
from benchmarks.gpu.runner import Outcome
from benchmarks.gpu.truth import Findings, definitions, name_of

# Without torch's cache, an allocation ends where its tensor does.
VARIABLES = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def check_tiny(device: str) -> dict[str, Any]:
    """Scores and picks of five rows."""
    findings = Findings()
    asked = ((torch.bfloat16, "logits"), (torch.float32, "logits"), (torch.float32, "probs"))
    for n_classes in (2, 10, 33, 257, 1001, 32_000):
        for dtype, kind in asked:
            x = torch.randn(5, n_classes)
            x = _with_room((x.softmax(1) if kind == "probs" else x).to(device, dtype))
            with findings.check(f"{n_classes} classes, {name_of(dtype)} {kind}"):
                for rows in (x, x[1:]):
                    got = fastal.score(rows, kind=kind, backend="triton")
                    findings.scores(rows, got, definitions(rows, kind))
                fastal.select(x, 2, kind=kind, backend="triton")
    return findings.record()


def _with_room(x: torch.Tensor) -> torch.Tensor:
    """The same, before as much memory as may be read with a row's last 16 bytes."""
    room = x.new_empty(x.numel() + 16 // x.element_size())
    return room[: x.numel()].view(x.shape).copy_(x)


def verdict(tool: str, outcome: Outcome) -> dict[str, Any]:
    """What a tool of it found; that it cannot work here is no failure of the kernels."""
    if "not supported" in outcome.output.lower():
        return {"tool": tool, "result": "compute-sanitizer does not support this device"}
    summaries = [line for line in outcome.output.splitlines() if "SUMMARY" in line]
    result = summaries[-1].strip("= ") if summaries else outcome.problem or "no summary"
    failures = [failure for record in outcome.records for failure in record["failures"]]
    if summaries and not any(clean in result for clean in (": 0 errors", ": 0 hazards")):
        failures.append(result)
    return {"tool": tool, "result": result, "failures": failures}
