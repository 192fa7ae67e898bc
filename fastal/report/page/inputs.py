"""What a report is made of: files that are recognised by what they hold, and objects."""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from fastal.base.csv_rows import csv_rows
from fastal.output.target import is_among
from fastal.picks.files import PICKS_SUFFIXES, read_picks
from fastal.picks.picks import Picks
from fastal.report.page.distribution import NOT_SCORES
from fastal.report.page.named_picks import NamedPicks
from fastal.report.page.record import read_record
from fastal.report.page.unused import unused
from fastal.simulation.curves_file import COLUMNS
from fastal.simulation.result import Simulation

_RECORD = ".run.json"


@dataclass
class Inputs:
    """What was found, by its name.

    Attributes:
        picks: the picks, in order.
        simulations: the curves.
        score_files: the files of scores.
        used: a line for each input, which says what it is.
        left_out: a line for each file of a folder that was not used, with the reason.
        warnings: a line for each record that is damaged, and not used.
    """

    picks: list[NamedPicks] = field(default_factory=list)
    simulations: dict[str, Simulation] = field(default_factory=dict)
    score_files: dict[str, Path] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def inputs_of(run: Any, out: Path) -> Inputs:
    """Recognises what a run is.

    Args:
        run: see `write_report`.
        out: the page, which is no input.

    Raises:
        ValueError: there is nothing to show; a file is not recognised; or it is damaged.
        TypeError: `run` is of another type.
        OSError: a file cannot be read.
    """
    found = Inputs()
    given = run if isinstance(run, (list, tuple)) else [run]
    if not given:
        raise ValueError("run: wanted picks, scores or curves, got an empty list")
    for item in given:
        if isinstance(item, Picks):
            name = unused(item.strategy or "picks", [of.name for of in found.picks])
            found.picks.append(NamedPicks(name, item))
            found.used.append(f"{name}: {len(item):,} picks, in memory")
        elif isinstance(item, Simulation):
            name = unused("simulation", found.simulations)
            found.simulations[name] = item
            found.used.append(f"{name}: learning curves, in memory")
        elif not isinstance(item, (str, os.PathLike)):
            raise TypeError(
                f"run: wanted a folder, a file, Picks or a Simulation, got {type(item).__name__}"
            )
        elif not os.fspath(item):
            raise ValueError("run: wanted a folder or a file, got an empty path")
        elif not Path(item).exists():
            raise FileNotFoundError(f"{item}: no such file or folder")
        elif Path(item).is_dir():
            _add_folder(found, Path(item), out)
        elif reason := _add(found, Path(item), out):
            raise ValueError(f"{item}: {reason}")
    return found


def _add_folder(found: Inputs, folder: Path, out: Path) -> None:
    """Adds all files of a folder that are recognised; ValueError if none is."""
    before = len(found.used)
    reasons: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith(_RECORD):
            continue
        if path.name == out.name and path.parent.resolve() == out.parent.resolve():
            continue  # an older page
        reason = "a folder" if path.is_dir() else _add(found, path, out)
        if reason:
            reasons.append(f"{path}: {reason}")
    found.left_out += reasons
    if len(found.used) == before:
        which = f": {reasons[0]}" if len(reasons) == 1 else ""
        raise ValueError(
            f"{folder}: wanted a folder with picks, scores or learning curves; none of its files "
            f"is recognised{which}"
        )


def _add(found: Inputs, path: Path, out: Path) -> str:
    """Adds a file, or says why it is not used. ValueError if it would be overwritten."""
    for read in (path, path.with_name(path.stem + _RECORD)):
        if is_among(read, [out]):
            raise ValueError(f"out: {out} is {read}, which is one of the files to read")
    suffix = path.suffix
    if not path.is_file():
        return "not a regular file"
    if suffix == ".csv":
        try:
            with closing(csv_rows(path)) as rows:
                (_, header), (_, first) = next(rows, (0, [])), next(rows, (0, []))
        except ValueError as error:
            return f"not a table: {str(error).removeprefix(f'{path} ')}"
        if tuple(header) == COLUMNS:
            name = unused(path.name, found.simulations)
            simulation = found.simulations[name] = Simulation.load(path)
            n = len(simulation.strategies)
            found.used.append(f"{path}: learning curves of {n} strateg{'y' if n == 1 else 'ies'}")
            return ""
        if not {"row", "score"} <= set(header):
            names = [name for name in header if name not in NOT_SCORES]
            return _why_no_scores(header, first) or _add_scores(found, path, names)
    if suffix == ".npy":
        try:
            return _add_scores(found, path, _fields(path))
        except ValueError as error:
            return str(error)
    if suffix not in PICKS_SUFFIXES:
        return f"its suffix is none of .npy, {', '.join(PICKS_SUFFIXES)}"
    try:
        picks = read_picks(path)
    except ValueError as error:
        if suffix == ".csv":  # its columns say that it holds picks
            raise
        return str(error).removeprefix(f"{path}: ")
    if not len(picks):
        return "no picks"
    name = unused(path.stem, [of.name for of in found.picks])
    try:
        record = read_record(path)
    except ValueError as error:
        record = {}
        found.warnings.append(f"{error}; the record is not used")
    found.picks.append(NamedPicks(name, picks, record, path.parent))
    found.used.append(f"{path}: {len(picks):,} picks")
    return ""


def _add_scores(found: Inputs, path: Path, names: Sequence[str]) -> str:
    """Adds a file of scores, or says why it is none."""
    if not names:
        return (
            "not scores, as `fastal score` writes them; predictions are given as pool, embeddings "
            "as embeddings"
        )
    found.score_files[unused(path.name, found.score_files)] = path
    found.used.append(f"{path}: scores: {', '.join(names)}")
    return ""


def _why_no_scores(header: Sequence[str], first: Sequence[str]) -> str:
    """Why a table with this header and this first line holds no scores; empty if it does."""
    if "row" not in header or "rank" in header or set(header) <= set(NOT_SCORES):
        return "wanted the columns row and score, or a column row and columns of scores"
    for name, value in zip(header, first, strict=False):
        if name not in NOT_SCORES and not _is_number(value):
            return f"wanted columns of scores, and {name} is no number"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fields(path: Path) -> list[str]:
    """The fields of floats in a structured .npy file; empty if it is something else.

    Raises:
        ValueError: it is no .npy file.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
            raise ValueError("not a .npy file: it begins with other bytes")
    try:
        held = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"not a .npy file: {error}") from error
    names = held.dtype.names or ()
    return [name for name in names if held.dtype[name].kind == "f"] if held.ndim == 1 else []
