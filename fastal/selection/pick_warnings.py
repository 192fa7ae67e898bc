"""Warnings about picks: there are none, or they are rows that hold nothing."""

import logging
from contextlib import suppress

import numpy as np

from fastal.base.arrays import as_tensor, memory_of
from fastal.base.blank_rows import Blank
from fastal.base.errors import NAMED_ROWS
from fastal.base.memory_guard import guarded
from fastal.base.reducer import Reducer
from fastal.selection.picks import Picks
from fastal.sources import Source

_log = logging.getLogger("fastal")
_MOST_READ = 50  # picks that are read again, one by one


def warn_of(picks: Picks, reducer: Reducer[Picks], pool: Source) -> None:
    """Logs a warning if nothing was picked, or if picks are rows that hold nothing.

    Padding and failed items are rows of equal values, or of zeros, and have the largest scores.
    Other rows may have these scores too, such as rows whose two largest values tie. If reading is
    cheap, the picks are read again to tell them apart. Else the warning speaks of scores only.

    Args:
        picks: the result of the reducer.
        reducer: knows the scores of rows that hold nothing.
        pool: the pool of the picks.
    """
    rows, scores = (as_tensor(x, "picks").cpu().numpy() for x in (picks.rows, picks.scores))
    if not len(rows):
        why = f"all {picks.invalid:,} rows are invalid" if picks.invalid else "there are no rows"
        _log.warning("nothing was picked: %s", why)
    blank = reducer.blank
    if blank is None:
        return
    found = rows[(scores >= np.float32(blank.least)) & (scores <= np.float32(blank.most))]
    what, n_read, but = "have the score of a row", len(rows), "; other rows may have it too"
    if pool.in_place:
        n_read -= max(0, len(found) - _MOST_READ)
        what, but = "are rows" if n_read == len(rows) else "that were read again are rows", ""
        found = np.array([row for row in found[:_MOST_READ] if _is_blank(pool, int(row), blank)])
    if len(found):
        named = ", ".join(map(str, found[:NAMED_ROWS].tolist()))
        of = "equal values" if blank.value is None else "zeros"
        _log.warning(
            "%d of %d picks %s of %s, as padding and failed items are%s: rows %s%s. Rows of NaN "
            "are left out with on_invalid='skip'",
            len(found), n_read, what, of, but, named,
            ", ..." if len(found) > NAMED_ROWS else "",
        )  # fmt: skip


def _is_blank(pool: Source, row: int, blank: Blank) -> bool:
    """Whether a row of a pool holds nothing; False if it cannot be read any more."""
    with suppress(Exception):  # a warning must not lose the picks
        x = next(iter(pool.chunks(1, row))).x
        with guarded(memory_of(x, "pool")) as guard:
            values = as_tensor(x, "pool").cpu()
            least, most = values.min(), values.max()
            is_blank = bool(least == most) and blank.value in (None, float(least))
        return is_blank and not guard.broken
    return False
