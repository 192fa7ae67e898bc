"""The far ends of matrices of more than 2^31 elements, and of more than 2^31 rows."""

from collections.abc import Iterator
from typing import Any

import torch

import fastal
from benchmarks.gpu.clock import usable_bytes
from benchmarks.gpu.truth import Findings, definitions, name_of
from fastal.backend import uncertainty

MATRICES = (
    (2**31 // 10 + 1000, 10, torch.float32, "by rows"),
    (2**31 // 1001 + 1000, 1001, torch.bfloat16, "by rows"),
    (2**31 // 131_072 + 100, 131_072, torch.bfloat16, "by rows"),
    (2**31 // 1000 + 1000, 1000, torch.bfloat16, "by columns"),
    (2**31 + 1000, 2, torch.bfloat16, "by rows"),
)


def check_large(device: str) -> Iterator[dict[str, Any]]:
    """A record for each matrix."""
    for n_rows, n_classes, dtype, order in MATRICES:
        what = f"{n_rows} x {n_classes} {name_of(dtype)} {order}"
        needed = n_rows * (n_classes * dtype.itemsize + 4 * 2)
        if needed > usable_bytes():
            yield {"matrix": what, "skipped": f"needs {needed / 1e9:.0f} GB"}
            continue
        findings = Findings()
        with findings.check(what):
            shape = (n_classes, n_rows) if order == "by columns" else (n_rows, n_classes)
            x = torch.empty(shape, dtype=dtype, device=device).normal_()
            _check(findings, x.t() if order == "by columns" else x)
        x = None
        torch.cuda.empty_cache()
        yield findings.record(matrix=what)


def _check(findings, x):
    x[:, 0] += 20  # certain rows, but for three
    beyond = 2**31 // x.shape[1] if x.shape[1] > 2 else 2**31
    uncertain = [1, beyond, len(x) - 2]
    x[uncertain] = 0
    looked_at = [row + step for row in uncertain for step in (-1, 0, 1)]
    measures = ("margin", "entropy")  # all four would not fit beside 2^31 rows everywhere
    scores = [score[looked_at] for score in uncertainty(x, measures, backend="triton")]
    findings.scores(x, scores, definitions(x[looked_at]), measures)
    picks = fastal.select(x, 3, "margin", backend="triton")
    assert picks.rows.tolist() == uncertain, f"picked {picks.rows.tolist()}"
