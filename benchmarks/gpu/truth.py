"""The true scores, and the errors that are allowed."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from fastal.ops.formulas import UNCERTAINTY_SCORES

RELATIVE = 1e-5
ABSOLUTE = float(np.finfo(np.float32).tiny)  # below it, float32 has no relative precision


def definitions(x: torch.Tensor, kind: str = "logits") -> np.ndarray:
    """The four scores [4, N] by their definitions: softmax, sort, formulas, in long doubles."""
    # NumPy sums contiguous rows pairwise. Else rounding would spoil rows with 1 − p1 = 1e-12.
    p = x.detach().cpu().double().numpy().astype(np.longdouble, order="C")
    n = p.shape[1]
    if kind != "probs":
        p = np.exp(p - p.max(1, keepdims=True))
    p = np.sort(p / p.sum(1, keepdims=True), axis=1)
    p1, p2 = p[:, -1], p[:, -2]
    log_p = np.log(p, where=p > 0, out=np.zeros_like(p))  # p log p is 0 at p = 0
    entropy = -(p * log_p).sum(1) / math.log(n)
    return np.stack([n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, entropy])


def relative_errors(got: torch.Tensor, want: np.ndarray) -> np.ndarray:
    """The relative error of each score; infinite for NaN and for scores outside [0, 1]."""
    score = got.cpu().double().numpy()
    off = np.maximum(np.abs(score - want) - ABSOLUTE, 0)
    error = np.divide(off, want, where=want > 0, out=np.where(off > 0, np.inf, 0).astype(off.dtype))
    return np.where((score >= 0) & (score <= 1), error, np.inf)


class Findings:
    """Counts checks, and keeps the failures and the largest error of each score by dtype."""

    def __init__(self) -> None:
        self.checks = 0
        self.failures: list[str] = []
        self.worst: dict[str, dict[str, float]] = {}

    @contextmanager
    def check(self, what: str) -> Iterator[None]:
        """A context for one check: an error in it is recorded as a failure, and not raised."""
        self.checks += 1
        try:
            yield
        except Exception as error:
            self.failures.append(f"{what}: {sentence(error)}")

    def scores(
        self, x: torch.Tensor, got: Sequence[torch.Tensor], truth: np.ndarray,
        measures: Sequence[str] = UNCERTAINTY_SCORES,
    ) -> None:  # fmt: skip
        """Compares scores of x with the true ones. AssertionError if an error is too large."""
        worst = self.worst.setdefault(name_of(x.dtype), dict.fromkeys(UNCERTAINTY_SCORES, 0.0))
        off = []
        for measure, score in zip(measures, got, strict=True):
            error = relative_errors(score, truth[UNCERTAINTY_SCORES.index(measure)])
            row = int(error.argmax())
            worst[measure] = max(worst[measure], float(error[row]))
            if error[row] > RELATIVE:
                off.append(f"{measure} of row {row} is off by {error[row]:.1e}")
        assert not off, "; ".join(off)

    def record(self, **fields: Any) -> dict[str, Any]:
        """The findings and the given fields, for JSON. Errors are text: JSON has no infinity."""
        worst = {
            dtype: {measure: f"{error:.1e}" for measure, error in errors.items()}
            for dtype, errors in self.worst.items()
        }
        return fields | {"checks": self.checks, "worst": worst, "failures": self.failures}


def sentence(error: Exception) -> str:
    """An error as one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def name_of(dtype: torch.dtype) -> str:
    """The name of a dtype without `torch.`."""
    return str(dtype).removeprefix("torch.")
