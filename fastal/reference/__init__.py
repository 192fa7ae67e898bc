"""The torch definition of every op: what the compiled backends must agree with."""

from fastal.reference.cosine import nearest, similarities
from fastal.reference.ranks import mean_ranks
from fastal.reference.uncertainty import uncertainty

__all__ = ["mean_ranks", "nearest", "similarities", "uncertainty"]
