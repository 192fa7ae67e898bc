"""A small model of the hidden states of a main model, as a measure."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastal.diversity.centroids import EmbeddingMeasure
from fastal.ops.reference.cosine import widened
from fastal.scoring.rows import Rows

# The rows whose products are computed at once, in float64: they fit a cache.
_BLOCK_BYTES, _FEWEST_ROWS, _MOST_ROWS = 1 << 23, 64, 8192
_FEWEST_OUTPUTS = 2  # a product with a single column is summed in an order that threads change


class Layer(NamedTuple):
    """A linear layer: x @ weight.T + bias.

    Attributes:
        weight: [outputs, inputs] float32 on the host.
        bias: [outputs] float64 on the host.
    """

    weight: Tensor
    bias: Tensor


Layers = Sequence[Layer]
# From rows [n, H] float64 on the host, and which of them are positive [n] bool, to a small model.
Fit = Callable[[Tensor, Tensor], Layers]


class LogOdds(EmbeddingMeasure):
    """The log-odds that a row is positive, by a small model.

    The odds order rows as probabilities do. Unlike probabilities, they do not end at 1, so rows of
    which the model is sure do not tie. They are computed in float64.

    Args:
        layers: the small model; all layers but the last are followed by a ReLU, and the last has
            one output.
        strategy: the name of the strategy that scores by it.
        trained_on: the argument whose rows it was trained on, for messages.
    """

    kind = "hidden states"
    invalid = "has NaN, an infinite value, or log-odds beyond float32"
    offers = ("torch",)
    of_classes = False

    def __init__(self, layers: Layers, strategy: str, trained_on: str) -> None:
        self.layers = layers
        self.width = layers[0].weight.shape[1]
        self.width_of = trained_on
        self._strategy = strategy

    def score(self, rows: Rows) -> Tensor:
        """The log-odds of rows [n, H], [n] float32; NaN for invalid rows."""
        return log_odds(rows.x, self.layers)

    def identity(self) -> dict[str, Any]:
        """The digest of the small model."""
        found = hashlib.sha256()
        for x in (x for layer in self.layers for x in layer):
            found.update(f"{tuple(x.shape)}".encode() + x.contiguous().numpy().tobytes())
        return {"small_model": found.hexdigest()[:32]}

    @property
    def strategy(self) -> str:
        """The name of the strategy that scores by it."""
        return self._strategy


def log_odds(x: Tensor, layers: Layers) -> Tensor:
    """The log-odds of rows by a small model; see `LogOdds`.

    Args:
        x: [n, H]; float16, bfloat16, float32 or float64; any strides, any device.
        layers: the small model.

    Returns:
        [n] float32; NaN where they are not finite, as for rows that are not. A row's log-odds do
        not depend on the rows that are given with it, since all products have the same shape.
    """
    placed = [_placed(layer, x.device) for layer in layers]
    width = placed[0][0].shape[1]
    of_bytes = _BLOCK_BYTES // (8 * width) // _FEWEST_ROWS * _FEWEST_ROWS
    n_block = max(_FEWEST_ROWS, min(_MOST_ROWS, of_bytes))
    block = torch.zeros(n_block, width, dtype=torch.float64, device=x.device)
    found = torch.empty(len(x), dtype=torch.float32, device=x.device)
    for start in range(0, len(x), n_block):
        given = x[start : start + n_block]
        block[: len(given), : x.shape[1]] = given
        outputs = block
        for i, (weight, bias) in enumerate(placed):
            outputs = torch.mm(widened(outputs.relu() if i else outputs), weight.t()) + bias
        found[start : start + n_block] = outputs[: len(given), 0]
    return found.masked_fill_(~found.isfinite(), torch.nan)


def _placed(layer: Layer, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weight and bias for products of blocks, with outputs of 0 if there are too few."""
    missing = max(0, _FEWEST_OUTPUTS - len(layer.weight))
    weight, bias = pad(layer.weight, (0, 0, 0, missing)), pad(layer.bias, (0, missing))
    return widened(weight.to(device, torch.float64)), bias.to(device)
