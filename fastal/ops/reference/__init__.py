"""The torch definition of every op: what the compiled backends must agree with."""

from fastal.ops.reference.cosine import nearest, recompute_in_float64, similarities, unit_rows
from fastal.ops.reference.euclidean import euclidean
from fastal.ops.reference.members import unit_sums
from fastal.ops.reference.ranks import mean_ranks
from fastal.ops.reference.uncertainty import uncertainty

__all__ = [
    "euclidean",
    "mean_ranks",
    "nearest",
    "recompute_in_float64",
    "similarities",
    "uncertainty",
    "unit_rows",
    "unit_sums",
]
