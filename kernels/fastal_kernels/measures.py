"""What callers may ask of the kernels, whichever computes it."""

from collections.abc import Sequence

import torch

MEASURES = (
    "least_confidence",
    "margin",
    "ratio",
    "entropy",
)  # as every kernel numbers them
# What rounding, of whatever a probability was computed from, may leave of 0: it counts as 0.
LEAST_PROB = -1e-3


def asked_for(measures: Sequence[str]) -> tuple[str, ...]:
    """The measures asked for, each once, in the order of `MEASURES`; KeyError for others."""
    if not set(measures) <= set(MEASURES):
        raise KeyError(f"measures: wanted some of {MEASURES}, got {measures}")
    return tuple(measure for measure in MEASURES if measure in measures)


def probs_tolerance(dtype: torch.dtype, n_classes: int) -> float:
    """How far from 1 a row of probabilities may sum: what rounding to the dtype can do, or 1e-3."""
    info = torch.finfo(dtype)
    return max(1e-3, info.eps) + n_classes * info.smallest_normal * info.eps / 2
