"""Gradient embeddings of rows: products of two factors that are never multiplied out.

The gradient of a row is g = a outer x. Here x [D] is its embedding, which is the input of the last
layer. a = p - onehot(argmax p) [C] is the gradient of its loss by the logits, if the predicted
class were its label. So |g| = |a| |x|, and the cosine of two gradients is the product of the
cosines of their factors.
"""

import torch
from torch import Tensor

from fastal.base.checks import check_matrix
from fastal.diversity.centroids import EmbeddingMeasure
from fastal.ops import reference
from fastal.ops.reference.cosine import FEWEST_ROWS, first_largest, widened
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.rows import Rows

_LENGTHS = 4  # columns with the lengths of the two factors
_NEAR = 2.0**-20  # below it, 1 - cosine is computed from differences
_BLOCK_BYTES = 1 << 23  # of rows in float64, for each thread: waking threads takes time
_GPU_BLOCK_BYTES = 1 << 28


class Gradients(EmbeddingMeasure):
    """The distance of gradients to that of one row, as a measure of rows of factors.

    A row [C + D + 4] float32 has a, x, and the lengths of both in two parts each.

    Args:
        kind: what the predictions are: "logits", "probs" or "log_probs".

    Attributes:
        n_classes: C; 0 before the first call of `factors`.
        centre: [C + D + 4] float32 on the host, the factors of the row; None: distances are to the
            gradient 0, so they are norms.
    """

    kind = "gradients"
    offers = ("torch",)

    def __init__(self, kind: str) -> None:
        self._predictions = UncertaintyScore(("margin",), kind)
        self.invalid = f"{self._predictions.invalid}, or an embedding that is not finite"
        self.n_classes = 0
        self.centre: Tensor | None = None

    def factors(self, predictions: Tensor, embeddings: Tensor) -> tuple[Tensor, int]:
        """The factors of rows, [n, C + D + 4] float32, and how many predictions are invalid.

        Rows with invalid predictions have NaN.

        Args:
            predictions: [n, C] with C >= 2.
            embeddings: [n, D].

        Raises:
            ValueError, TypeError: the rows have another shape, or another dtype.
        """
        self._predictions.check(predictions)
        check_matrix(embeddings, "embeddings")
        self.n_classes = n_classes = predictions.shape[1]
        into = torch.empty(
            len(predictions), n_classes + embeddings.shape[1] + _LENGTHS, dtype=torch.float32,
            device=predictions.device,
        )  # fmt: skip
        a, x = _factors(into, n_classes)
        of_a, of_x = into[:, -_LENGTHS:-2], into[:, -2:]
        x.copy_(embeddings)
        kind = self._predictions.kind
        (score,) = reference.uncertainty(predictions, ["margin"], kind)
        for first in range(0, len(into), n := _block_rows(into)):
            block = slice(first, first + n)
            a[block] = _loss_gradients(predictions[block], kind)
            of_a[block], of_x[block] = _in_two_parts(a[block]), _in_two_parts(x[block])
        is_invalid = score.isnan()
        into[is_invalid] = torch.nan
        return into, int(is_invalid.count_nonzero())

    def suspect_predictions(self, predictions: Tensor) -> str:
        """A warning if the predictions look like those of another kind; else empty."""
        return self._predictions.suspect(predictions, 0)

    def score(self, rows: Rows) -> Tensor:
        """The distances of rows, [n] float32; NaN for rows that are not finite."""
        centre = None if self.centre is None else self.centre[None].to(rows.x.device)
        distance = torch.empty(len(rows.x), dtype=torch.float32, device=rows.x.device)
        for first in range(0, len(rows.x), n := _block_rows(rows.x)):
            block = rows.x[first : first + n]
            distance[first : first + n] = gradient_distance(block, centre, self.n_classes)
        return distance

    def identity(self) -> dict[str, str]:
        """The kind of the predictions."""
        return {"kind": self._predictions.kind}


def gradient_distance(rows: Tensor, centre: Tensor | None, n_classes: int) -> Tensor:
    """The Euclidean distance of the gradient of each row to that of another row.

    With the norms s and the cosine c of two gradients, |g - g'|^2 = (s - s')^2 + 2 s s' (1 - c).
    If 1 - c is small, it comes from the differences of the factors, so that it keeps its digits.

    Args:
        rows: [n, C + D + 4] float32, the factors.
        centre: [1, C + D + 4] float32 on the same device, the factors of the other row; None: its
            gradient is 0.
        n_classes: C.

    Returns:
        [n] float64. The relative error is at most (C + D + 16) 2^-23, and 2^-46 of the larger norm
        is added. NaN for rows that are not finite. A row has the same bits in any block.
    """
    lengths = _lengths(rows)
    norm = lengths.prod(1)
    if centre is None:
        return norm
    of_centre = _lengths(centre).prod(1)
    factors, units = _factors(rows, n_classes), _units(centre, n_classes)
    products = [_products(*both) for both in zip(factors, units, strict=True)]
    turned = 1 - products[0] * products[1] / norm.masked_fill(norm == 0, 1)
    near = (turned < _NEAR).nonzero()[:, 0]
    if len(near):
        turned[near] = _small_turn(_units(rows[near], n_classes), units)
    return ((norm - of_centre).square() + 2 * norm * of_centre * turned).sqrt()


def _small_turn(ours: list[Tensor], others: list[Tensor]) -> Tensor:
    """1 - c of gradients from the unit vectors of their factors.

    With the differences u and v of the unit vectors, 1 - c = A + (1 - A) B, where A = |u|^2 / 2 and
    B = |v|^2 / 2. No term is negative if both angles are at most 90 degrees. If both are larger,
    the signs of both factors of a row are changed, which does not change its gradient.
    """
    halves = []
    for unit, other in zip(ours, others, strict=True):
        apart, opposite = (
            reference.euclidean(unit, centre).double().square() / 2 for centre in (other, -other)
        )
        halves.append(torch.minimum(apart, opposite))
    return halves[0] + (1 - halves[0]) * halves[1]


def _factors(rows: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """The factors of rows, [n, C] and [n, D]."""
    return rows[:, :n_classes], rows[:, n_classes:-_LENGTHS]


def _units(rows: Tensor, n_classes: int) -> list[Tensor]:
    """The factors of rows, scaled to length 1, in float64; zeros stay zeros."""
    lengths = _lengths(rows)
    lengths.masked_fill_(lengths == 0, 1)
    factors = _factors(rows, n_classes)
    return [factor / lengths[:, place, None] for place, factor in enumerate(factors)]


def _products(rows: Tensor, unit: Tensor) -> Tensor:
    """The products [n] of rows with one row [1, D] float64, in float64."""
    padded, pair = widened(rows.double(), FEWEST_ROWS), widened(unit).expand(2, -1)
    return torch.mm(padded, pair.t())[: len(rows), 0]


def _lengths(rows: Tensor) -> Tensor:
    """The lengths of both factors, [n, 2] float64."""
    return rows[:, -_LENGTHS:].double().view(-1, 2, 2).sum(2)


def _in_two_parts(factor: Tensor) -> Tensor:
    """The lengths of rows, each as a float32 number and what is left of it, [n, 2] float32."""
    padded = widened(factor.double(), FEWEST_ROWS)
    length = torch.linalg.vector_norm(padded, dim=1)[: len(factor)]
    return torch.stack((length.float(), (length - length.float()).float()), 1)


def _loss_gradients(predictions: Tensor, kind: str) -> Tensor:
    """The factors p - onehot(argmax p) of predictions, [n, C] float64; ties go to the lowest."""
    values = predictions.double()
    predicted = first_largest(values.contiguous())[:, None]
    largest = values.gather(1, predicted)
    if kind == "probs":
        others = values.clamp(min=0)
    else:
        others, largest = (values - largest).exp(), torch.ones_like(largest)
    others = widened(others.scatter(1, predicted, 0), FEWEST_ROWS)
    rest = others.sum(1)[: len(values), None]
    # The largest component is -rest, not p - 1, which would lose digits where p is nearly 1.
    gradients = others[: len(values), : values.shape[1]].scatter(1, predicted, -rest)
    return gradients / (largest + rest)


def _block_rows(x: Tensor) -> int:
    """How many rows to compute at once."""
    n_bytes = _BLOCK_BYTES * torch.get_num_threads() if x.device.type == "cpu" else _GPU_BLOCK_BYTES
    return max(FEWEST_ROWS, n_bytes // (8 * x.shape[1]))
