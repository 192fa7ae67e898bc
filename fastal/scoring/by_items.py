"""Uncertainty scores of items of several rows, and of labels that are independent, as a measure."""

from typing import Any

import torch
from torch import Tensor

from fastal import ops
from fastal.base.argument_values import LABEL_KINDS
from fastal.base.checks import check_choice, check_dtype
from fastal.base.items import Items
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.scoring.kind_hints import describe, some_rows, suspected, suspected_labels
from fastal.scoring.measure import Measure
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.rows import Rows

INVALID_ITEM = "is an item of which no row counts: all are masked, padding (-100), or invalid"
_OF_LIST = (
    ". A list of arrays is a pool in chunks; for a list with one array {} for each item, give "
    "fastal.items(list)"
)
_ONE_CLASS = (
    ". If each value is a sigmoid's of a row, kind='multilabel_logits' or 'multilabel_probs' "
    "scores it as two classes"
)
_NO_LABEL = "has no label that counts: all are masked, NaN or +inf, or no probabilities"


class ItemScore(Measure):
    """One or several of the four uncertainty scores of items, from one read of their rows.

    A row of an item has one distribution over the classes: a token, a pixel, a box. Of labels that
    are independent, each label is a row.

    Args:
        names: of the scores, see `fastal.score`.
        output: what the rows are, and how their scores become one. Without `aggregate`, the scores
            are those of the rows.
    """

    offers = ("triton", "native", "torch")
    columns = "classes"

    def __init__(self, names: tuple[str, ...], output: ModelOutput) -> None:
        for name in names:
            check_choice("by", name, UNCERTAINTY_SCORES)
        self.names = names
        self.kind = output.kind
        self._output = output
        self._are_labels = output.kind in LABEL_KINDS
        self.invalid = _NO_LABEL if self._are_labels else INVALID_ITEM

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x is [n, ...] of items with equally many rows."""
        if self._are_labels:
            self._check_labels(x, 2)
            return
        if x.ndim < 3:
            raise ValueError(
                f"{self.kind}: wanted [items, rows, classes], got shape {tuple(x.shape)}"
                f"{_OF_LIST.format('[rows, classes]')}"
            )
        self._check_classes(x)
        if self._output.class_axis % x.ndim == 0:
            raise ValueError(
                f"class_axis: axis {self._output.class_axis} of {tuple(x.shape)} counts the items"
            )

    def check_items(self, x: Tensor, items: Items) -> None:
        """ValueError or TypeError unless the values x are of such items."""
        if items.offsets is None:
            self.check(x)
        elif self._are_labels:
            self._check_labels(x, 1)
            if x.ndim > 1:
                raise ValueError(
                    f"{self.kind}: wanted values [labels of all items], got shape {tuple(x.shape)}"
                )
        elif x.ndim != 2:
            raise ValueError(
                f"{self.kind}: wanted values [rows of all items, classes], got shape "
                f"{tuple(x.shape)}"
            )
        elif self._output.class_axis % x.ndim != 1:
            raise ValueError(
                f"class_axis: wanted 1, the axis of the classes of values {tuple(x.shape)}, got "
                f"{self._output.class_axis}"
            )
        else:
            self._check_classes(x)

    def shape_of_rows(self, x: Tensor) -> tuple[int, ...] | None:
        """The number of classes: items may differ in all else."""
        axis = self._output.class_axis
        return None if self._are_labels or not -x.ndim <= axis < x.ndim else (x.shape[axis],)

    def _check_labels(self, x: Tensor, least: int) -> None:
        check_dtype(x, self.kind)
        if x.ndim < least or 0 in x.shape[1:]:
            of_list = _OF_LIST.format("[labels]") if x.ndim == 1 else ""
            raise ValueError(
                f"{self.kind}: wanted [rows, labels], got shape {tuple(x.shape)}{of_list}"
            )

    def _check_classes(self, x: Tensor) -> None:
        check_dtype(x, self.kind)
        axis, shape = self._output.class_axis, tuple(x.shape)
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"class_axis: no axis {axis} in items of shape {shape}")
        if shape[axis] < 2:
            raise ValueError(
                f"{self.kind}: wanted at least 2 classes, got shape {shape}{_ONE_CLASS}"
            )

    def choose(self, x: Tensor, backend: str) -> str:
        """The backend; the Triton kernels have no labels."""
        return ops.choose(backend, x, self.offers[1:] if self._are_labels else self.offers)

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores in the order of the names, [n]; without `aggregate` those of the rows."""
        output, items = self._output, rows.items
        x, shape = self._in_rows(rows.x, items)
        offsets, mask = rows.of_items(shape)
        found, n_invalid = ops.item_scores(
            x, self.names, output.kind, aggregate=output.aggregation if output.aggregate else "",
            temperature=output.temperature, offsets=offsets, mask=mask, backend=rows.backend,
        )  # fmt: skip
        if not output.aggregate:
            found = [column.reshape(shape) for column in found]
        return found, n_invalid

    def _in_rows(self, x: Tensor, items: Items | None) -> tuple[Tensor, torch.Size]:
        """The rows as [n, T, C], or with offsets as [rows, C]; and the shape of the rows.

        For labels, C is missing. The result is a view if the axes of the rows are evenly spaced.
        """
        n_before = 1 if items is None or items.offsets is None else 0
        if self._are_labels:
            return x.flatten(n_before), x.shape
        x = x.movedim(self._output.class_axis, -1)
        return x.flatten(n_before, -2), x.shape[:-1]

    def identity(self) -> Any:
        """Its name, how the scores of rows become one, and the temperature."""
        return {
            "name": list(self.names),
            "aggregate": self._output.aggregate,
            "class_axis": self._output.class_axis,
            "temperature": self._output.temperature,
        }

    @property
    def strategy(self) -> str:
        """Its name, or several."""
        return ", ".join(self.names)

    def suspect(self, x: Tensor, n_invalid: int) -> str:  # noqa: ARG002
        """A warning where the first rows are of another kind."""
        if self._are_labels:
            return suspected_labels(some_rows(x[:, None] if x.ndim == 1 else x, -1), self.kind)
        return suspected(some_rows(x, self._output.class_axis), self.kind)

    def describe_invalid(self, x: Tensor) -> str:
        """What the rows of items are instead, by their values and sums."""
        if self._are_labels:
            return ""
        return describe(some_rows(x, self._output.class_axis), self.kind)
