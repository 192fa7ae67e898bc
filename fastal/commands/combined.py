"""Commands of strategies of several stages: their functions run over files, and write the picks."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.errors import prefixing_errors
from fastal.combine.transfer_picks import TransferPicks
from fastal.combine.weighted import Part, weighted
from fastal.commands.command import (
    CommandOptions,
    check_not_picks,
    report_skipped,
    versions,
    what_was_read,
    write_record,
)
from fastal.commands.uncertainty import put_picks
from fastal.output.target import Target, is_among
from fastal.picks.picks import Picks
from fastal.pipeline.given_groups import check_has_groups
from fastal.pipeline.watched_runs import WatchedRuns, watching
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources.files import Files
from fastal.sources.label_files import read_labels

_DEFAULTS = CommandOptions()
_SCORING = ScoringOptions()
_TRUTH = {"True": True, "true": True, "False": False, "false": False, "1": True, "0": False}


def strategy_to_file(
    command: str,
    strategy: Callable[..., Picks],
    pool: Files,
    *,
    out: Path | None,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    output: ModelOutput | None = None,
    is_correct: Path | None = None,
    **arguments: Any,
) -> Picks:
    """Runs a function that picks rows over files, and writes its picks.

    Args:
        command: its name.
        strategy: the function, which takes the pool first.
        pool: the files.
        out: as for `select_to_file`.
        options: how the function is run.
        scoring: how rows are scored.
        output: what the files hold; None: the function does not take it.
        is_correct: a file, see `read_correctness`; None: the function does not take it.
        arguments: further arguments of the function, of which some are files. What is None is left
            to the function.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    others = {name: value for name, value in given.items() if isinstance(value, Files)}
    target = Target(out, options.picks_suffixes, pool, *others.values())
    check_not_picks(out, exclude=options.exclude, among=options.among)
    if options.checkpoint is not None:
        target.check_not_read(Path(options.checkpoint), "checkpoint")
        given |= {"checkpoint": options.checkpoint, "resume": options.resume}
    if given.get("per_group") is not None:
        check_has_groups(pool)
    given |= {**vars(scoring), **({} if output is None else vars(output))}
    plain = {name: value for name, value in given.items() if name not in others}
    if is_correct is not None:
        plain["is_correct"] = str(is_correct)
        given["is_correct"] = read_correctness(is_correct, out)
    began = time.perf_counter()
    with watching(options.reporter) as runs:
        picks = strategy(
            pool, exclude=options.exclude, among=options.among, chunk_bytes=options.chunk_bytes,
            **given,
        )  # fmt: skip
    put_picks(target, picks, options.export)
    outcome = _outcome(picks, runs, time.perf_counter() - began)
    of_others = {name: [str(file.file) for file in other.files] for name, other in others.items()}
    read = what_was_read(command, plain, pool, target, options)
    skipped = list(dict.fromkeys(s for files in (pool, *others.values()) for s in files.skipped))
    read["skipped"] = [file._asdict() for file in skipped]
    write_record(target, {**read, "other_pools": of_others, **outcome, "versions": versions()})
    _report(picks, outcome, len(skipped), options)
    report_skipped(options.reporter, skipped)
    return picks


def weighted_parts(
    pool: Files,
    *,
    parts: Sequence[tuple[str, float]],
    k: int,
    scale: str,
    combination: str,
    kind: str,
    temperature: float,
    class_axis: int,
    draws_axis: int | None,
    aggregate: str | None,
    **options: Any,
) -> Picks:
    """The picks of `combine.weighted`, by scores of one pool and scores in files.

    Args:
        pool: the files.
        parts: scores and weights; a score is a name, or a file that `options` has as parts[i].
        k: as for `combine.weighted`.
        scale: as for `combine.weighted`.
        combination: as for `combine.weighted`.
        kind: what the pool holds, as for `fastal.select`.
        temperature: likewise.
        class_axis: likewise.
        draws_axis: likewise.
        aggregate: likewise.
        options: the scores in files by name, and further arguments of `combine.weighted`.
    """
    found = []
    for i, (by, weight) in enumerate(parts):
        scores = options.pop(f"parts[{i}]", None)
        with prefixing_errors(f"parts[{i}]"):
            if scores is not None:
                found.append(Part(scores, "score", weight))
            else:
                found.append(
                    Part(pool, by, weight, kind, temperature, class_axis, draws_axis, aggregate)
                )
    return weighted(found, k, scale=scale, combination=combination, **options)


def read_correctness(path: Path, out: Path | None) -> NDArray[np.bool_]:
    """Which validation rows a model predicts correctly, as a file says.

    Args:
        path: a .npy file of bools; or a .csv or .parquet file with a column is_correct, of which
            the rows are in the order of the validation rows. Text may be true or false, numbers 1
            or 0.
        out: the file to write, which may not be this file.

    Raises:
        ValueError, TypeError, OSError: the file cannot be read, or a value is not true or false.
    """
    if out is not None and is_among(Path(os.path.realpath(out)), [path]):
        raise ValueError(f"out: {out} is the file of is_correct")
    with prefixing_errors("is_correct"):
        column = read_labels(path, ("is_correct",)).labels
        values = column.tolist()
        found = [_TRUTH.get(str(value)) for value in values]
        if None in found:
            row = found.index(None)
            raise ValueError(
                f"{path}: row {row} has {values[row]!r}; wanted true or false, or 1 or 0"
            )
        return np.array(found, bool)


def _outcome(picks: Picks, runs: WatchedRuns, seconds: float) -> dict[str, Any]:
    meters = runs.meters
    auc = {"auc": picks.auc} if isinstance(picks, TransferPicks) else {}
    return {
        "rows": sum(meter.rows for meter in meters),
        "passes": sum(meter.passes + 1 for meter in meters),
        "bytes": sum(meter.bytes for meter in meters),
        "seconds": round(seconds, 3),
        "invalid": picks.invalid,
        **auc,
    }


def _report(picks: Picks, outcome: dict[str, Any], n_skipped: int, options: CommandOptions) -> None:
    reporter = options.reporter
    if isinstance(picks, TransferPicks):
        reporter.say(f"held-out AUC of the small model: {picks.auc:.3f}", "auc", auc=picks.auc)
    left_out = f", {picks.invalid:,} invalid rows left out" if picks.invalid else ""
    line = f"{len(picks):,} picks in {outcome['seconds']:.3g} s{left_out}"
    reporter.say(line, "done", picks=len(picks), **outcome, skipped=n_skipped)
