"""What scores rows by more than themselves: embeddings by centroids, activations by others."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Blank(NamedTuple):
    """The scores, from least to most, that rows have which hold nothing, and what such rows are."""

    least: float
    most: float
    rows: str


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
