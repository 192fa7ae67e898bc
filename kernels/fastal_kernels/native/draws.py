"""Scores of items of several draws, such as the members of an ensemble, on CPUs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastal_kernels import native
from fastal_kernels.measures import probs_tolerance
from fastal_kernels.native.threads import in_threads

DTYPES = native.DTYPES[:3]  # all but float64
# In the order of job.h.
_MEASURES = (
    "mean_entropy", "expected_entropy", "bald", "variation_ratio", "vote_entropy", "variance",
    "least_confidence", "margin", "ratio",
)  # fmt: skip
_SAME = {"kl_to_mean": "bald", "entropy": "mean_entropy"}  # "entropy" is divided by ln C


def draws(
    x: Tensor, measures: Sequence[str], kind: str = "logits", temperature: float = 1.0
) -> list[Tensor]:
    """Scores of items, in the order of `measures`; see `fastal.ops.reference.draws`.

    Args:
        x: [N, S, C] with C >= 2; a dtype of `DTYPES`; any strides; on the host.
        measures: names from `DRAWS_SCORES`.
        kind: what the draws are: "logits", "probs" or "log_probs".
        temperature: logits are divided by it; 1 for "probs".

    Returns:
        A list of [N] float32 tensors, NaN for invalid items.
    """
    n_rows, n_draws, n_classes = x.shape
    asked = {_SAME.get(measure, measure) for measure in measures}
    scores = {
        measure: torch.empty(n_rows, dtype=torch.float32, device="cpu")
        for measure in _MEASURES
        if measure in asked
    }
    n_threads = min(torch.get_num_threads(), 1 + x.numel() // native.LEAST_SHARE)
    progress = torch.zeros(native.COUNTS, dtype=torch.int64, device="cpu")
    arguments = (
        native.variant(),
        x.data_ptr(),
        native.DTYPES.index(x.dtype),
        n_rows,
        n_draws,
        n_classes,
        *(stride * x.element_size() for stride in x.stride()),
        kind == "probs",
        probs_tolerance(x.dtype, n_classes),
        1 / temperature,
        tuple(native.address_of(scores.get(measure)) for measure in _MEASURES),
        n_threads,
        progress.data_ptr(),
    )

    def work() -> object:
        _ = x, scores  # keeps the memory alive
        return native.call("draws", arguments)

    in_threads(work, n_threads, progress, n_rows)
    return [_score(measure, scores, n_classes) for measure in measures]


def _score(measure: str, scores: dict[str, Tensor], n_classes: int) -> Tensor:
    if measure == "entropy":
        return scores["mean_entropy"] / math.log(n_classes)
    return scores[_SAME.get(measure, measure)]
