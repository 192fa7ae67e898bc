"""A small neural network that classifies digits. Its hidden layer gives their embeddings."""

import numpy as np
import torch
from torch import nn

from fastal.report.demo.digits import Array

_STEPS = 100  # enough to fit the labelled rows


class Network:
    """A network of layers 64-48-24-10. Training takes a quarter of a second on a CPU.

    Args:
        x: pixels [N, 64].
        y: the digits.
        seed: of the initial weights. The same seed gives the same network.
    """

    def __init__(self, x: Array, y: Array, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._hidden = nn.Sequential(_linear(64, 48), nn.ReLU(), _linear(48, 24), nn.ReLU())
            self._head = _linear(24, 10)
        model = nn.Sequential(self._hidden, self._head)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4, fused=True)
        pixels, digits = _tensor(x), torch.from_numpy(y)
        for _ in range(_STEPS):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(pixels), digits))
            optimizer.step()

    @torch.no_grad()
    def embeddings(self, x: Array) -> Array:
        """The activations of the hidden layer before the last, [N, 24] float32."""
        found: Array = self._hidden(_tensor(x)).numpy()
        return found

    @torch.no_grad()
    def predictions(self, x: Array) -> Array:
        """The predicted digits, [N]."""
        found: Array = self._head(self._hidden(_tensor(x))).argmax(1).numpy()
        return found


def _linear(n_in: int, n_out: int) -> nn.Linear:
    return nn.Linear(n_in, n_out, device="cpu", dtype=torch.float32)


def _tensor(x: Array) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float32))
