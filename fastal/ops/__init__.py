"""Chooses the backend that computes an op, and has it do so; alone imports `fastal_kernels`."""

from fastal.ops.choice import (
    BACKENDS,
    backend_reasons,
    choose,
    device_for,
    instruction_set,
)
from fastal.ops.embeddings import mean_ranks, nearest, similarities
from fastal.ops.guard import guarded
from fastal.ops.predictions import above, candidates, counted, select, uncertainty

__all__ = [
    "BACKENDS",
    "above",
    "backend_reasons",
    "candidates",
    "choose",
    "counted",
    "device_for",
    "guarded",
    "instruction_set",
    "mean_ranks",
    "nearest",
    "select",
    "similarities",
    "uncertainty",
]
