"""How a score is distributed over a pool, and where the picks are in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastal.base.csv_rows import csv_rows
from fastal.report.page.svg import padding

BINS = 50
NOT_SCORES = ("rank", "row", "id", "group", "cluster", "role")  # columns of tables of rows
_ROWS = 1 << 16  # rows of a file that are in memory at once
# Scores of one pool may differ by this much, relatively, between backends and dtypes.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Distribution:
    """The scores of a pool, counted.

    Attributes:
        name: of the score.
        low: where the first bin begins.
        high: where the last bin ends.
        counts: [BINS] int64, the number of rows in each bin.
        not_finite: the number of rows without a finite score.
        of_picks: [k], the scores that the rows of all picks have in the pool, NaN if they have
            none.
    """

    name: str
    low: float
    high: float
    counts: NDArray[np.int64]
    not_finite: int
    of_picks: NDArray[np.float32]

    @property
    def n_rows(self) -> int:
        """The number of rows of the pool."""
        return int(self.counts.sum()) + self.not_finite


def is_same_score(scores: NDArray[np.float32], of_picks: NDArray[np.float32]) -> bool:
    """Whether picks were made by the score of a distribution.

    Args:
        scores: [k], the scores of the picks.
        of_picks: [k], the scores that their rows have in the pool.
    """
    return bool(np.allclose(scores, of_picks, rtol=_TOLERANCE, atol=1e-6))


def distributions_of(path: Path, rows: NDArray[np.int64]) -> list[Distribution]:
    """The distribution of each score in a file, which is read twice, in parts.

    Args:
        path: a .npy file with a field for each score, or a .csv file with a column row and a column
            for each score.
        rows: [k], the row numbers of all picks.

    Raises:
        ValueError: a field of a .csv file is no number, a row is not in the file, or there is no
            finite score.
    """
    names = list(next(_parts(path), (np.empty(0), {}))[1])
    if not names:
        raise ValueError(f"{path}: holds no scores")
    ranges = {name: [np.inf, -np.inf] for name in names}
    of_picks = {name: np.full(len(rows), np.nan, np.float32) for name in names}
    seen = np.zeros(len(rows), bool)
    order = np.argsort(rows)
    for numbers, columns in _parts(path):
        places, held = _places(rows[order], numbers)
        seen[order[places]] = True
        for name, values in columns.items():
            finite = values[np.isfinite(values)]
            if len(finite):
                low, high = ranges[name]
                ranges[name] = [min(low, float(finite.min())), max(high, float(finite.max()))]
            of_picks[name][order[places]] = values[held]
    if not seen.all():
        raise ValueError(f"{path}: row {rows[~seen][0]} is picked, and is not in the file")
    bounds = {name: _bounds(path, name, *of) for name, of in ranges.items()}
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    not_finite = dict.fromkeys(names, 0)
    for _, columns in _parts(path):
        for name, values in columns.items():
            finite = values[np.isfinite(values)]
            not_finite[name] += len(values) - len(finite)
            # In float32, the edges of bins of large scores may be equal.
            counts[name] += np.histogram(np.float64(finite), BINS, bounds[name])[0]
    return [
        Distribution(name, *bounds[name], counts[name], not_finite[name], of_picks[name])
        for name in names
    ]


def _bounds(path: Path, name: str, low: float, high: float) -> tuple[float, float]:
    """Where the bins begin and end."""
    if low > high:
        raise ValueError(f"{path}: no finite score in {name}")
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if low < high else (low - padding(low), high + padding(low))


def _places(
    ascending: NDArray[np.int64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of some rows are among others, and where they are there."""
    by_number = np.argsort(numbers, kind="stable")
    at = np.searchsorted(numbers, ascending, sorter=by_number)
    inside = np.flatnonzero(at < len(numbers))
    held = by_number[at[inside]]
    same = numbers[held] == ascending[inside]
    return inside[same], held[same]


def _parts(path: Path) -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]]:
    """Row numbers and scores, part by part."""
    if path.suffix == ".csv":
        yield from _csv_parts(path)
        return
    held = np.load(path, mmap_mode="r")
    names = [name for name in held.dtype.names if held.dtype[name].kind == "f"]
    for first in range(0, len(held), _ROWS):
        part = held[first : first + _ROWS]
        numbers = np.arange(first, first + len(part))
        with np.errstate(over="ignore"):  # beyond float32: not finite
            yield numbers, {name: np.array(part[name], np.float32) for name in names}


def _csv_parts(path: Path) -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]]:
    lines = csv_rows(path)
    _, header = next(lines)
    row = header.index("row")
    scores = {name: place for place, name in enumerate(header) if name not in NOT_SCORES}
    numbers: list[int] = []
    columns: dict[str, list[float]] = {name: [] for name in scores}
    for number, line in lines:
        if len(line) != len(header):
            raise ValueError(f"{path} line {number}: wanted {len(header)} fields, got {len(line)}")
        try:
            numbers.append(int(line[row]))
            for name, place in scores.items():
                columns[name].append(float(line[place]))
        except ValueError as error:
            raise ValueError(
                f"{path} line {number}: wanted a row number and scores: {error}"
            ) from error
        if not 0 <= numbers[-1] < 2**63:
            raise ValueError(f"{path} line {number}: {numbers[-1]} is no row number")
        if len(numbers) == _ROWS:
            yield _as_arrays(numbers, columns)
            numbers, columns = [], {name: [] for name in scores}
    if numbers:
        yield _as_arrays(numbers, columns)


def _as_arrays(
    numbers: list[int], columns: dict[str, list[float]]
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    with np.errstate(over="ignore"):  # beyond float32: not finite
        return np.array(numbers, np.int64), {
            name: np.array(values, np.float32) for name, values in columns.items()
        }
