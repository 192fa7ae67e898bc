"""Rows of a pool, checked and ready to be scored."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_tensor
from fastal.base.items import Items
from fastal.base.row_filter import RowFilter
from fastal.base.row_numbers import RowNumbers


@dataclass(frozen=True)
class Rows:
    """Rows of a pool that a measure accepted.

    Attributes:
        x: the rows as a tensor [n, ...]; of items, their values.
        numbers: their row numbers.
        backend: what computes the scores: a name that `Measure.choose` returned.
        given: the rows as the caller gave them.
        row_filter: which rows may be picked; None: all.
        items: the items of several rows, of which each is a row of the pool; None: rows are rows.
    """

    x: Tensor
    numbers: RowNumbers
    backend: str
    given: Any
    row_filter: RowFilter | None = None
    items: Items | None = None

    @property
    def start(self) -> int:
        """The row number of the first row."""
        return self.numbers.start

    @property
    def are_first(self) -> bool:
        """Whether no row before these may be picked."""
        if self.row_filter is None or not self.row_filter.are_read:
            return self.start == 0
        return not self.row_filter.n_left(self.start)

    @cached_property
    def kept(self) -> NDArray[np.bool_] | None:
        """Which rows the filter does not pass over, [n]; None: all."""
        return None if self.row_filter is None else self.row_filter.kept(self.numbers)

    @cached_property
    def left_out(self) -> Tensor | None:
        """Which rows the filter passes over, [n] bool on the rows' device; None: no row."""
        return None if self.kept is None else torch.from_numpy(~self.kept).to(self.x.device)

    def without_left_out(self, column: Tensor, value: float = torch.nan) -> Tensor:
        """A column [n], with a value in the place of the rows that the filter passes over."""
        if self.left_out is None:
            return column
        return column.masked_fill(self.left_out.to(column.device), value)

    def invalid(self, scores: Tensor) -> Tensor:
        """Which rows are invalid, [n] bool: their scores [n] are NaN, and they are not left out."""
        is_nan = scores.isnan()
        return is_nan if self.left_out is None else is_nan & ~self.left_out.to(is_nan.device)

    def of_items(self, shape: tuple[int, ...]) -> tuple[Tensor | None, Tensor | None]:
        """The offsets and the mask of the items, on the rows' device; see `Items`.

        Args:
            shape: of the rows of the items, without their values.

        Raises:
            ValueError: the mask has another shape.
        """
        items, device = self.items, self.x.device
        if items is None:
            return None, None
        offsets = None if items.offsets is None else as_tensor(items.offsets, "offsets").to(device)
        if items.mask is None:
            return offsets, None
        mask = as_tensor(items.mask, "mask").to(device)
        if mask.shape != shape:
            raise ValueError(
                f"mask: wanted a bool for each row, {tuple(shape)}, got {tuple(mask.shape)}"
            )
        return offsets, mask.contiguous()

    def part(self, first: int, stop: int) -> "Rows":
        """The rows from place `first` to place `stop` - 1."""
        numbers = self.numbers.part(first, stop)
        return Rows(self.x[first:stop], numbers, self.backend, self.given, self.row_filter)
