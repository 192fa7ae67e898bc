"""Picks as a report shows them: with a name, and with the record of the run that made them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.picks.picks import Picks
from fastal.report.page.svg import N_SERIES

MOST_MARKED = 1000  # more markers on a map hide one another
_MOST_GROUPS = N_SERIES - 1  # and one series for all other groups
_GROUP_COLUMNS = ("group", "cluster", "role")


@dataclass(frozen=True)
class NamedPicks:
    """Picks and what is known of them.

    Attributes:
        name: what a report calls them.
        picks: the picks.
        record: the record that a command wrote beside them; empty: there is none.
        folder: the folder of their file; None: they are in memory.
    """

    name: str
    picks: Picks
    record: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def strategy(self) -> str | None:
        """The name of the score or the strategy; None if it is not known.

        Other commands than `select` have scores of their own, whatever their argument `by`.
        """
        command = self.record.get("command")
        score = _score(self.record["arguments"].get("by")) if command == "select" else None
        return score or command or self.picks.strategy

    @property
    def invalid(self) -> int:
        """How many rows were left out as invalid."""
        return int(self.record.get("invalid", self.picks.invalid))

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row numbers, [k]."""
        return as_tensor(self.picks.rows, "picks").cpu().numpy()

    @property
    def scores(self) -> NDArray[np.float32]:
        """The scores, [k]."""
        return as_tensor(self.picks.scores, "picks").cpu().numpy()


@dataclass(frozen=True)
class Series:
    """Picks that have one colour and one shape.

    Attributes:
        name: what they have in common.
        places: which they are, [n], of all picks one after the other.
    """

    name: str
    places: NDArray[np.int64]


def all_rows(given: Sequence[NamedPicks]) -> NDArray[np.int64]:
    """The row numbers of all picks, one after the other."""
    return np.concatenate([np.empty(0, np.int64), *(of.rows for of in given)])


def series_of(given: Sequence[NamedPicks]) -> list[Series]:
    """The series of picks: the files, if there are several; else the groups, if there are few.

    Beyond the most frequent groups, the others are one series.
    """
    if len(given) > 1:
        ends = np.cumsum([0, *(len(of.picks) for of in given)])
        places = np.arange(ends[-1])
        n_alone = len(given) if len(given) <= N_SERIES else _MOST_GROUPS
        found = [Series(given[i].name, places[ends[i] : ends[i + 1]]) for i in range(n_alone)]
        if n_alone < len(given):
            found.append(Series("other files", places[ends[n_alone] :]))
        return found
    (of,) = given
    groups = _groups(of.picks)
    if groups is None:
        return [Series("picks", np.arange(len(of.picks)))]
    name, labels = groups
    values, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(values) > N_SERIES:
        alone = np.sort(np.argsort(-counts, kind="stable")[:_MOST_GROUPS])
    else:
        alone = np.arange(len(values))
    found = [Series(f"{name} {values[i]}", np.flatnonzero(codes == i)) for i in alone]
    rest = np.flatnonzero(~np.isin(codes, alone))
    if len(rest):
        found.append(Series(f"other {name}s", rest))
    return found


def marked_places(given: Sequence[NamedPicks]) -> NDArray[np.int64]:
    """The places of the picks that a map marks, [m]: all, or the first of each series if many."""
    if sum(len(of.picks) for of in given) <= MOST_MARKED:
        return np.arange(len(all_rows(given)))
    series = series_of(given)
    return np.concatenate([of.places[: MOST_MARKED // len(series)] for of in series])


def _score(by: Any) -> str | None:
    """The name of the score that a record has as `by`; None if it has none.

    A score of draws or items has another name than the score of rows, which it is not.
    """
    if isinstance(by, str):
        return by
    if not isinstance(by, dict) or "name" not in by:
        return None
    names = by["name"] if isinstance(by["name"], list) else [by["name"]]
    of_draws = " of draws" if by.get("draws_axis") is not None else ""
    of_items = f", {by['aggregate']} of items" if by.get("aggregate") is not None else ""
    return f"{', '.join(map(str, names))}{of_draws}{of_items}"


def _groups(picks: Picks) -> tuple[str, NDArray[np.str_]] | None:
    """The name and the text of the labels that tell picks apart; None if there are none."""
    for name in _GROUP_COLUMNS:
        values = picks.groups if name == "group" else picks.columns.get(name)
        if values is not None:
            return name, np.array(["none" if v is None else str(v) for v in values.tolist()])
    return None
