"""The torch definition of every op: what the compiled backends must agree with."""

from fastal.reference.cosine import look_again, nearest, similarities
from fastal.reference.uncertainty import uncertainty

__all__ = ["look_again", "nearest", "similarities", "uncertainty"]
