"""What is said of picks that the caller may not expect: that there are none, or blank ones."""

import logging
from contextlib import suppress

import numpy as np

from fastal.base.arrays import as_tensor, memory_of
from fastal.base.blank import Blank
from fastal.base.errors import NAMED_ROWS
from fastal.base.guard import guarded
from fastal.base.reducer import Reducer
from fastal.selection.picks import Picks
from fastal.sources import Source

_log = logging.getLogger("fastal")
_LOOKED_AT = 50  # picks, each of which is read again


def warn_of(picks: Picks, reducer: Reducer[Picks], pool: Source) -> None:
    """Logs that a selection came out empty, or picked rows that hold nothing.

    Padding and failed items are rows of equal values, or of zeros: they have the largest scores.
    Other rows may have them as well, such as those whose two largest values tie. So the picks are
    read again where that costs nothing; where it does, only their scores are mentioned.

    Args:
        picks: what a reducer ended in.
        reducer: knows the scores of rows that hold nothing.
        pool: what it picked from.
    """
    rows, scores = (as_tensor(x, "picks").cpu().numpy() for x in (picks.rows, picks.scores))
    if not len(rows):
        why = f"all {picks.invalid:,} rows are invalid" if picks.invalid else "there are no rows"
        _log.warning("nothing was picked: %s", why)
    blank = reducer.blank
    if blank is None:
        return
    found = rows[(scores >= np.float32(blank.least)) & (scores <= np.float32(blank.most))]
    what, n_looked, but = "have the score of a row", len(rows), "; other rows may have it too"
    if pool.in_place:
        n_looked -= max(0, len(found) - _LOOKED_AT)
        what, but = "are rows" if n_looked == len(rows) else "that were read again are rows", ""
        found = np.array([row for row in found[:_LOOKED_AT] if _is_blank(pool, int(row), blank)])
    if len(found):
        named = ", ".join(map(str, found[:NAMED_ROWS].tolist()))
        of = "equal values" if blank.value is None else "zeros"
        _log.warning(
            "%d of %d picks %s of %s, as padding and failed items are%s: rows %s%s. Rows of NaN "
            "are left out with on_invalid='skip'",
            len(found), n_looked, what, of, but, named,
            ", ..." if len(found) > NAMED_ROWS else "",
        )  # fmt: skip


def _is_blank(pool: Source, row: int, blank: Blank) -> bool:
    """Whether a row of a pool holds nothing; not if it cannot be read any more."""
    with suppress(Exception):  # the picks are made: nothing that is said of them may lose them
        x = next(iter(pool.chunks(1, row))).x
        with guarded(memory_of(x, "pool")) as guard:
            values = as_tensor(x, "pool").cpu()
            least, most = values.min(), values.max()
            is_blank = bool(least == most) and blank.value in (None, float(least))
        return is_blank and not guard.broken
    return False
