"""What a report shows of a pool of predictions, from one read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.argument_values import CLASS_KINDS, UNCERTAINTY_SCORES
from fastal.base.checks import check_choice
from fastal.base.reducer import Pending, RowStart
from fastal.report.page.distribution import BINS, Distribution
from fastal.scoring.measure_for import uncertainty_of
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

STEPS = 24  # cells of a map along an axis


@dataclass(frozen=True)
class PoolSummary:
    """A pool of predictions.

    Attributes:
        distributions: of each uncertainty score.
        n_classes: the number of classes; 0 if the pool has no rows.
        cells: how many rows are in each cell of the map of probabilities: for three classes
            [STEPS, STEPS, 2], of the first two probabilities and the two triangles of a cell; else
            [STEPS, STEPS], of the two largest probabilities, the second from 0 to 1/2.
        of_picks: [k, 3] or [k, 2], these probabilities for the rows of all picks.
    """

    distributions: list[Distribution]
    n_classes: int
    cells: NDArray[np.int64]
    of_picks: NDArray[np.float32]


class PoolSummarizer(ScoringReducer[PoolSummary]):
    """Counts the scores and the probabilities of a pool; memory is O(k + chunk).

    Args:
        kind: what the pool holds, one of `CLASS_KINDS`.
        temperature: logits are divided by it.
        rows: [k], the row numbers of all picks.

    Raises:
        ValueError: the kind or the temperature is none.
    """

    reads_gaps = False

    def __init__(self, kind: str, temperature: float, rows: NDArray[np.int64]) -> None:
        check_choice("kind", kind, CLASS_KINDS)
        self._output = ModelOutput(kind, temperature)
        measure = uncertainty_of(UNCERTAINTY_SCORES, self._output)
        super().__init__(measure, ScoringOptions("skip"))
        self._rows = rows
        self._order = np.argsort(rows, kind="stable")
        self._ascending = rows[self._order]
        self._counts = np.zeros((len(UNCERTAINTY_SCORES), BINS), np.int64)
        self._cells = np.zeros(0, np.int64)
        self._n_classes = 0
        # The scores and the probabilities of the picks, in the order of their rows.
        self._of_picks = np.full((len(rows), len(UNCERTAINTY_SCORES) + 3), np.nan, np.float32)

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Counts the rows of a chunk; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        columns, n_invalid = self._scorer.scores(rows)
        scores = torch.stack(columns)
        n_classes = int(rows.x.shape[1])
        p = self._three(rows) if n_classes == 3 else _two(scores, n_classes)
        is_valid = ~scores[0].isnan()
        counts = np.stack([_counted((of[is_valid] * BINS).long(), BINS) for of in scores])
        cells = _counted(_cell(p[is_valid]), 2 * STEPS**2 if n_classes == 3 else STEPS**2)
        first, last = np.searchsorted(self._ascending, [rows.start, rows.numbers.stop])
        places = torch.from_numpy(self._ascending[first:last] - rows.start).to(scores.device)
        of_picks = torch.cat([scores.T[places], p[places]], 1).cpu().numpy()

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: columns[0])
            self._counts += counts
            self._cells = self._cells + cells if len(self._cells) else cells
            self._of_picks[first:last, : of_picks.shape[1]] = of_picks
            self._n_classes = n_classes

        return Pending(commit)

    def result(self) -> PoolSummary:
        """The counts of the rows so far.

        Raises:
            ValueError: a row is picked that the pool does not have.
        """
        n_rows = self._scorer.next_row
        if len(self._rows) and self._ascending[-1] >= n_rows:
            raise ValueError(
                f"pool: row {self._ascending[-1]} is picked, and the pool has {n_rows:,} rows"
            )
        of_picks = np.empty_like(self._of_picks)
        of_picks[self._order] = self._of_picks
        n_scores = len(UNCERTAINTY_SCORES)
        is_triple = self._n_classes == 3
        return PoolSummary(
            [
                Distribution(name, 0.0, 1.0, self._counts[i], self.invalid, of_picks[:, i])
                for i, name in enumerate(UNCERTAINTY_SCORES)
            ],
            self._n_classes,
            self._cells.reshape(-1, STEPS, 2) if is_triple else self._cells.reshape(-1, STEPS),
            of_picks[:, n_scores : n_scores + (3 if is_triple else 2)],
        )

    def identity(self) -> dict[str, Any]:
        """The kind, the temperature, and the rows of the picks."""
        return {**super().identity(), "rows": self._rows.tolist()}

    def _state(self) -> dict[str, Any]:
        return {
            **super()._state(),
            "counts": self._counts.copy(),
            "cells": self._cells.copy(),
            "of_picks": self._of_picks.copy(),
            "n_classes": self._n_classes,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._counts, self._cells = state["counts"].copy(), state["cells"].copy()
        self._of_picks, self._n_classes = state["of_picks"].copy(), state["n_classes"]

    def _three(self, rows: Rows) -> Tensor:
        """The probabilities of three classes, [n, 3]."""
        x = rows.x.float()
        if self._output.kind == "probs":
            return x / x.sum(1, keepdim=True)
        return torch.softmax(x / self._output.temperature, 1)


def _two(scores: Tensor, n_classes: int) -> Tensor:
    """The two largest probabilities, [n, 2], from least confidence and ratio [4, n]."""
    largest = 1 - scores[0] * (n_classes - 1) / n_classes
    return torch.stack([largest, largest * scores[2]], 1)


def _cell(p: Tensor) -> Tensor:
    """The number of the cell of the map of each row."""
    # A probability of 1, or a sum that rounding puts above 1, belongs to the last cell.
    scaled = p * (STEPS * (1 - 1e-6))
    if p.shape[1] == 3:
        cell = scaled[:, :2].long()
        is_upper = (scaled[:, :2] - cell).sum(1) >= 1
        return (cell[:, 0] * STEPS + cell[:, 1]) * 2 + is_upper
    return scaled[:, 0].long() * STEPS + (2 * scaled[:, 1]).long()


def _counted(numbers: Tensor, n: int) -> NDArray[np.int64]:
    """How often each number from 0 to n - 1 comes up, [n]. Larger ones count as n - 1."""
    return torch.bincount(numbers.clamp(0, n - 1), minlength=n).cpu().numpy()
