"""Applies a measure to chunks: checks them, scores them, counts invalid rows."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.arrays import as_tensor, converter_for
from fastal.base.checks import check_same
from fastal.base.errors import NAMED_ROWS, InvalidRows
from fastal.base.items import Items
from fastal.base.memory_guard import guarded_arrays
from fastal.base.reducer import RowStart
from fastal.base.row_filter import RowFilter
from fastal.base.row_numbers import row_numbers
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions

_log = logging.getLogger("fastal")
Op = Callable[[Rows], tuple[list[Tensor], int]]
_DESCRIBED_ROWS = 64  # invalid rows from whose values a message says what they are


class Scorer:
    """Applies a measure to chunks of a pool: what every reducer over scores does first.

    Args:
        measure: scores the rows.
        options: what to do with invalid rows, and the backend.

    Attributes:
        invalid: how many rows were invalid so far.
        next_row: the row after the last chunk.
        backend_used: the backend that scored the last chunk, "callable" for a callable.
        to_caller_kind: turns tensors into arrays of the kind of the last chunk; NumPy before it.
    """

    def __init__(self, measure: Measure, options: ScoringOptions) -> None:
        self.measure = measure
        self.options = options
        self.invalid = 0
        self.next_row = 0
        self.backend_used: str | None = None
        self.to_caller_kind: Callable[[Tensor], Any] = converter_for(np.empty(0))
        self._row_shape: tuple[int, ...] | None = None
        self._has_examined = False

    def prepare(self, chunk: Any, start: RowStart, row_filter: RowFilter | None = None) -> Rows:
        """A chunk as rows to score.

        Args:
            chunk: an array [n, ...].
            start: the row number of its first row, or those of all its rows; None: the row after
                the last chunk.
            row_filter: which rows may be picked; None: all.

        Raises:
            TypeError, ValueError: the measure cannot score it, or its rows differ in shape from
                those of the last chunk.
        """
        measure = self.measure
        items = chunk if isinstance(chunk, Items) else None
        given = chunk if items is None else items.values
        x = as_tensor(given, measure.kind)
        if x.ndim == 0:
            raise ValueError(f"{measure.kind}: wanted rows, got a single number")
        n = len(x) if items is None else len(items)
        numbers = row_numbers(self.next_row if start is None else start, n)
        self._check_row_shape(x, numbers.start)
        if items is None:
            measure.check(x)
        else:
            measure.check_items(x, items)
        backend = measure.choose(x, self.options.backend)
        return Rows(x, numbers, backend, given, row_filter, items)

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores of the rows by each name of the measure, and how many rows are invalid.

        Rows that a filter passes over have NaN and are not counted.

        Raises:
            ValueError: the measure did not return one float32 score for each row.
        """
        scores, n_invalid = self.measure.scores(rows)
        for column in scores:
            if column.shape != (len(rows.numbers),) or column.dtype != torch.float32:
                raise ValueError(
                    f"by: {type(self.measure).__name__} returned {column.dtype} "
                    f"{tuple(column.shape)} for a chunk of shape {tuple(rows.x.shape)}; wanted one "
                    "float32 score per row"
                )
        if rows.left_out is not None and n_invalid:
            n_invalid = int(rows.invalid(scores[0]).count_nonzero())
        return [rows.without_left_out(column.detach()) for column in scores], n_invalid

    def score(
        self, x: Any, op: Op | None = None, named: Callable[[Rows], Tensor] | None = None
    ) -> list[Tensor]:
        """The scores of an array in memory, counted.

        Args:
            x: an array [n, ...].
            op: returns tensors and the number of invalid rows, which have NaN in the first tensor;
                None: the measure's scores.
            named: returns [n], NaN for invalid rows, if they have to be named; None: the first of
                the tensors does.

        Raises:
            InvalidRows, TypeError, ValueError: as `prepare` and `record`.
            OSError: `x` is a mapped file that was cut short.
        """
        with guarded_arrays(x) as guards:
            try:
                rows = self.prepare(x, 0)
                found, n_invalid = self.scores(rows) if op is None else op(rows)
            except (TypeError, ValueError):
                guards.check()
                raise
            guards.check()
            of_rows = named or (lambda _: found[0] if found[0].ndim == 1 else found[0][:, 0])
            self.record(rows, n_invalid, lambda: of_rows(rows))
        return found

    def record(self, rows: Rows, n_invalid: int, scores: Callable[[], Tensor]) -> None:
        """Counts the rows of a chunk that is to be committed.

        Args:
            rows: the chunk.
            n_invalid: how many of its rows are invalid.
            scores: returns [n], NaN for invalid rows; called only if rows have to be named.

        Raises:
            InvalidRows: with on_invalid="raise"; nothing is counted then.
        """
        if n_invalid and self.options.on_invalid == "raise":
            raise self._invalid_rows(rows, n_invalid, rows.invalid(scores()))
        if not self._has_examined and len(rows.numbers) and rows.are_first:
            self._has_examined = True
            suspicion = self.measure.suspect(rows.x, n_invalid)
            if suspicion:
                _log.warning("%s", suspicion)
        self.invalid += n_invalid
        self.backend_used = rows.backend
        self.to_caller_kind = converter_for(rows.given)
        self._row_shape = self.measure.shape_of_rows(rows.x)
        self.next_row = rows.numbers.stop

    def _invalid_rows(self, rows: Rows, n_invalid: int, is_invalid: Tensor) -> InvalidRows:
        invalid = is_invalid.nonzero()[:, 0]
        found = ""
        if (
            2 * len(invalid) > len(rows.x) and rows.items is None
        ):  # most of the chunk: it may be of another kind
            some = invalid[:_DESCRIBED_ROWS].to(rows.x.device)
            found = self.measure.describe_invalid(rows.x[some])
        named = rows.numbers.at(invalid[:NAMED_ROWS].cpu().numpy()).tolist()
        span = rows.numbers.start, rows.numbers.stop
        n_read = len(rows.numbers) if rows.kept is None else int(rows.kept.sum())
        return InvalidRows(named, n_invalid, span, self.measure.invalid, looks=found, n_rows=n_read)

    def _check_row_shape(self, x: Tensor, start: int) -> None:
        shape, before = self.measure.shape_of_rows(x), self._row_shape
        if shape is None or before is None or len(before) != len(shape):
            return  # rows with another number of axes are refused by the measure
        if shape != before:
            raise ValueError(
                f"{self.measure.kind}: rows from {start} on have {self._described(shape)}, "
                f"the rows before them {self._described(before)}"
            )

    def _described(self, row_shape: tuple[int, ...]) -> str:
        if len(row_shape) == 1:
            return f"{row_shape[0]} {self.measure.columns}"
        return f"shape {row_shape}"

    def part(self) -> "Scorer":
        """A scorer with the same measure that has read no rows of this pass."""
        part = Scorer(self.measure, self.options)
        part._has_examined = self._has_examined
        return part

    def merge(self, other: "Scorer") -> None:
        """Adds the counts of a scorer with the same measure.

        Raises:
            ValueError: its measure differs in a way that its identity does not show, or its rows
                have another shape.
        """
        check_same(self._class(), other._class(), "merge: the other")
        self.measure.check_mergeable(other.measure)
        if None not in (self._row_shape, other._row_shape):
            check_same(self._shape(), other._shape(), "merge: the other")
        if self.backend_used is None:
            self.to_caller_kind = other.to_caller_kind
            self.backend_used = other.backend_used
        self._row_shape = self._row_shape or other._row_shape
        self._has_examined = self._has_examined or bool(other.next_row)
        self.invalid += other.invalid
        self.next_row = max(self.next_row, other.next_row)

    def _class(self) -> dict[str, str]:
        return {"measure": type(self.measure).__qualname__}

    def _shape(self) -> dict[str, Any]:
        shape = self._row_shape
        return {"row_shape": None if shape is None else list(shape)}

    def identity(self) -> dict[str, Any]:
        """The measure and the kind of rows, as plain values."""
        return {"by": self.measure.identity(), "kind": self.measure.kind}

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        counts = {"invalid": self.invalid, "next_row": self.next_row}
        return {**self._class(), **self._shape(), **counts, "backend": self.backend_used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned; ValueError if rows had another shape."""
        shape, invalid, next_row = (state[name] for name in ("row_shape", "invalid", "next_row"))
        check_same(self._class(), {"measure": state["measure"]}, "the state")
        if None not in (self._row_shape, shape):
            check_same(self._shape(), {"row_shape": shape}, "the state")
        self._row_shape = None if shape is None else tuple(shape)
        self.invalid, self.next_row = invalid, next_row
        self.backend_used = state["backend"]
