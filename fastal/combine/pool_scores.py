"""A score of every row of a pool, held in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.blank_rows import Blank
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_values import RowValues
from fastal.combine.left_rows import check_number
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import in_numpy, run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.measure_for import By, measure_for
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.pick_warnings import warn_of_blank
from fastal.sources import Source


class AllScores(ScoringReducer[NDArray[np.float32]]):
    """Scores every row by a measure, and keeps the scores, 4 bytes per row.

    Args:
        measure: scores the rows.
        options: how the measure is applied.
    """

    def __init__(self, measure: Any, options: ScoringOptions) -> None:
        super().__init__(measure, options)
        self._held = RowValues(torch.nan, torch.float32)

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Scores rows; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        (scores,), n_invalid = self._scorer.scores(rows)
        self._held.reserve(rows.numbers.stop)

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: scores)
            self._held.write(rows.numbers, scores.cpu())

        return Pending(commit)

    def result(self) -> NDArray[np.float32]:
        """The scores of the rows so far, NaN for rows that are invalid or were not read."""
        self._held.trim()
        found: NDArray[np.float32] = self._held.values.numpy()
        return found

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "scores": self._held.values.numpy().copy()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        scores = state["scores"]
        super()._restore(state)
        self._held.load(torch.from_numpy(scores.copy()))

    @property
    def to_caller_kind(self) -> Callable[[Tensor], Any]:
        """Turns tensors into arrays of the kind of the last chunk."""
        return self._scorer.to_caller_kind


@dataclass(frozen=True)
class PoolScores:
    """A score of every row of a pool.

    Attributes:
        values: [N] float32, NaN for rows that are invalid or left out.
        invalid: how many rows are invalid.
        pool: the pool.
        to_caller_kind: turns tensors into arrays of the kind of the pool.
        blank: the scores of rows that hold nothing; None: such rows have none of their own.
    """

    values: NDArray[np.float32]
    invalid: int
    pool: Source
    to_caller_kind: Callable[[Tensor], Any]
    blank: Blank | None

    def chosen(
        self,
        k: int,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        strategy: str,
        *,
        invalid: int = 0,
        groups: NDArray[np.int64] | None = None,
    ) -> Picks:
        """Picks of these rows in this order, with warnings if they are too few or blank.

        Args:
            k: how many were wanted.
            rows: [n], their numbers.
            scores: [n], the scores of the picks.
            strategy: its name.
            invalid: how many more rows are invalid.
            groups: [n], the groups of the picks.
        """
        if self.blank is not None:
            warn_of_blank(rows, self.values[rows], self.blank, self.pool)
        check_number(k, len(rows))
        of_kind = (self.to_caller_kind(torch.from_numpy(x)) for x in (rows, scores))
        in_kind, of_rows = in_numpy(self.pool, *of_kind)
        return Picks(
            in_kind, of_rows, self.pool.ids(rows), self.invalid + invalid, groups, strategy,
            self.pool.carried(rows),
        )  # fmt: skip


def pool_scores(
    pool: Source,
    by: By,
    output: ModelOutput,
    options: ScoringOptions,
    run: RunOptions,
    n_rows: int,
) -> PoolScores:
    """The scores of all rows of a pool that `run` does not leave out, in one pass.

    Args:
        pool: the pool.
        by: as for `fastal.select`.
        output: what the pool holds.
        options: how rows are scored.
        run: how the pool is read.
        n_rows: how many rows the pool has.
    """
    reducer = AllScores(measure_for(by, output), options)
    values = run_on_pool(reducer, pool, run, lambda found, _: found)
    values = np.append(values, np.full(n_rows - len(values), np.nan, np.float32))
    return PoolScores(values, reducer.invalid, pool, reducer.to_caller_kind, reducer.blank)
