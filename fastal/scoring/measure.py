"""What scores rows by more than themselves: embeddings by centroids, activations by others."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Blank(NamedTuple):
    """How rows that hold nothing, as padding and failed items do, are known.

    Attributes:
        least: the least score that they have.
        most: the largest.
        value: what all of their values are; None: any, but all the same.
    """

    least: float
    most: float
    value: float | None


@runtime_checkable
class Measure(Protocol):
    """Scores rows, each on its own, for a selection or to be written.

    Attributes:
        kind: what the rows are, for messages: "embeddings".
        invalid: what is wrong with a row of score NaN, for messages: "has NaN".
        offers: the backends that compute it.
        width: how many columns rows have; None: any number, the same for all.

    One may have an attribute `blank` as well, a `Blank`.
    """

    kind: str
    invalid: str
    offers: tuple[str, ...]
    width: int | None

    def scores(self, x: Tensor, backend: str) -> Tensor:
        """The scores of rows [n, width], [n] float32 where x is; NaN for invalid rows."""

    def arguments(self) -> dict[str, Any]:
        """What tells it from others that score otherwise, as plain values."""
