"""`fastal select` and `fastal score`: from pool to files."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

from fastal.base.argument_values import DISAGREEMENT_SCORES
from fastal.base.reducer import Reducer
from fastal.commands.command import CommandOptions, CommandRun
from fastal.commands.head_file import read_head
from fastal.output.score_files import (
    CsvSink,
    NpySink,
    ScoreWriter,
    Sink,
    Written,
    table_dtype,
)
from fastal.output.target import Target, is_among
from fastal.picks.files import write_picks
from fastal.picks.label_config import Control, read_control
from fastal.picks.label_studio import task_columns
from fastal.picks.picks import Picks
from fastal.picks.tool_export import ToolExport
from fastal.pipeline.given_groups import with_groups
from fastal.pipeline.predicted import predicted_classes
from fastal.pipeline.progress import is_terminal
from fastal.pipeline.run_on_pool import with_ids
from fastal.scoring.measure_for import By, uncertainty_of
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.pick_warnings import warn_of
from fastal.selection.selector_for import selector_for
from fastal.sources.files import Files


class Annotation(NamedTuple):
    """The choice that annotators make, and the names of the classes in their order."""

    control: Control
    classes: list[str]


_DEFAULTS = CommandOptions()
_SCORING = ScoringOptions()
_OUTPUT = ModelOutput()


def select_to_file(
    pool: Files,
    k: int | None,
    by: str,
    *,
    out: Path | None,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    output: ModelOutput = _OUTPUT,
    per_group: int | None = None,
    groups: str | None = None,
    noise: str | None = None,
    seed: int = 0,
    beta: float = 1.0,
    ties: str = "first",
    label_config: str | None = None,
    class_names: str | None = None,
    head: Path | None = None,
) -> Picks:
    """Selects from files and writes the picks: rank, row, score, id, group, carried columns.

    Args:
        pool: the files.
        k: how many rows; None: as many as the quotas say.
        by: the measure.
        out: a .csv, .jsonl, .parquet or .json file (see `write_picks`), None for CSV on stdout.
        options: how the command is run.
        scoring: how the measure is applied.
        output: what the files hold.
        per_group: with k, the most rows of a group; without k, so many of each group.
        groups: "predicted" for the predicted classes; or a file of labels; None: the pool's own.
        noise: as for `fastal.select`.
        seed: as for `fastal.select`.
        beta: as for `fastal.select`.
        ties: as for `fastal.select`.
        label_config: for tasks: the labelling configuration; the tasks then have the predicted
            classes as predictions. See `Picks.save`.
        class_names: the names of the classes, separated by commas; or a file with a name per line.
            For an annotation tool, the examples then have the predicted classes.
        head: a file with the head of a model, if the rows are hidden states; see `read_head`.
    """
    annotation = None
    export = options.export
    if export is not None and label_config is not None:
        raise ValueError(f"label_config: wanted none with format={export.tool!r}")
    wants_classes = class_names if label_config is None else label_config
    if wants_classes is not None:
        argument = "class_names" if label_config is None else "label_config"
        if head is not None:
            raise ValueError(f"{argument}: wanted rows of predictions, got hidden states and head")
        if not output.is_distribution or by in DISAGREEMENT_SCORES:
            raise ValueError(
                f"{argument}: it wants one predicted class for each row, and the pool has draws, "
                "labels or items of several rows"
            )
        if export is not None:
            export.check_takes_labels("class_names")
            control = export.control
        elif label_config is not None:
            control = _control(label_config, pool, out, has_groups=per_group is not None)
        else:
            raise ValueError("class_names: wanted label_config, or format, too")
        annotation = Annotation(control, _classes(control, class_names, pool))
    predicted = groups == "predicted"
    measure: By = by
    if head is not None:
        measure = read_head(head, by, output.temperature)
        output = replace(output, temperature=1)
    selector = selector_for(
        k, measure, output, scoring, per_group=per_group, predicted=predicted, noise=noise,
        seed=seed, beta=beta, ties=ties,
    )  # fmt: skip
    target = Target(out, options.picks_suffixes, pool)
    if out is not None and head is not None and is_among(Path(os.path.realpath(out)), [head]):
        raise ValueError(f"out: {out} is the file of head")
    if groups is None or predicted:
        return picks_to_file("select", selector, pool, target, options, annotation)
    if out is not None and is_among(Path(os.path.realpath(out)), [Path(groups)]):
        raise ValueError(f"out: {out} is the file of groups")
    return picks_to_file("select", selector, pool, target, options, annotation, groups=groups)


def _control(label_config: str, pool: Files, out: Path | None, *, has_groups: bool) -> Control:
    """The choice in tasks. All that can be wrong is checked before the pool is read."""
    if out is None or out.suffix != ".json":
        raise ValueError(f"label_config: wanted out, a .json file of tasks, got {out}")
    control = read_control(label_config)
    names = {"rank", "row", "score", *pool.columns.carried}
    names |= {"id"} if pool.columns.ids else set()
    names |= {"group"} if has_groups else set()
    control.check_fields(task_columns(sorted(names)))
    return control


def _classes(control: Control, class_names: str | None, pool: Files) -> list[str]:
    """The names of the classes of the pool, in their order."""
    shape = pool.files[0].row_shape
    given = None if class_names is None else _names_of(class_names)
    return control.classes(given, shape[-1] if shape else None)


def _names_of(class_names: str) -> list[str]:
    """The names in a file, one per line; or those in an argument, separated by commas."""
    if os.path.isfile(class_names):  # noqa: PTH113 (names may have any length)
        return Path(class_names).read_text("utf-8").splitlines()
    return [name.strip() for name in class_names.split(",")]


def picks_to_file(
    command: str,
    reducer: Reducer[Picks],
    pool: Files,
    target: Target,
    options: CommandOptions,
    annotation: Annotation | None = None,
    *,
    groups: str | None = None,
) -> Picks:
    """Writes the picks that a reducer ends in.

    Args:
        command: its name.
        reducer: selects.
        pool: the files.
        target: what the picks are written to.
        options: how the command is run.
        annotation: what tasks get beside the picks.
        groups: a file of labels; None: the pool's own.
    """
    # The result has the members of the pool.
    labelled = cast("Files", with_groups(pool, groups, are_wanted=reducer.takes_groups))
    with CommandRun(command, reducer, labelled, target, options) as command_run:
        picks = with_ids(command_run.run(), pool, reducer)
        put_picks(target, picks, options.export, *_annotated(picks, pool, annotation))
        warn_of(picks, reducer, pool)
        command_run.finish(invalid=picks.invalid, backend=reducer.backend_used)
    return picks


def _annotated(
    picks: Picks, pool: Files, annotation: Annotation | None
) -> tuple[Control | None, list[str | None] | None]:
    """The control, and what the model predicts for the picks, whose rows are read again."""
    if annotation is None:
        return None, None
    predicted = predicted_classes(pool, picks.rows)
    return annotation.control, annotation.control.labels(predicted, annotation.classes, len(picks))


def put_picks(
    target: Target,
    picks: Picks,
    export: ToolExport | None = None,
    control: Control | None = None,
    labels: Sequence[str | None] | None = None,
) -> None:
    """Writes picks to a file that appears whole, or to standard output, as CSV or for a tool."""
    suffix = ".csv" if target.out is None else target.out.suffix
    with target.written() as file:
        write_picks(file, picks, suffix, control, labels, export)


def score_to_file(
    pool: Files,
    by: Sequence[str],
    *,
    out: Path | None,
    options: CommandOptions = _DEFAULTS,
    scoring: ScoringOptions = _SCORING,
    output: ModelOutput = _OUTPUT,
) -> Written:
    """Scores every row of files and writes the scores.

    Args:
        pool: the files.
        by: the names of the scores to write.
        out: a .npy file (structured array, a field per score), a .csv file (row, then a column per
            score), or None for CSV on stdout.
        options: how the command is run.
        scoring: how the scores are computed.
        output: what the files hold.
    """
    check_resumable(out, options)
    measure = uncertainty_of(tuple(by), output)
    is_npy = out is not None and out.suffix == ".npy"
    target = Target(out, (".npy", ".csv"), pool)
    sink = (NpySink if is_npy else CsvSink)(pool.n_rows, table_dtype(by))
    return rows_to_file("score", ScoreWriter(sink, measure, scoring), sink, pool, target, options)


def check_resumable(out: Path | None, options: CommandOptions) -> None:
    """ValueError if the run is to be resumed and its output cannot be continued."""
    if options.checkpoint is None:
        return
    if out is None:
        raise ValueError("checkpoint: wanted out, a file: what stdout was given is not kept")
    if out.suffix == ".parquet":
        raise ValueError("checkpoint: a Parquet file cannot be continued; wanted .csv or .npy")


def rows_to_file(
    command: str,
    writer: ScoreWriter,
    sink: Sink,
    pool: Files,
    target: Target,
    options: CommandOptions,
) -> Written:
    """Writes values of every row while the pool is read.

    Args:
        command: its name.
        writer: computes the values.
        sink: the writer's own.
        pool: the files.
        target: what the values are written to.
        options: how the command is run.
    """
    with CommandRun(command, writer, pool, target, options) as command_run:
        with command_run.output() as file, sink.opened(file):
            to_terminal = target.out is None and is_terminal(sys.stdout)
            written = command_run.run(writes_to_terminal=to_terminal)
        command_run.finish(invalid=written.invalid, backend=writer.backend_used)
    return written
