"""Seeded noise on the scores: batches that are drawn at random, better rows more likely.

Each row has its own Gumbel variable g. The k rows with the largest keys are k draws without
replacement, each in proportion to the weights of the rows that are left:

    power     beta log s + g   weight s^beta: for scores that are 0 or more, 0 = worth nothing
    softmax   beta s + g       weight e^(beta s)
    softrank  g − beta log r   weight r^(−beta), r the row's rank, 1 = best

Source: Kirsch et al., Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning
(TMLR, 2023), section 3. The paper adds g / beta, which gives the same order.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.argument_values import NOISES as NOISES
from fastal.base.checks import check_choice, checked_beta, checked_seed
from fastal.base.row_numbers import RowNumbers
from fastal.base.row_random import uniform
from fastal.selection.topk import TopK

_BLOCK = 1 << 16  # rows at once: bounds the memory beside the keys


def check_noise(noise: str | None, by: object) -> None:
    """ValueError if there is noise on random scores: both would use the seed."""
    if noise is not None and isinstance(by, str) and by == "random":
        raise ValueError(f"noise: wanted None with by='random', got {noise!r}")


class Noise:
    """Gumbel noise that is a function of seed and row number, so chunks do not change it.

    It uses NumPy's logarithm, whose last bit may differ between processors.

    Args:
        name: "power", "softmax", "softrank" or None, for none.
        seed: an integer from 0 to 2^64 - 1.
        beta: the weight of the scores against the noise, finite and above 0.

    Raises:
        ValueError, TypeError: a bad argument, named.
    """

    def __init__(self, name: str | None, seed: int = 0, beta: float = 1.0) -> None:
        if name is not None:
            check_choice("noise", name, NOISES, " or None")
        self.name = name
        self.seed = checked_seed(seed)
        self.beta = checked_beta(beta)

    @property
    def on_rows(self) -> bool:
        """Whether there is noise for each row, as there is with power and softmax."""
        return self.name in ("power", "softmax")

    def identity(self) -> dict[str, Any]:
        """The arguments that change the keys, by name, as plain values; none without noise."""
        if self.name is None:
            return {}
        return {"noise": self.name, "seed": self.seed, "beta": self.beta}

    def keys(self, scores: Tensor, numbers: RowNumbers) -> Tensor:
        """The keys that order rows; the scores if rows have no noise.

        Args:
            scores: [n] float32, larger = more worth labelling.
            numbers: the row numbers of the n rows.

        Returns:
            [n] float32 on the scores' device, from keys in float64. NaN stays NaN; with power,
            score 0 has key -inf.

        Raises:
            ValueError: power, and a score below 0; it names the row.
        """
        if not self.on_rows:
            return scores
        keys = np.empty(len(scores), np.float32)
        for first in range(0, len(scores), _BLOCK):
            block = scores[first : first + _BLOCK].cpu().numpy().astype(np.float64)
            of_block = numbers.part(first, first + _BLOCK)
            noise = gumbel(self.seed, of_block)
            with np.errstate(over="ignore"):  # to infinity, as is right
                keys[first : first + _BLOCK] = self._weighed(block, of_block) + noise
        return torch.from_numpy(keys).to(scores.device)

    def ranks(self, k: int, n: int) -> NDArray[np.int64]:
        """The ranks that softrank draws of n, [min(k, n)], the largest key first; O(k) memory.

        The noise is that of the rank, with rank 1 in the place of row 0: it knows nothing of the
        scores, so the draws are distributed as with noise of the row.
        """
        top = TopK(k)
        for first in range(0, n, _BLOCK):
            size = min(_BLOCK, n - first)
            of_block = RowNumbers(size, first)
            weights = -self.beta * np.log(np.arange(first + 1, first + size + 1, dtype=np.float64))
            with np.errstate(over="ignore"):
                keys = (weights + gumbel(self.seed, of_block)).astype(np.float32)
            top.update(torch.from_numpy(keys), of_block)
        places, _ = top.best()
        return places + 1

    def _weighed(self, scores: NDArray[np.float64], numbers: RowNumbers) -> NDArray[np.float64]:
        if self.name == "softmax":
            return self.beta * scores
        negative = np.flatnonzero(scores < 0)
        if len(negative):
            raise ValueError(
                f"by: noise 'power' wants scores of 0 or more, row {numbers.at(negative[:1])[0]} "
                f"has {scores[negative[0]]:g}; 'softmax' and 'softrank' take any"
            )
        with np.errstate(divide="ignore"):  # log 0 = -inf, as is right
            return self.beta * np.log(scores)


def gumbel(seed: int, numbers: RowNumbers) -> NDArray[np.float64]:
    """Standard Gumbel variables of n rows, [n], each a function of its row number."""
    return np.asarray(-np.log(-np.log(uniform(seed, numbers))))
