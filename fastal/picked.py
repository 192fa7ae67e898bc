"""What is said of picks that the caller may not expect: that there are none, or blank ones."""

import logging
from contextlib import closing
from typing import Any

import numpy as np

from fastal import backend as backends
from fastal.arrays import as_tensor, memory_of
from fastal.errors import NAMED_ROWS
from fastal.measure import Blank
from fastal.selection import Picks
from fastal.sources import Source

_log = logging.getLogger("fastal")
_LOOKED_AT = 1000  # picks, each of which is read again


def warn_of(picks: Picks, reducer: Any, pool: Source) -> None:
    """Logs that a selection came out empty, or picked rows that hold nothing.

    Padding and failed items are rows of equal values, or of zeros: they have the largest scores.
    Other rows may have them as well, such as those whose two largest values tie. So the picks are
    read again where that costs nothing; where it does, only their scores are mentioned.

    Args:
        picks: what a reducer ended in.
        reducer: may have an attribute `blank`, see `fastal.measure.Blank`.
        pool: what it picked from.
    """
    rows, scores = (as_tensor(x, "picks").cpu().numpy() for x in (picks.rows, picks.scores))
    if not len(rows):
        why = f"all {picks.invalid:,} rows are invalid" if picks.invalid else "there are no rows"
        _log.warning("nothing was picked: %s", why)
    blank: Blank | None = getattr(reducer, "blank", None)
    if blank is None:
        return
    found = rows[(scores >= np.float32(blank.least)) & (scores <= np.float32(blank.most))]
    are = "have the score of a row"
    if pool.in_place:
        are = "are rows"
        found = np.array([row for row in found[:_LOOKED_AT] if _is_blank(pool, int(row), blank)])
    if len(found):
        named = ", ".join(map(str, found[:NAMED_ROWS].tolist()))
        of = "equal values" if blank.value is None else "zeros"
        _log.warning(
            "%d of %d picks %s of %s, as padding and failed items are: rows %s%s. Rows of NaN are "
            "left out with on_invalid='skip'",
            len(found), len(rows), are, of, named, ", ..." if len(found) > NAMED_ROWS else "",
        )  # fmt: skip


def _is_blank(pool: Source, row: int, blank: Blank) -> bool:
    """Whether a row of a pool holds nothing; not if it has vanished meanwhile."""
    with closing(pool.chunks(1, row)) as chunks:  # type: ignore[type-var]
        x = next(chunks).x
        with backends.guarded(memory_of(x, "pool")) as guard:
            values = as_tensor(x, "pool").cpu()
            least, most = values.min(), values.max()
            is_blank = least == most and blank.value in (None, float(least))
    return bool(is_blank) and not guard.broken
