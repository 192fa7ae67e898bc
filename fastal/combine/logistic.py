"""Logistic regression with class weights, by Newton's method in float64."""

import torch
from torch import Tensor

from fastal.combine.small_model import Layers
from fastal.combine.standard_rows import NoModel, folded, side_weights, standards

_MOST_STEPS = 200
# Newton's decrement is about twice the distance of the loss from its minimum. Below this share of
# the loss, one more step is exact within rounding, since its error is the square of that distance.
_ENOUGH = 1e-12
_SUFFICIENT = 1e-4  # the share of the predicted decrease that a step must reach (Armijo's rule)


def logistic_regression(x: Tensor, is_positive: Tensor, l2: float) -> Layers:
    """The logistic regression of standardised rows. The loss is convex and has one minimum.

    Columns are centred and divided by their standard deviation. Constant columns become 0.
    The loss is the sum over rows of c log(1 + exp(-s z)), plus l2 / 2 times the squared length of
    the weights. Here z are the log-odds, s is 1 for positive rows and -1 for others, and c is
    n / (2 m) for n rows, of which m are of the row's side. The bias has no penalty.

    The minimum is found to about 1e-12 and then rounded to float32, as means and deviations are. So
    the order of sums, which depends on the number of threads, does not show in the result, except
    where it crosses the edge of a rounding.

    Args:
        x: [n, H] float64 on the host, finite.
        is_positive: [n] bool; at least one row is positive and one is not.
        l2: the weight of the penalty, above 0.

    Raises:
        NoModel: a column varies so little that float32 cannot hold its weight; or the minimum
            was not found.
    """
    mean, scale = standards(x)
    design = torch.cat(((x - mean) / scale, x.new_ones(len(x), 1)), 1)
    sign = torch.where(is_positive, 1.0, -1.0).to(x)
    solution = _minimum(design, sign, side_weights(is_positive).to(x), l2)
    return [folded(solution[None, :-1], solution[-1:], mean, scale)]


def _minimum(design: Tensor, sign: Tensor, c: Tensor, l2: float) -> Tensor:
    """The weights and the bias of the least loss, [H + 1], by Newton's method with halved steps."""
    penalty = torch.full_like(design[0], l2)
    penalty[-1] = 0
    zero = torch.zeros_like(c)

    def loss(w: Tensor) -> Tensor:
        return c @ torch.logaddexp(zero, -sign * (design @ w)) + penalty @ w.square() / 2

    w = torch.zeros_like(penalty)
    for _ in range(_MOST_STEPS):
        margin = sign * (design @ w)
        miss = torch.sigmoid(-margin)
        slope = penalty * w - design.t() @ (c * sign * miss)
        root = (c * miss * torch.sigmoid(margin)).sqrt()[:, None] * design
        curvature = root.t() @ root + penalty.diag()
        step = torch.cholesky_solve(slope[:, None], torch.linalg.cholesky(curvature))[:, 0]
        before, decrement = loss(w), slope @ step
        if decrement <= _ENOUGH * before:
            return w - step
        size = 1.0
        while loss(w - size * step) > before - _SUFFICIENT * size * decrement:
            size /= 2
        w = w - size * step
    raise NoModel(f"no minimum was found in {_MOST_STEPS} steps; give a larger l2")
