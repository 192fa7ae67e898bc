"""The most uncertain share of a pool: the first stage of several strategies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.blank_rows import Blank
from fastal.base.checks import checked_number
from fastal.combine.left_rows import check_number, left_rows
from fastal.combine.row_match import RowMatch, opened
from fastal.combine.stages import UncertaintyStages
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool, with_ids
from fastal.scoring.measure_for import By
from fastal.selection.pick_warnings import warn_of_blank
from fastal.selection.selector import Selector
from fastal.sources import Source
from fastal.uncertainty import output_of

_NO_COLUMNS: Mapping[str, NDArray[Any]] = {}


@dataclass(frozen=True)
class Candidates:
    """The most uncertain rows of a pool, and the same rows of another pool.

    Attributes:
        picks: the rows, most uncertain first, with their uncertainty.
        other: the other pool.
        rows: [m] int64, the numbers of the rows in the other pool.
        pool: the pool.
        n_rows: how many rows each pool has.
        blank: the uncertainty of rows that hold nothing; None: such rows have none of their own.
    """

    picks: Picks
    other: Source
    rows: NDArray[np.int64]
    pool: Source
    n_rows: int
    blank: Blank | None

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(
        self,
        k: int,
        rows: Any,
        *,
        invalid: int = 0,
        columns: Mapping[str, NDArray[Any]] = _NO_COLUMNS,
        **changes: Any,
    ) -> Picks:
        """The candidates that a later stage chose, with warnings if they are too few or blank.

        Args:
            k: how many were wanted.
            rows: their numbers in the other pool, [n], in the order of the result.
            invalid: how many candidates are invalid in the other pool.
            columns: columns to add.
            changes: other attributes of the picks that differ from those of the candidates.
        """
        numbers = as_tensor(rows, "rows").cpu().numpy()
        order = np.argsort(self.rows)
        picks = self.picks[order[np.searchsorted(self.rows[order], numbers)]]
        if self.blank is not None:
            of_pool, scores = (
                as_tensor(x, "picks").cpu().numpy() for x in (picks.rows, picks.scores)
            )
            warn_of_blank(of_pool, scores, self.blank, self.pool)
        check_number(k, len(picks))
        return replace(
            picks, invalid=picks.invalid + invalid, columns={**picks.columns, **columns}, **changes
        )


def most_uncertain(
    logits: Any,
    other: Any,
    least: int,
    by: By,
    stages: UncertaintyStages,
    *,
    name: str = "embeddings",
    share: float = 0.0,
) -> Candidates:
    """The most uncertain share of a pool, in one pass.

    Args:
        logits: the pool.
        other: another pool of the same rows.
        least: the least number of rows.
        by: as for `fastal.select`.
        stages: how pools are read.
        name: the argument that the other pool came in, for errors.
        share: the share of the rows that `exclude` and `among` leave, rounded up.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`; or no row is left.
    """
    pool, beside = opened(logits, "logits"), opened(other, name)
    match = RowMatch(pool, beside, name, "logits")
    left = left_rows(pool, stages, "logits")
    n_wanted = min(left.n, max(least, math.ceil(Fraction(repr(share)) * left.n)))
    output = output_of(logits, by, stages.output)
    scoring: dict[str, Any] = {**vars(output), **vars(stages.scoring)}
    selector = Selector(n_wanted, by, **scoring)
    selector.reports_ties = False  # of the candidates, not of the picks
    picks = run_on_pool(
        selector, pool, stages.run("uncertain", **left.arguments()),
        lambda found, source: with_ids(found, source, selector),
    )  # fmt: skip
    if not len(picks):
        raise ValueError(f"logits: all {left.n:,} rows that may be picked are invalid")
    numbers = as_tensor(picks.rows, "picks").cpu().numpy()
    return Candidates(picks, beside, match.in_other(numbers), pool, left.n_rows, selector.blank)


def checked_share(share: Any) -> float:
    """A share as a plain float; ValueError unless it is above 0 and at most 1."""
    found = checked_number("share", share)
    if not 0 < found <= 1:
        raise ValueError(f"share: wanted a number above 0, at most 1, got {share}")
    return found
