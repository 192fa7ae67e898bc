"""Hidden states that a small model is trained on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_tensor, is_array
from fastal.base.errors import prefixing_errors
from fastal.base.reducer import Pending, RowStart
from fastal.diversity.centroids import FiniteRows, checked_rows, copied, rows_of
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.sources import Source, open_pool
from fastal.sources.files import in_column_order_of


def given_hidden(hidden: Any, name: str, pool: Source) -> Tensor:
    """The hidden states of an argument, [n, H] float64 on the host, a copy.

    Args:
        hidden: an array, or any pool that fits into memory.
        name: the argument.
        pool: the columns are read in its order.

    Raises:
        ValueError, TypeError, OSError: there are no rows, or one is not finite; the message begins
            with `name`.
    """
    if isinstance(hidden, Picks):
        raise TypeError(f"{name}: wanted hidden states, got picks; give hidden[picks.rows]")
    if is_array(hidden):
        return checked_rows(copied(hidden, name), name).double()
    with prefixing_errors(name):
        rows = rows_of(in_column_order_of(pool, open_pool(hidden)), "rows")
    return checked_rows(rows, name).double()


def given_correctness(is_correct: Any, n_rows: int) -> Tensor:
    """Which validation rows the main model got wrong, [n_rows] bool on the host.

    Raises:
        TypeError: not bools.
        ValueError: not one for each row, or all are equal.
    """
    given = is_correct if is_array(is_correct) else np.array(is_correct)
    found = as_tensor(given, "is_correct").cpu() if given.dtype != object else None
    if found is None or found.dtype != torch.bool:
        raise TypeError(
            "is_correct: wanted a bool for each validation row, such as predicted == labels, got "
            f"{given.dtype}"
        )
    if found.shape != (n_rows,):
        raise ValueError(
            f"is_correct: wanted a bool for each of the {n_rows} validation rows, got shape "
            f"{tuple(found.shape)}"
        )
    n_correct = int(found.sum())
    if n_correct in (0, n_rows):
        side, other = ("wrong", "right") if n_correct else ("right", "wrong")
        raise ValueError(
            f"is_correct: wanted at least one row that the model got {side}, got {n_rows} rows, "
            f"all {other}: there is nothing to learn from"
        )
    return ~found


class HiddenRows(ScoringReducer[Tensor]):
    """Collects the rows that its filter keeps, [n, H] float64 on the host.

    Args:
        on_invalid: as for `fastal.select`.
    """

    def __init__(self, on_invalid: str) -> None:
        super().__init__(FiniteRows(), ScoringOptions(on_invalid, "torch"))
        self._parts: list[Tensor] = []

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Copies rows [n, H]; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        (zeros,), n_invalid = self._scorer.scores(rows)
        part = rows.x[~zeros.isnan()].to("cpu", torch.float64, copy=True)

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: zeros)
            self._parts.append(part)

        return Pending(commit)

    def result(self) -> Tensor:
        """The rows so far."""
        return torch.cat(self._parts)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "parts": [part.numpy() for part in self._parts]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._parts = [torch.from_numpy(part) for part in state["parts"]]


def hidden_of(
    pool: Source, rows: NDArray[np.int64], on_invalid: str, chunk_bytes: int | None
) -> Tensor:
    """The hidden states of some rows of a pool, ascending, [n, H] float64 on the host.

    Raises:
        InvalidRows: with on_invalid="raise". With "skip", such rows are left out.
        ValueError: the pool cannot be read again.
    """
    if pool.n_rows is None and next(iter(pool.chunks(1)), None) is None:
        raise ValueError(
            "pool_hidden: wanted a pool that can be read several times, such as files or a list of "
            "arrays; a generator can be read once only"
        )
    options = RunOptions(chunk_bytes, among=rows)
    return run_on_pool(HiddenRows(on_invalid), pool, options, lambda found, _: found)
