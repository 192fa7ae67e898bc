"""Picks of a small model, with how well it knows what it was trained to tell."""

import logging
import math
from dataclasses import dataclass, fields, replace
from typing import Any

from fastal.base.arrays import as_tensor, converter_for
from fastal.picks.picks import Picks

_log = logging.getLogger("fastal")
KNOWS_LITTLE = 0.6


@dataclass(frozen=True, eq=False, repr=False)
class TransferPicks(Picks):
    """Picks by a small model that was trained on hidden states; see `transfer_uncertainty`.

    They are `fastal.Picks` with one attribute more. Slices of them keep it. `concat` and files of
    picks do not.

    Attributes:
        auc: the held-out AUC of the small model: of a row of each of the two sides that the model
            tells apart, how often it orders them correctly. 0.5 is chance, 1 is best. NaN if it
            could not be measured, since a side has a single row.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> x = np.arange(40, dtype=np.float32)[:, None]
        >>> picks = combine.transfer_uncertainty(x, x, x[:, 0] < 30, k=2)
        >>> picks.rows, picks.auc, picks[:1].auc
        (array([39, 38]), 1.0, 1.0)
    """

    auc: float = math.nan


def as_probabilities(picks: Picks) -> Picks:
    """The picks with scores that are probabilities, whose scores were log-odds."""
    odds = as_tensor(picks.scores, "picks").double()
    return replace(picks, scores=converter_for(picks.scores)(odds.sigmoid().float()))


def with_auc(picks: Picks, auc: float) -> TransferPicks:
    """The picks with the AUC of their small model."""
    values: dict[str, Any] = {of.name: getattr(picks, of.name) for of in fields(Picks)}
    return TransferPicks(**values, auc=auc)


def warn_of_auc(auc: float, sides: str) -> None:
    """Logs a warning if a small model knows little, or if it is unknown what it knows.

    Args:
        auc: its held-out AUC.
        sides: what it tells apart, for the message.
    """
    if math.isnan(auc):
        _log.warning(
            "the AUC was not measured: the small model tells %s, and one of these is a single row",
            sides,
        )
    elif auc < KNOWS_LITTLE:
        _log.warning(
            "the small model hardly tells %s: its held-out AUC is %.2f, where 0.5 is chance; the "
            "picks may be no better than random rows", sides, auc,
        )  # fmt: skip
