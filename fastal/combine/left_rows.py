"""Which rows of a pool are left to pick from, in that pool and in another of the same rows."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastal.base.row_filter import RowFilter
from fastal.combine.row_match import RowMatch, counted
from fastal.combine.stages import Stages
from fastal.pipeline.row_choice import row_filter_for
from fastal.sources import Source

_log = logging.getLogger("fastal")


@dataclass(frozen=True)
class LeftRows:
    """The rows of a pool that `exclude` and `among` leave.

    Attributes:
        n_rows: how many rows the pool has.
        n: how many of them are left.
        row_filter: which they are; None: all.
    """

    n_rows: int
    n: int
    row_filter: RowFilter | None

    def arguments(self, match: RowMatch | None = None) -> dict[str, Any]:
        """The arguments `exclude` or `among` that leave these rows.

        Args:
            match: which rows they are of the pool to read; None: it is the pool itself.
        """
        if self.row_filter is None:
            return {}
        rows = self.row_filter.rows
        if match is not None:
            rows = np.sort(match.in_other(rows))
        return {"among" if self.row_filter.are_read else "exclude": rows}


def left_rows(pool: Source, stages: Stages, name: str) -> LeftRows:
    """The rows of a pool that are left.

    Args:
        pool: the pool.
        stages: has `exclude` and `among`.
        name: the argument that the pool came in, for errors.

    Raises:
        ValueError, TypeError, OSError: a bad argument; or no row is left.
    """
    n = n_rows = counted(pool)
    row_filter = row_filter_for(stages.exclude, stages.among, pool)
    if row_filter is not None:
        row_filter.check(n_rows)
        n = row_filter.n_left(n_rows)
    if not n:
        raise ValueError(f"{name}: exclude and among leave no row" if n_rows else f"{name}: no row")
    return LeftRows(n_rows, n, row_filter)


def check_number(k: int, n_picked: int) -> None:
    """Logs a warning if fewer than k rows were picked; ValueError if none was."""
    if not n_picked:
        raise ValueError("k: nothing was picked: no row that may be picked is valid in all pools")
    if n_picked < k:
        _log.warning("k: wanted %d rows; %d valid ones are left, all picked", k, n_picked)
