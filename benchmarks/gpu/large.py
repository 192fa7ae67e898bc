"""Checks the far ends of matrices of more than 2^31 elements, and of more than 2^31 rows."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import fastal
from benchmarks.gpu.cases import LargeMatrix
from benchmarks.gpu.device import release, usable_bytes
from benchmarks.gpu.embeddings import assert_near, assert_ranks, ranks_of, similarities_of, table_of
from benchmarks.gpu.truth import Findings, definitions, name_of
from fastal import ops


def check_large(device: str, matrices: Sequence[LargeMatrix]) -> Iterator[dict[str, Any]]:
    """A record for each matrix."""
    for case in matrices:
        order = "by columns" if case.by_columns else "by rows"
        what = f"{case.n_rows} x {case.n_classes} {name_of(case.dtype)} {order}"
        if case.nbytes > usable_bytes(device):
            yield {"matrix": what, "skipped": f"needs {case.nbytes / 1e9:.0f} GB"}
            continue
        findings = Findings()
        with findings.check(what):
            shape = case.n_rows, case.n_classes
            x = torch.empty(
                shape[::-1] if case.by_columns else shape, dtype=case.dtype, device=device
            )
            x.normal_()
            _check(findings, what, x.t() if case.by_columns else x, case)
        x = None
        release(device)
        yield findings.record(matrix=what)


def _check(findings: Findings, what: str, x: Tensor, case: LargeMatrix) -> None:
    x[:, 0] += 20  # all rows are certain, except three
    beyond = case.edge // (case.n_classes if case.n_classes > 2 else 1)
    uncertain = [1, beyond, len(x) - 2]
    x[uncertain] = 0
    looked_at = [row + step for row in uncertain for step in (-1, 0, 1)]
    measures = ("margin", "entropy")  # all four scores of 2^31 rows would not fit every GPU
    with findings.check(f"{what}, scores"):
        found = ops.uncertainty(x, measures, backend="triton")
        scores = [score[looked_at] for score in found]
        findings.scores(x, scores, definitions(x[looked_at]), measures)
    with findings.check(f"{what}, picks"):
        picks = fastal.select(x, 3, "margin", backend="triton")
        assert picks.rows.tolist() == uncertain, f"picked {picks.rows.tolist()}"
    if not case.embeddings:
        return
    some = x[looked_at].cpu()
    units = torch.eye(2, x.shape[1], device=x.device)
    with findings.check(f"{what}, nearest"):
        cluster, similarity = ops.nearest(x, units, backend="triton")
        want = similarities_of(some, units.cpu())
        assert_near(similarity[looked_at], want.amax(1), x)
        assert cluster[looked_at].tolist() == want.argmax(1).tolist(), "other clusters"
    with findings.check(f"{what}, similarities"):
        found = ops.similarities(x, units, backend="triton")[looked_at]
        assert_near(found, similarities_of(some, units.cpu()), x)
    with findings.check(f"{what}, mean ranks"):
        table = table_of(x.shape[1], 100)
        found = ops.mean_ranks(x, table, backend="triton")[looked_at]
        assert_ranks(found, ranks_of(some, table))
