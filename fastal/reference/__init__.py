"""The torch definition of every op: what the compiled backends must agree with."""

from fastal.reference.cosine import nearest, similarities
from fastal.reference.euclidean import euclidean
from fastal.reference.uncertainty import uncertainty

__all__ = ["euclidean", "nearest", "similarities", "uncertainty"]
