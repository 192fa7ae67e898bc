"""The torch definition of every op: what the compiled backends must agree with."""

from fastal.reference.cosine import look_again, nearest, similarities, unit_rows
from fastal.reference.euclidean import euclidean
from fastal.reference.members import unit_sums
from fastal.reference.ranks import mean_ranks
from fastal.reference.uncertainty import uncertainty

__all__ = [
    "euclidean",
    "look_again",
    "mean_ranks",
    "nearest",
    "similarities",
    "uncertainty",
    "unit_rows",
    "unit_sums",
]
