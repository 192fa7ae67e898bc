"""The loss of labelled rows at several temperatures: exact sums over rows, on the CPU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.exact_sums import exact_sums, mean_of

N_BINS = 15  # of the calibration error
# Inverse temperatures are between these. Far logits are cut off, so that no product overflows.
LEAST_BETA, MOST_BETA = 2.0**-400, 2.0**400
_FARTHEST = -(2.0**400)
_ZERO = -746.0  # e to this power is 0 in float64
_BLOCK_BYTES = 1 << 21
_PER_BETA = 3  # sums
# A confidence that is equal to an edge belongs to the bin below the edge.
_EDGES = np.arange(1, N_BINS) / N_BINS


@dataclass(frozen=True)
class Point:
    """What the loss is at one inverse temperature, in means over rows.

    Attributes:
        beta: the inverse temperature.
        loss: the negative log-likelihood, in nats.
        slope: beta times its first derivative by beta.
        curvature: beta^2 times its second derivative by beta, at least 0.
    """

    beta: float
    loss: float
    slope: float
    curvature: float


def n_sums_of(betas: Sequence[float]) -> int:
    """How many integers `loss_sums` returns."""
    return _PER_BETA * len(betas) + N_BINS


def loss_sums(
    x: Tensor, places: NDArray[np.int64], labels: NDArray[np.int64], betas: Sequence[float]
) -> list[int]:
    """Sums over rows of loss, slope and curvature at each beta, and of gaps of calibration.

    Args:
        x: [N, C] rows.
        places: [n] int64, the rows to use: each has a finite value, and neither NaN nor +inf.
        labels: [n] int64, the classes of these rows, whose values are finite.
        betas: inverse temperatures. The calibration is measured at the first.

    Returns:
        3 integers for each beta, then one for each of `N_BINS` bins of confidence: the sum of
        1 or 0, for a right or wrong prediction, minus the confidence. They are in the units of
        `exact_sums`: no cut between rows changes a bit.
    """
    n_sums = n_sums_of(betas)
    totals = [0] * n_sums
    most_rows = max(1, _BLOCK_BYTES // (8 * x.shape[1]))
    for first in range(0, len(places), most_rows):
        part = slice(first, first + most_rows)
        block = x[torch.from_numpy(places[part]).to(x.device)].to("cpu", torch.float64)
        columns, bins = _columns(block, torch.from_numpy(labels[part]), betas)
        of_columns = np.repeat(np.arange(len(columns) - 1), len(block))
        sums = exact_sums(
            torch.cat(columns).numpy(), np.append(of_columns, n_sums - N_BINS + bins), n_sums
        )
        totals = [total + more for total, more in zip(totals, sums, strict=True)]
    return totals


def points_of(totals: Sequence[int], betas: Sequence[float], n: int) -> list[Point]:
    """The means that sums over n rows, of `loss_sums`, stand for."""
    means = [mean_of(total, n) for total in totals[: _PER_BETA * len(betas)]]
    return [
        Point(beta, *means[_PER_BETA * i : _PER_BETA * (i + 1)]) for i, beta in enumerate(betas)
    ]


def calibration_error_of(totals: Sequence[int], n: int) -> float:
    """The expected calibration error that sums over n rows, of `loss_sums`, stand for."""
    return mean_of(sum(abs(gap) for gap in totals[-N_BINS:]), n)


def _columns(
    x: Tensor, labels: Tensor, betas: Sequence[float]
) -> tuple[list[Tensor], NDArray[np.int64]]:
    """Columns of rows x [n, C]: loss, slope and curvature at each beta, then the gaps; all [n].

    Also the bins [n] of the gaps.
    """
    n = len(x)
    if n == 1:  # torch sums a single row in another order
        x, labels = x.expand(2, -1), labels.expand(2)
    d = (x - x.amax(1, keepdim=True)).clamp_(min=_FARTHEST)
    d.masked_fill_(x == -math.inf, -math.inf)
    d_label = d.gather(1, labels[:, None])[:, 0]
    columns, confidences = [], []
    for beta in betas:
        t = (d * beta).clamp_(min=_ZERO)
        e = t.exp()
        total = e.sum(1)
        first = e.mul_(t).sum(1) / total
        second = e.mul_(t).sum(1) / total
        t_label = d_label * beta
        columns += [total.log() - t_label, first - t_label, second - first.square()]
        confidences.append(1 / total)
    is_right = x.argmax(1) == labels
    columns.append(is_right.double() - confidences[0])
    bins = np.searchsorted(_EDGES, confidences[0][:n].numpy(), "left")
    return [column[:n] for column in columns], bins
