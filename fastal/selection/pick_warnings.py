"""Warnings about picks: they are none or too few, tie with others, or hold nothing."""

import logging
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.blank_rows import Blank
from fastal.base.errors import NAMED_ROWS
from fastal.base.reducer import Reducer
from fastal.picks.picks import Picks
from fastal.selection.ties import TieOrder
from fastal.sources import Source
from fastal.sources.chosen_rows import ChosenRows

_log = logging.getLogger("fastal")
_MOST_READ = 50  # picks that are read again


def warn_of(picks: Picks, reducer: Reducer[Picks], pool: Source | None) -> None:
    """Logs a warning if nothing or too little was picked, or if picks are rows that hold nothing.

    Args:
        picks: the result of the reducer.
        reducer: knows the scores of rows that hold nothing.
        pool: the pool of the picks; None: it cannot be read.
    """
    rows, scores = (as_tensor(x, "picks").cpu().numpy() for x in (picks.rows, picks.scores))
    is_filtered = reducer.row_filter is not None
    if not len(rows):
        none = "exclude and among leave no rows" if is_filtered else "there are no rows"
        why = f"all {picks.invalid:,} rows are invalid" if picks.invalid else none
        _log.warning("nothing was picked: %s", why)
    elif is_filtered and len(rows) < reducer.wanted:
        _log.warning(
            "k: wanted %d rows; exclude and among leave %d valid ones, which were all picked",
            reducer.wanted, len(rows),
        )  # fmt: skip
    if reducer.blank is not None:
        warn_of_blank(rows, scores, reducer.blank, pool)


def warn_of_blank(
    rows: NDArray[np.int64], scores: NDArray[np.float32], blank: Blank, pool: Source | None
) -> None:
    """Logs a warning if picks are rows that hold nothing.

    Padding and failed items are rows of equal values, or of zeros, and have the largest scores.
    Other rows may have these scores too, such as rows whose two largest values tie. If reading is
    cheap, the picks are read again to tell them apart. Else the warning speaks of scores only.

    Args:
        rows: the row numbers of the picks, [k].
        scores: their scores, [k].
        blank: the scores of rows that hold nothing.
        pool: the pool of the picks; None: it cannot be read.
    """
    found = rows[(scores >= np.float32(blank.least)) & (scores <= np.float32(blank.most))]
    what, n_read, but = "have the score of a row", len(rows), "; other rows may have it too"
    if pool is not None and pool.in_place:
        n_read -= max(0, len(found) - _MOST_READ)
        what, but = "are rows" if n_read == len(rows) else "that were read again are rows", ""
        found = _blank_among(found[:_MOST_READ], pool, blank)
    if len(found):
        named = ", ".join(map(str, found[:NAMED_ROWS].tolist()))
        of = "equal values" if blank.value is None else "zeros"
        _log.warning(
            "%d of %d picks %s of %s, as padding and failed items are%s: rows %s%s. To leave such "
            "rows out, set them to NaN, and give on_invalid='skip'",
            len(found), n_read, what, of, but, named,
            ", ..." if len(found) > NAMED_ROWS else "",
        )  # fmt: skip


def log_ties(n_tied: int, n_taken: int, order: TieOrder, n_groups: int | None = None) -> None:
    """Logs that more rows tie at the last place than fit.

    Args:
        n_tied: how many rows have the score of the last pick.
        n_taken: how many of them were picked.
        order: how these were chosen.
        n_groups: in how many groups; None: there are no groups.
    """
    where = "" if n_groups is None else f" of their group, in {n_groups} groups"
    how = "drawn by the seed" if order.is_random else f"the lowest{order.advice}"
    _log.warning(
        "%d rows have the score of the last pick%s; %d of them were picked, %s",
        n_tied, where, n_taken, how,
    )  # fmt: skip


def _blank_among(rows: NDArray[np.int64], pool: Source, blank: Blank) -> NDArray[np.int64]:
    """The rows of a pool that hold nothing; none if they cannot be read any more."""
    if len(rows):
        with suppress(Exception):  # a warning must not lose the picks
            ascending = np.sort(rows)
            read = [chunk.x for chunk in ChosenRows(pool, ascending).chunks(_MOST_READ)]
            # In one tensor: on a GPU, the host then waits once.
            x = torch.cat([as_tensor(one, "pool").flatten(1) for one in read]).cpu()
            values = x.double().numpy()  # torch's own aminmax by row takes ten times as long
            least, most = values.min(1), values.max(1)
            is_blank = (least == most) & (blank.value is None or least == blank.value)
            return rows[np.isin(rows, ascending[is_blank])]
    return rows[:0]
