"""The four uncertainty scores of hidden states, through a linear head, as a measure."""

import copy
import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fastal import ops
from fastal.base.arrays import as_tensor, converter_for
from fastal.base.checks import check_choice, check_matrix
from fastal.base.errors import WrongWidth
from fastal.base.items import Items
from fastal.ops.formulas import UNCERTAINTY_SCORES, Scores
from fastal.scoring.by_items import INVALID_ITEM
from fastal.scoring.measure import Measure
from fastal.scoring.model_output import ModelOutput
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
    memory: at most 34 MiB of logits on a CPU, 256 MiB on a GPU. `fastal.score` defines the scores.
    `fastal.select` and `fastal.Selector` take the measure as `by`; `score` returns all four scores.
    Items of several hidden states, such as the tokens of a sentence, take `aggregate` as well.

    A row is invalid if it has NaN or an infinite value, or if its logits have NaN, +inf or no
    finite value. Such rows of items do not count.

    Args:
        weight: [C, H] array of C >= 2 classes, finite, such as `linear.weight`; float16, bfloat16
            or float32, of any library, on any device. It must not change while the measure is used:
            it is not copied, if its rows are contiguous and it is where the hidden states are.
        bias: [C] array of the same dtypes, such as `linear.bias`; −inf excludes a class. None: 0.
        by: "least_confidence", "margin", "ratio" or "entropy"; or several of these, for reducers
            that take several scores from one read.
        temperature: what logits are divided by, from 1e-6 to 1e6.

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
        array([0.053, 1.   , 0.32 ], dtype=float32)
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
        if not isinstance(by, (str, Sequence)):
            raise TypeError(f"by: wanted a name or a sequence of names, got {by!r}")
        self.names = (by,) if isinstance(by, str) else tuple(by)
        for name in self.names:
            check_choice("by", name, UNCERTAINTY_SCORES)
        if not self.names:
            raise ValueError("by: wanted at least one score, got none")
        self._weight = _checked_weight(weight)
        self._bias = None if bias is None else _checked_bias(bias, len(self._weight))
        self._temperature = ModelOutput(temperature=temperature).temperature
        self._aggregate: str | int = ""
        self._placed = self._weight, self._bias

    def for_output(self, output: ModelOutput) -> "Head":
        """The head for items, if `aggregate` is given; see `Measure.for_output`."""
        if output.temperature != 1:
            raise ValueError("temperature: give it to Head, fastal.Head(weight, temperature=...)")
        if output.kind != "logits":
            raise ValueError(
                f"kind: got {output.kind!r}, and Head makes logits of hidden states; wanted the "
                "default"
            )
        replace(output, aggregate=None).check_unused("Head")
        return self if output.aggregate is None else self._aggregating(output.aggregation)

    def _aggregating(self, aggregate: str | int) -> "Head":
        of_items = copy.copy(self)
        of_items._aggregate = aggregate
        of_items.invalid = INVALID_ITEM
        of_items.rows_alike = False
        return of_items

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x is [n, H], of items [n, ..., H], of a fitting dtype."""
        if not self._aggregate:
            check_matrix(x, self.kind, self.columns)
        elif x.ndim < 3:
            raise ValueError(
                f"{self.kind}: wanted [items, rows, columns], got shape {tuple(x.shape)}"
            )
        self._check_values(x)

    def check_items(self, x: Tensor, items: Items) -> None:
        """ValueError or TypeError unless the values x are hidden states of items."""
        if not self._aggregate:
            raise ValueError(
                f"{self.kind}: got items of several rows; wanted aggregate as well, such as "
                "aggregate='mean'"
            )
        if items.offsets is None:
            self.check(x)
            return
        check_matrix(x, self.kind, self.columns)
        self._check_values(x)

    def _check_values(self, x: Tensor) -> None:
        _check_dtype(x, self.kind)
        if x.shape[-1] != self._weight.shape[1]:
            raise WrongWidth("weight", self._weight.shape[1], x.shape[-1], "hidden states")

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores in the order of the names, each in [0, 1], 1 = most uncertain."""
        x, backend = rows.x, rows.backend
        weight, bias = self._on(ops.device_for(x) if backend == "triton" else x.device)
        head = weight, bias, self._temperature, self.names
        if not self._aggregate:
            return ops.head_scores(x, *head, backend=backend)
        offsets, mask = rows.of_items(x.shape[:-1])
        return ops.head_item_scores(
            x if offsets is not None else x.flatten(1, -2), *head, aggregate=self._aggregate,
            offsets=offsets, mask=mask, backend=backend,
        )  # fmt: skip

    def score(
        self,
        hidden: Any,
        *,
        aggregate: str | None = None,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> Scores:
        """All four uncertainty scores of every row, from one product.

        Args:
            hidden: [N, H] array; float16, bfloat16 or float32; any strides, any device; torch,
                NumPy or another DLPack producer. With `aggregate`, items: an array [N, ..., H], or
                `fastal.items`.
            aggregate: how the scores of an item's rows become one, see `fastal.score`.
            on_invalid: "raise", or "skip" to give invalid rows NaN and log their count.
            backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.

        Returns:
            Scores of four [N] float32 arrays of the kind of `hidden`, each in [0, 1], 1 = most
            uncertain; a sum has no upper bound.

        Raises:
            InvalidRows: with on_invalid="raise"; it names the first invalid rows and their count.
            ValueError, TypeError: a bad argument; the message names it.

        Example:
            >>> import fastal, numpy as np
            >>> head = fastal.Head(np.eye(2, dtype=np.float32), temperature=2)
            >>> head.score(np.array([[2, 0], [1, 1]], np.float32)).entropy.round(3)
            array([0.84, 1.  ], dtype=float32)
        """
        of_all = copy.copy(self.for_output(ModelOutput(aggregate=aggregate)))
        of_all.names = UNCERTAINTY_SCORES
        scorer = Scorer(of_all, ScoringOptions(on_invalid, backend))
        scores = scorer.score(hidden)
        if scorer.invalid:
            _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, len(scores[0]))
        given = hidden.values if isinstance(hidden, Items) else hidden
        return Scores(*map(converter_for(given), scores))

    def identity(self) -> dict[str, Any]:
        """The names of the scores, what makes one of several, the head's shape and digest."""
        return {
            "head": list(self._weight.shape),
            "digest": self._digest,
            "temperature": self._temperature,
            "scores": list(self.names),
            "aggregate": self._aggregate,
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
