"""Checks the scores: every regime, dtype, kind and layout, and invalid rows."""

import math
from typing import Any

import numpy as np
import torch

import fastal
from benchmarks.gpu.truth import Findings, definitions, name_of
from fastal.base.argument_values import CLASS_KINDS
from tests.support.matrices import INVALID, INVALID_PROBS, KERNEL_DTYPES, layouts, regimes


def check_correctness(
    device: str, n_classes: int, backend: str = "triton", copies: int = 3
) -> dict[str, Any]:
    """Compares scores of matrices with n_classes classes to their definitions.

    Rows are also repeated `copies` times, so that matrices of few and of many rows are checked.
    """
    findings = Findings()
    for dtype in KERNEL_DTYPES:
        for kind in CLASS_KINDS:
            what = f"{n_classes} classes, {name_of(dtype)} {kind}"
            with findings.check(what):
                rows = rows_of(n_classes, dtype, kind)
                _check_regimes(findings, what, rows, copies, device, kind, backend)
                if n_classes >= 4:
                    _check_invalid(findings, what, rows[2:3], device, kind, backend)
    # Each layout needs a kernel of its own: to compile less, each number of classes has one dtype.
    dtype = KERNEL_DTYPES[n_classes % 3]
    what = f"{n_classes} classes, {name_of(dtype)}"
    with findings.check(f"{what}, layouts"):
        x = regimes(n_classes, dtype).to(device)
        truth = definitions(x)
        for name, view in views_of(x).items():
            with findings.check(f"{what}, {name}"):
                want = truth if torch.equal(view, x) else definitions(view)
                findings.scores(view, fastal.score(view, backend=backend), want)
    return findings.record(classes=n_classes, backend=backend)


def rows_of(n_classes: int, dtype: torch.dtype, kind: str) -> torch.Tensor:
    """One row of each regime, on the CPU."""
    if kind == "logits":
        return regimes(n_classes, dtype)
    log_p = torch.log_softmax(regimes(n_classes, torch.float64).clamp(-1e4, 1e4), 1)
    return (log_p if kind == "log_probs" else log_p.exp()).to(dtype)


def views_of(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views with the values of x, in all kinds of strides and alignments, by name."""
    # They are made on the device: a copy to it would be contiguous.
    with torch.device(x.device):
        views = layouts(x)
        shifted = torch.full((x.numel() + 1,), math.nan, dtype=x.dtype)
    shifted[1:] = x.flatten()
    views["one element on"] = shifted[1:].view(x.shape)
    views["from the second row on"] = x[1:]
    if x.shape[1] > 2:
        views["from the second column on"] = x[:, 1:]
    return views


def _check_regimes(findings, what, rows, copies, device, kind, backend):
    truth = definitions(rows, kind)
    rows = rows.to(device)
    for company, x, want in (
        ("alone", rows[:1], truth[:, :1]),
        ("few rows", rows, truth),
        ("many rows", rows.repeat(copies, 1), np.tile(truth, copies)),
    ):
        with findings.check(f"{what}, {company}"):
            findings.scores(x, fastal.score(x, kind=kind, backend=backend), want)


def _check_invalid(findings, what, good, device, kind, backend):
    cases = INVALID_PROBS if kind == "probs" else INVALID
    bad = torch.full((len(cases), good.shape[1]), 0.0 if kind == "probs" else -math.inf)
    bad[:, :4] = torch.tensor(list(cases.values()))
    bad = bad.to(good.dtype)
    x = torch.cat([good, bad[:3], good, bad[3:], good]).to(device)
    invalid = [row for row in range(len(x) - 1) if row not in (0, 4)]
    with findings.check(f"{what}, invalid rows skipped"):
        for score in fastal.score(x, kind=kind, on_invalid="skip", backend=backend):
            found = score.isnan().nonzero()[:, 0].tolist()
            assert found == invalid, f"NaN in rows {found}, not {invalid}"
    with findings.check(f"{what}, invalid rows raised"):
        try:
            fastal.score(x, kind=kind, backend=backend)
        except fastal.InvalidRows as error:
            found = error.rows, error.count
            wanted = invalid[: len(error.rows)], len(invalid)
            assert found == wanted, f"named {found}, not {wanted}"
        else:
            raise AssertionError("nothing was raised")
