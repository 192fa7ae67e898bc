"""The names and limits that all kernels share."""

from collections.abc import Sequence

import torch

# In the order in which every kernel numbers them.
UNCERTAINTY_SCORES = (
    "least_confidence",
    "margin",
    "ratio",
    "entropy",
)
# Of items of several draws, in the order in which every kernel numbers them.
DRAWS_SCORES = (
    "bald",
    "mean_entropy",
    "expected_entropy",
    "variation_ratio",
    "vote_entropy",
    "kl_to_mean",
    "variance",
    *UNCERTAINTY_SCORES,
)
# A probability from here to 0 counts as 0: rounding may leave it where the true value is 0.
LEAST_PROB = -1e-3


def asked_for(
    measures: Sequence[str], known: tuple[str, ...] = UNCERTAINTY_SCORES
) -> tuple[str, ...]:
    """The measures asked for, each once, in the order of the known ones.

    Raises:
        KeyError: an unknown measure.
    """
    if not set(measures) <= set(known):
        raise KeyError(f"measures: wanted some of {known}, got {measures}")
    return tuple(measure for measure in known if measure in measures)


def probs_tolerance(dtype: torch.dtype, n_classes: int) -> float:
    """The largest deviation of a row's sum from 1: that of rounding to the dtype, at least 1e-3."""
    info = torch.finfo(dtype)
    return max(1e-3, info.eps) + n_classes * info.smallest_normal * info.eps / 2
