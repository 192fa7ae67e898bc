"""How typical rows are among others: how near their nearest neighbours are."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.reducer import Pending, RowStart
from fastal.diversity.centroids import FiniteRows
from fastal.ops.reference import in_row_threads, unit_rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_BLOCK_BYTES = 1 << 22  # of the distances that a thread computes at once


class UnitRows(ScoringReducer[Tensor]):
    """Gathers some rows of a pool, each scaled to length 1.

    Args:
        numbers: [m] int64, the numbers of the rows, ascending.
        width: how many columns the rows have.
        options: how invalid rows are treated. The backend is always "torch".
    """

    def __init__(self, numbers: NDArray[np.int64], width: int, options: ScoringOptions) -> None:
        super().__init__(FiniteRows(), ScoringOptions(options.on_invalid, "torch"))
        self._numbers = numbers
        self._units = torch.full((len(numbers), width), math.nan, dtype=torch.float64, device="cpu")

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Gathers rows of embeddings [n, D]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        there, here = rows.numbers.found(self._numbers)
        units = unit_rows(rows.x[torch.from_numpy(here).to(rows.x.device)]).cpu()

        def commit() -> None:
            self._scorer.record(rows, 0, lambda: units)
            self._units[torch.from_numpy(there)] = units

        return Pending(commit)

    def result(self) -> Tensor:
        """The rows, [m, D] float64.

        Raises:
            ValueError: some of them were not read.
        """
        n_missing = int(self._units.isnan().any(1).sum())
        if n_missing:
            raise ValueError(
                f"pool: {n_missing:,} rows that an earlier pass read are not there any more"
            )
        return self._units

    def identity(self) -> dict[str, Any]:
        """The numbers of the rows."""
        return {"rows": self._numbers.tolist()}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "units": self._units.numpy().copy()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._units = torch.from_numpy(state["units"].copy())


class ValidRows(ScoringReducer[int]):
    """Counts the finite rows of a pool.

    Args:
        options: how invalid rows are treated. The backend is always "torch".
    """

    def __init__(self, options: ScoringOptions) -> None:
        super().__init__(FiniteRows(), ScoringOptions(options.on_invalid, "torch"))
        self._n_rows = 0

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Counts embeddings [n, D]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        (zeros,), n_invalid = self._scorer.scores(rows)
        n_valid = int((zeros == 0).count_nonzero())

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: zeros)
            self._n_rows += n_valid

        return Pending(commit)

    def result(self) -> int:
        """How many rows there are."""
        return self._n_rows

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "n_rows": self._n_rows}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._n_rows = state["n_rows"]


def neighbour_distances(units: Tensor, neighbours: int) -> Tensor:
    """The mean Euclidean distance of each row to its nearest other rows.

    Products with all rows find the neighbours. Their distances come from differences, so that equal
    rows have distance 0. Rows are compared in blocks: there is no [n, n] matrix.

    Args:
        units: [n, D] float64, rows of length 1, or zeros.
        neighbours: how many neighbours count; all other rows if these are fewer.

    Returns:
        [n] float64, from 0 to 2; infinite for a single row, which has no neighbour.
    """
    n_rows, width = units.shape
    n_nearest = min(neighbours, n_rows - 1)
    found = torch.full((n_rows,), math.inf, dtype=torch.float64, device=units.device)
    if not n_nearest:
        return found
    block_rows = max(1, _BLOCK_BYTES // (8 * max(n_rows, n_nearest * width)))
    squares = torch.empty(n_rows, dtype=torch.float64, device=units.device)

    def square(rows: slice) -> None:
        squares[rows] = units[rows].square().sum(1)

    def compare(rows: slice) -> None:
        block = units[rows]
        nearness = 2 * block @ units.t() - squares  # |u|^2 - |u - v|^2
        nearness[:, rows].fill_diagonal_(-math.inf)
        nearest = nearness.topk(n_nearest, dim=1).indices
        found[rows] = torch.linalg.vector_norm(units[nearest] - block[:, None], dim=2).mean(1)

    _on_blocks(square, units, block_rows)
    _on_blocks(compare, units, block_rows)
    return found


def _on_blocks(work: Callable[[slice], None], units: Tensor, block_rows: int) -> None:
    """Calls `work` with blocks of rows that are the same for any number of threads."""
    blocks = [slice(first, first + block_rows) for first in range(0, len(units), block_rows)]

    def share(claimed: Iterator[slice]) -> None:
        for rows in (rows for some in claimed for rows in blocks[some]):
            work(rows)

    in_row_threads(share, units[: len(blocks)], 1)
