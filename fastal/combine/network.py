"""A small network of one hidden layer, trained with early stopping."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from fastal.combine.held_out import folds
from fastal.combine.small_model import Layer, Layers
from fastal.combine.standard_rows import folded, side_weights, standards

_UNITS, _RATE = 32, 0.01
_MOST_STEPS, _PATIENCE = 500, 30
_PARTS = 5  # one of them is held out
LEAST_ROWS = 5  # of a side: each held-out part, and each fold of the rest, has one


def network(x: Tensor, is_positive: Tensor, l2: float, seed: int) -> Layers:
    """A network of 32 hidden units (ReLU) on standardised rows.

    The loss is that of `logistic_regression` on four fifths of the rows. Adam takes steps over all
    of these rows at once, until the loss on the last fifth has not improved for 30 steps. The
    weights of its least value are returned.

    Args:
        x: [n, H] float64 on the host, finite.
        is_positive: [n] bool; at least two rows of each side.
        l2: the weight of the penalty, at least 0.
        seed: of the first weights and of the held-out fifth.

    Raises:
        NoModel: as `logistic_regression`.
    """
    mean, scale = standards(x)
    z = (x - mean) / scale
    sign, c = torch.where(is_positive, 1.0, -1.0).to(x), side_weights(is_positive)
    n_parts = min(_PARTS, int(is_positive.sum()), int((~is_positive).sum()))
    held = torch.from_numpy(folds(is_positive.numpy(), n_parts, seed) == 0)
    with torch.inference_mode(False), torch.enable_grad():
        # Copies: what was made in inference mode takes part in no gradient.
        train, rest = ((z[of].clone(), sign[of].clone(), c[of].clone()) for of in (~held, held))
        first, second = _trained(train, rest, l2, seed)
    return [folded(*first, mean, scale), Layer(second[0].float(), second[1])]


_Part = tuple[Tensor, Tensor, Tensor]
_Pair = tuple[Tensor, Tensor]


def _trained(train: _Part, held: _Part, l2: float, seed: int) -> tuple[_Pair, _Pair]:
    """Weight and bias of both layers, in float64, at the least loss on the held-out rows."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    width = train[0].shape[1]
    shapes = ((_UNITS, width), (_UNITS,), (1, _UNITS), (1,))
    sizes = (math.sqrt(2 / width), 0.0, math.sqrt(1 / _UNITS), 0.0)
    parameters = [
        torch.from_numpy(size * rng.standard_normal(shape)).requires_grad_()
        for shape, size in zip(shapes, sizes, strict=True)
    ]
    optimiser = torch.optim.Adam(parameters, lr=_RATE)
    best, least, since = [x.detach().clone() for x in parameters], math.inf, 0
    for _ in range(_MOST_STEPS):
        with torch.no_grad():
            loss = float(_loss(parameters, held))
        since += 1
        if loss < least:
            best, least, since = [x.detach().clone() for x in parameters], loss, 0
        if since == _PATIENCE:
            break
        optimiser.zero_grad()
        penalty = sum((x.square().sum() for x in parameters[::2]), torch.zeros_like(train[1][0]))
        total = _loss(parameters, train) + l2 / (2 * len(train[0])) * penalty
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (best[0], best[1]), (best[2], best[3])


def _loss(parameters: list[Tensor], part: _Part) -> Tensor:
    """The weighted mean loss of rows."""
    first, first_bias, second, second_bias = parameters
    z, sign, c = part
    odds = ((z @ first.t() + first_bias).relu() @ second.t() + second_bias)[:, 0]
    return (c * softplus(-sign * odds)).sum() / c.sum()
