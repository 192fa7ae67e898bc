"""One or two launches of each kind of kernel on tiny matrices, for compute-sanitizer."""

from collections.abc import Sequence
from typing import Any

import torch

import fastal
from benchmarks.gpu.embeddings import table_of
from benchmarks.gpu.truth import Findings, definitions, name_of
from fastal import ops


def check_tiny(device: str, classes: Sequence[int]) -> dict[str, Any]:
    """Computes scores, picks, similarities and ranks of five rows."""
    findings = Findings()
    asked = ((torch.bfloat16, "logits"), (torch.float32, "logits"), (torch.float32, "probs"))
    for n_classes in classes:
        for dtype, kind in asked:
            with findings.check(f"{n_classes} classes, {name_of(dtype)} {kind}"):
                x = torch.randn(5, n_classes)
                x = _with_room((x.softmax(1) if kind == "probs" else x).to(device, dtype))
                for rows in (x, x[1:]):
                    got = fastal.score(rows, kind=kind, backend="triton")
                    findings.scores(rows, got, definitions(rows, kind))
                fastal.select(x, 2, kind=kind, backend="triton")
        with findings.check(f"{n_classes} columns"):
            rows = _with_room(torch.randn(5, n_classes).to(device, torch.bfloat16))
            units = torch.eye(3, n_classes, device=device)
            for op in (ops.nearest, ops.similarities):
                op(rows, units, backend="triton")
            ops.mean_ranks(rows, table_of(n_classes, 5), backend="triton")
    return findings.record()


def _with_room(x: torch.Tensor) -> torch.Tensor:
    """The same rows, followed by the memory that may be read with a row's last 16 bytes."""
    room = x.new_empty(x.numel() + 16 // x.element_size())
    return room[: x.numel()].view(x.shape).copy_(x)
