"""Reads the curves of a simulation back from their files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.base.csv_rows import csv_rows

_MOST_LABELS, _MOST_SEED = 2**63 - 1, 2**64 - 1
COLUMNS = ("strategy", "seed", "round", "n_labelled", "score")


class CurvesFile(NamedTuple):
    """What the files hold; see `Simulation`."""

    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    n_labelled: NDArray[np.int64]
    scores: NDArray[np.float64]


def read_curves(paths: Sequence[Path]) -> CurvesFile:
    """Reads .csv files that `Simulation.save` wrote, as one.

    Raises:
        ValueError: a file has other columns, a field that is no number, or a line that was there
            before; or they lack a round of a strategy and seed. The message names file and line.
        OSError: one cannot be read.
    """
    found: dict[tuple[str, int, int], float] = {}
    n_labelled: dict[int, int] = {}
    for path in paths:
        _add(path, found, n_labelled)
    return _complete(paths, found, n_labelled)


def _add(path: Path, found: dict[tuple[str, int, int], float], n_labelled: dict[int, int]) -> None:
    """Adds the scores and the numbers of labels in a file."""
    rows = csv_rows(path)
    _, header = next(rows, (0, []))
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path}: wanted the columns {','.join(COLUMNS)}, got {header}")
    for number_of_line, line in rows:
        where = f"{path} line {number_of_line}"
        try:
            strategy, *numbers, text = line
            seed, number, labels = map(int, numbers)
            score = float(text)
        except ValueError:
            raise ValueError(f"{where}: wanted {','.join(COLUMNS)}, got {line}") from None
        if not 0 <= seed <= _MOST_SEED:
            raise ValueError(f"{where}: wanted a seed from 0 to {_MOST_SEED}, got {seed}")
        if not 0 <= labels <= _MOST_LABELS:
            raise ValueError(f"{where}: wanted n_labelled from 0 to {_MOST_LABELS}, got {labels}")
        if not math.isfinite(score):
            raise ValueError(f"{where}: wanted a finite score, got {text}")
        if (strategy, seed, number) in found:
            raise ValueError(f"{where}: {strategy}, seed {seed}, round {number} came before")
        if n_labelled.setdefault(number, labels) != labels:
            raise ValueError(
                f"{where}: wanted {n_labelled[number]} labels in round {number}, as in the "
                f"lines before, got {labels}"
            )
        found[strategy, seed, number] = score


def _complete(
    paths: Sequence[Path],
    found: dict[tuple[str, int, int], float],
    n_labelled: dict[int, int],
) -> CurvesFile:
    """The scores as an array; ValueError if one is missing."""
    path = ", ".join(map(str, paths))
    strategies = tuple(dict.fromkeys(strategy for strategy, _, _ in found))
    seeds = tuple(dict.fromkeys(seed for _, seed, _ in found))
    rounds = range(len(n_labelled))
    if len(rounds) < 2:
        raise ValueError(f"{path}: wanted the scores of two or more rounds, got {len(rounds)}")
    for strategy in strategies:
        for seed in seeds:
            for number in rounds:
                if (strategy, seed, number) not in found:
                    raise ValueError(f"{path}: lacks round {number} of {strategy}, seed {seed}")
    labels = np.array([n_labelled[number] for number in rounds], np.int64)
    if (np.diff(labels) <= 0).any():
        raise ValueError(f"{path}: wanted more labels in each round, got {labels.tolist()}")
    scores = [[[found[s, seed, n] for n in rounds] for seed in seeds] for s in strategies]
    return CurvesFile(strategies, seeds, labels, np.array(scores))
