"""Picks as a report shows them: with a name, and with the record of the run that made them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.picks.picks import Picks
from fastal.report.page.svg import N_SERIES

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
        """The name of the score or the strategy; None if it is not known."""
        by = self.record.get("arguments", {}).get("by")
        return by if isinstance(by, str) else self.record.get("command") or self.picks.strategy

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


def read_record(path: Path) -> dict[str, Any]:
    """The record of the run that wrote a file; empty if there is none."""
    record = path.with_name(path.stem + ".run.json")
    try:
        held = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    is_record = isinstance(held, dict) and isinstance(held.get("arguments"), dict)
    # A folder may have picks.csv and picks.jsonl, of which one run wrote one.
    return held if is_record and Path(str(held.get("out"))).name == path.name else {}


def _groups(picks: Picks) -> tuple[str, NDArray[np.str_]] | None:
    """The name and the text of the labels that tell picks apart; None if there are none."""
    for name in _GROUP_COLUMNS:
        values = picks.groups if name == "group" else picks.columns.get(name)
        if values is not None:
            return name, np.array(["none" if v is None else str(v) for v in values.tolist()])
    return None
