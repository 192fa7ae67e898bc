"""What all small models share: standardised columns, weights of the two sides, rounded layers."""

import math

import torch
from torch import Tensor

from fastal.combine.small_model import Layer


class NoModel(ValueError):  # noqa: N818  (a finding about an argument)
    """No small model can be fitted to these rows."""


def standards(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each column of x, [H] float64, rounded to float32.

    The deviation of a constant column is infinite, so that it is 0 in all standardised rows.

    Raises:
        NoModel: float32 cannot hold them.
    """
    least, most = x.aminmax(dim=0)
    mean, scale = x.mean(0).float().double(), x.std(0, correction=0).float().double()
    if not (mean.isfinite() & scale.isfinite() & (scale > 0) | (least == most)).all():
        raise NoModel("a column has a mean or a deviation that float32 cannot hold")
    return mean, torch.where(least == most, math.inf, scale)


def side_weights(is_positive: Tensor) -> Tensor:
    """The weight of each row, [n] float64: both sides have the same sum, and the mean is 1."""
    n, n_positive = len(is_positive), int(is_positive.sum())
    of_sides = torch.tensor(
        [n / (2 * (n - n_positive)), n / (2 * n_positive)], dtype=torch.float64, device="cpu"
    )
    return of_sides[is_positive.long()]


def folded(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> Layer:
    """A layer of standardised rows as a layer of the rows themselves.

    Args:
        weight: [outputs, H] float64. After it is divided by the deviations, it is rounded to
            float32.
        bias: [outputs] float64. It is rounded to float32, before the sum of the means is taken off,
            which is exact up to one rounding.
        mean: [H], see `standards`.
        scale: [H], see `standards`.

    Raises:
        NoModel: float32 cannot hold it.
    """
    weight = (weight / scale).float()
    if not weight.isfinite().all():
        raise NoModel("a column varies so little that float32 cannot hold its weight")
    shifts = [math.fsum((of_unit.double() * mean).tolist()) for of_unit in weight]
    taken_off = torch.tensor(shifts, dtype=torch.float64, device="cpu")
    return Layer(weight, bias.float().double() - taken_off)
