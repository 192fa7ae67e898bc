"""`fastal fit-temperature`: from a pool and labels to a line of JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import cast

from fastal.base.text import as_json
from fastal.commands.command import CommandOptions, CommandRun
from fastal.labelled.temperature_fit import TemperatureFit
from fastal.labelled.temperature_search import TemperatureSearch
from fastal.output.target import Target
from fastal.pipeline.given_groups import with_groups
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
    labelled = cast("Files", with_groups(pool, labels, are_wanted=True, name="labels"))
    target = Target(None, (), pool)
    with CommandRun("fit-temperature", search, labelled, target, options) as command_run:
        fit = command_run.run()
        with target.written() as file:
            file.write(as_json(asdict(fit)).encode() + b"\n")
        command_run.finish(invalid=fit.n_invalid)
    return fit
