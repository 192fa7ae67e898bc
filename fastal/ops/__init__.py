"""Chooses the backend that computes an op, and has it do so; alone imports `fastal_kernels`."""

from fastal.ops.choice import (
    BACKENDS,
    backend_reasons,
    choose,
    device_for,
    instruction_set,
)
from fastal.ops.embeddings import mean_ranks, nearest, similarities
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
    "instruction_set",
    "mean_ranks",
    "nearest",
    "scores_above_threshold",
    "scores_and_invalid",
    "select",
    "similarities",
    "uncertainty",
]
