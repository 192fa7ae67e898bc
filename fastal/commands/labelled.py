"""`fastal fit-temperature` and `fastal label-quality`: from a pool and labels to a result."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from fastal.base.text import as_json
from fastal.commands.command import CommandOptions, CommandRun
from fastal.labelled.confident_learning import ConfidentLearning, LabelQuality
from fastal.labelled.given_labels import with_labels
from fastal.labelled.label_quality import warn_of_left_out
from fastal.labelled.temperature_fit import TemperatureFit
from fastal.labelled.temperature_search import TemperatureSearch
from fastal.output.csv_lines import csv_lines
from fastal.output.target import Target, is_among
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources.files import Files

_DEFAULTS = CommandOptions()
_SCORING = ScoringOptions()


def print_temperature(
    pool: Files,
    labels: Path,
    *,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    kind: str = "logits",
) -> TemperatureFit:
    """Finds the temperature that labelled files fit best, and prints it on standard output.

    Args:
        pool: the files.
        labels: the file of labels.
        options: how the command is run.
        scoring: what to do with invalid rows.
        kind: as for `fastal.fit_temperature`.
    """
    search = TemperatureSearch(kind, scoring.on_invalid)
    # The result has the members of the pool.
    labelled = cast("Files", with_labels(pool, labels))
    target = Target(None, (), pool)
    with CommandRun("fit-temperature", search, labelled, target, options) as command_run:
        fit = command_run.run()
        with target.written() as file:
            file.write(as_json(asdict(fit)).encode() + b"\n")
        command_run.finish(invalid=fit.invalid)
    return fit


def label_quality_to_file(
    pool: Files,
    labels: Path,
    *,
    out: Path | None,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    kind: str = "logits",
    temperature: float = 1.0,
) -> LabelQuality:
    """Finds label issues in files and writes them, the worst first.

    Args:
        pool: the files.
        labels: a file of labels, as for `fastal.label_quality`.
        out: a .csv file, None for CSV on stdout; see `write_issues`.
        options: how the command is run.
        scoring: how probabilities are computed.
        kind: as for `fastal.label_quality`.
        temperature: as for `fastal.label_quality`.
    """
    reducer = ConfidentLearning(
        kind, temperature, on_invalid=scoring.on_invalid, backend=scoring.backend
    )
    target = Target(out, (".csv",), pool)
    if out is not None and is_among(Path(os.path.realpath(out)), [labels]):
        raise ValueError(f"out: {out} is the file of labels")
    labelled = cast("Files", with_labels(pool, labels))  # it has the members of the pool
    with CommandRun("label-quality", reducer, labelled, target, options) as command_run:
        quality = command_run.run()
        ids = pool.ids(np.asarray(quality.issues))
        with target.written() as file:
            write_issues(file, quality, ids)
        warn_of_left_out(quality)
        command_run.finish(
            invalid=quality.invalid, unlabelled=quality.unlabelled, issues=len(quality.issues),
            backend=reducer.backend_used,
        )  # fmt: skip
    return quality


def write_issues(file: BinaryIO, quality: LabelQuality, ids: Any = None) -> None:
    """Writes the issues as CSV, the worst first.

    The columns are rank (from 1), row, label, suggested, self_confidence and normalized_margin;
    then id, if the pool has ids.

    Args:
        file: open for writing bytes.
        quality: the issues.
        ids: [m], the ids of the rows of the issues; None if the pool has none.

    Example:
        >>> import fastal, io
        >>> probs = np.array([[0.875, 0.125], [0.75, 0.25], [0.25, 0.75], [0.75, 0.25]])
        >>> quality = fastal.label_quality(probs, [0, 0, 1, 1], kind="probs")
        >>> write_issues(file := io.BytesIO(), quality)
        >>> file.getvalue().decode().split()[0]
        'rank,row,label,suggested,self_confidence,normalized_margin'
    """
    rows, given, suggested, confidence, margin = map(
        np.asarray,
        (
            quality.issues, quality.given, quality.suggested, quality.self_confidence,
            quality.normalized_margin,
        ),
    )  # fmt: skip
    names = ["rank", "row", "label", "suggested", "self_confidence", "normalized_margin"]
    rank = np.arange(1, len(rows) + 1)
    columns = [rank, rows, given, suggested, confidence[rows], margin[rows]]
    if ids is not None:
        names.append("id")
        columns.append(np.asarray(ids))
    file.write(",".join(names).encode() + b"\n")
    file.writelines(csv_lines(*columns))
