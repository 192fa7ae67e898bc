"""The four uncertainty scores of hidden states, through a linear head, as a measure."""

import copy
import hashlib
import logging
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fastal import ops
from fastal.base.arrays import as_tensor, converter_for
from fastal.base.checks import check_choice, check_matrix, checked_number
from fastal.base.errors import WrongWidth
from fastal.ops.formulas import UNCERTAINTY_SCORES, Scores
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scorer import Scorer
from fastal.scoring.scoring_options import ScoringOptions

_log = logging.getLogger("fastal")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_DIGEST_BYTES = 1 << 24  # of a weight that are on the host at once, if it is on a GPU


class Head(Measure):
    """A measure: the uncertainty of hidden states, through the last linear layer of a model.

    Logits are (hidden @ weight.T + bias) / temperature, with sums in float32. They are computed for
    a block of rows at a time and scored at once, so that the logits of all rows are never in
    memory: 32 MiB of logits on a CPU, 256 MiB on a GPU. `fastal.score` defines the scores.
    `fastal.select` and `fastal.Selector` take the measure as `by`; `score` returns all four scores.

    A row is invalid if it has NaN or an infinite value, or if its logits have NaN, +inf or no
    finite value.

    Args:
        weight: [C, H] array of C >= 2 classes, finite, such as `linear.weight`; float16, bfloat16
            or float32, of any library, on any device. It must not change while the measure is used:
            it is not copied, if its rows are contiguous and it is where the hidden states are.
        bias: [C] array of the same dtypes, such as `linear.bias`; −inf excludes a class. None: 0.
        by: "least_confidence", "margin", "ratio" or "entropy"; or several of these, for reducers
            that take several scores from one read.
        temperature: what logits are divided by, finite and above 0.

    Raises:
        ValueError, TypeError: a bad argument; the message names it, what came and what was wanted.
            Of rows: hidden states [n, H] of float16, bfloat16 or float32 are wanted.

    Source: Munro, Human-in-the-Loop Machine Learning, section 3.2.

    Example:
        >>> import fastal, numpy as np
        >>> hidden = np.array([[4, 0], [1, 1], [0, 2]], np.float32)
        >>> head = fastal.Head(np.eye(3, 2, dtype=np.float32), np.zeros(3, np.float32))
        >>> fastal.select(hidden, k=2, by=head).rows
        array([1, 2])
        >>> head.score(hidden).margin.round(3)
        array([0.053, 1.   , 0.319], dtype=float32)
    """

    kind = "hidden"
    invalid = "has NaN or an infinite value, or logits with NaN, +inf or no finite value"
    offers = ("triton", "native", "torch")
    of_classes = False

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        *,
        by: str | Sequence[str] = "margin",
        temperature: float = 1.0,
    ) -> None:
        self.names = (by,) if isinstance(by, str) else tuple(by)
        for name in self.names:
            check_choice("by", name, UNCERTAINTY_SCORES)
        if not self.names:
            raise ValueError("by: wanted at least one score, got none")
        self._weight = _checked_weight(weight)
        self._bias = None if bias is None else _checked_bias(bias, len(self._weight))
        self._temperature = checked_number("temperature", temperature)
        if not 0 < self._temperature < math.inf:
            raise ValueError(f"temperature: wanted a finite number above 0, got {temperature}")
        self._placed = self._weight, self._bias

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x is [n, H], of a dtype that the head takes."""
        check_matrix(x, self.kind, self.columns)
        _check_dtype(x, self.kind)
        if x.shape[1] != self._weight.shape[1]:
            raise WrongWidth("weight", self._weight.shape[1], x.shape[1], "hidden states")

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores in the order of the names, each in [0, 1], 1 = most uncertain."""
        weight, bias = self._on(
            ops.device_for(rows.x) if rows.backend == "triton" else rows.x.device
        )
        return ops.head_scores(
            rows.x, weight, bias, self._temperature, self.names, backend=rows.backend
        )

    def score(self, hidden: Any, *, on_invalid: str = "raise", backend: str = "auto") -> Scores:
        """All four uncertainty scores of every row, from one product.

        Args:
            hidden: [N, H] array; float16, bfloat16 or float32; any strides, any device; torch,
                NumPy or another DLPack producer.
            on_invalid: "raise", or "skip" to give invalid rows NaN and log their count.
            backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.

        Returns:
            Scores of four [N] float32 arrays of the kind of `hidden`, each in [0, 1], 1 = most
            uncertain.

        Raises:
            InvalidRows: with on_invalid="raise"; it names the first invalid rows and their count.
            ValueError, TypeError: a bad argument; the message names it.

        Example:
            >>> import fastal, numpy as np
            >>> head = fastal.Head(np.eye(2, dtype=np.float32), temperature=2)
            >>> head.score(np.array([[2, 0], [1, 1]], np.float32)).entropy.round(3)
            array([0.84, 1.  ], dtype=float32)
        """
        of_all = copy.copy(self)
        of_all.names = UNCERTAINTY_SCORES
        scorer = Scorer(of_all, ScoringOptions(on_invalid, backend))
        scores = scorer.score(hidden)
        if scorer.invalid:
            _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, len(scores[0]))
        return Scores(*map(converter_for(hidden), scores))

    def identity(self) -> dict[str, Any]:
        """The names of the scores, the shape, the temperature and a digest of weight and bias."""
        return {
            "head": list(self._weight.shape),
            "digest": self._digest,
            "temperature": self._temperature,
            "scores": list(self.names),
        }

    @property
    def strategy(self) -> str:
        """The names of its scores."""
        return ", ".join(self.names)

    @cached_property
    def _digest(self) -> str:
        found = hashlib.sha256()
        for x in (self._weight, self._bias):
            if x is None:
                continue
            found.update(f"{x.dtype}{tuple(x.shape)}".encode())
            values = x.view(-1).view(torch.uint8)
            for first in range(0, len(values), _DIGEST_BYTES):
                found.update(values[first : first + _DIGEST_BYTES].cpu().numpy().data)
        return found.hexdigest()[:32]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Weight and bias on a device. The last copies are kept for the next chunk."""
        weight, bias = self._placed
        if weight.device != device:
            bias = None if self._bias is None else self._bias.to(device)
            self._placed = weight, bias = self._weight.to(device), bias
        return weight, bias


def _checked_weight(weight: Any) -> Tensor:
    x = as_tensor(weight, "weight")
    check_matrix(x, "weight")
    _check_dtype(x, "weight")
    if len(x) < 2:
        raise ValueError(f"weight: wanted at least 2 classes [C, H], got shape {tuple(x.shape)}")
    least, most = x.aminmax()
    if not math.isfinite(float(least)) or not math.isfinite(float(most)):
        raise ValueError("weight: wanted finite values, got NaN or an infinite value")
    return x.contiguous()


def _checked_bias(bias: Any, n_classes: int) -> Tensor:
    """The bias as float32, a copy."""
    x = as_tensor(bias, "bias")
    if x.shape != (n_classes,):
        raise ValueError(
            f"bias: wanted shape ({n_classes},), a value for each row of weight, got shape "
            f"{tuple(x.shape)}"
        )
    _check_dtype(x, "bias")
    most = float(x.amax())  # NaN if there is one
    if not -math.inf < most < math.inf:
        raise ValueError("bias: wanted finite values or -inf, got NaN, +inf or no finite value")
    return x.to(torch.float32, copy=True)


def _check_dtype(x: Tensor, name: str) -> None:
    """TypeError unless `x`, of the argument `name`, has a dtype that products are made of."""
    if x.dtype not in _DTYPES:
        raise TypeError(f"{name}: wanted float16, bfloat16 or float32, got {x.dtype}")
