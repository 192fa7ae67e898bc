"""The ops, each computed by the backend that is chosen for it.

`reference/` holds the torch definition of every op. Only this folder and
`fastal.base.memory_guard` import `fastal_kernels`.
"""

from fastal.base.argument_values import BACKENDS
from fastal.ops.backend_choice import (
    backend_reasons,
    choose,
    device_for,
    instruction_set,
)
from fastal.ops.draws import draws
from fastal.ops.embeddings import mean_ranks, nearest, similarities, unit_sums
from fastal.ops.head import head_item_scores, head_scores
from fastal.ops.items import item_scores
from fastal.ops.predictions import (
    candidates,
    scores_above_threshold,
    scores_and_invalid,
    select,
    uncertainty,
)

__all__ = [
    "BACKENDS",
    "backend_reasons",
    "candidates",
    "choose",
    "device_for",
    "draws",
    "head_item_scores",
    "head_scores",
    "instruction_set",
    "item_scores",
    "mean_ranks",
    "nearest",
    "scores_above_threshold",
    "scores_and_invalid",
    "select",
    "similarities",
    "uncertainty",
    "unit_sums",
]
