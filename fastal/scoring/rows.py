"""Rows of a pool, checked and ready to be scored."""

from typing import Any, NamedTuple

from torch import Tensor


class Rows(NamedTuple):
    """Consecutive rows of a pool that a measure accepted.

    Attributes:
        x: the rows as a tensor [n, ...].
        start: the row number of the first.
        backend: what computes the scores: a name that `Measure.choose` returned.
        given: the rows as the caller gave them.
    """

    x: Tensor
    start: int
    backend: str
    given: Any
