"""Commands of uncertainty: `select` and `score`."""

from pathlib import Path
from typing import Any

import click

from fastal.base.argument_values import (
    DISAGREEMENT_SCORES,
    NOISES,
    SELECTION_SCORES,
    UNCERTAINTY_SCORES,
)
from fastal.cli.help import Command, output_option, pool_option, selection_option
from fastal.cli.model_output import OUTPUT
from fastal.cli.options import (
    ENGINE,
    GROUPS,
    K_OR_PER_GROUP,
    PICKS_OUT,
    POOL,
    ROWS,
    RUNNING,
    SCORING,
    TIES_OPTION,
    check_quotas,
    check_used,
    loading,
    reports_bad_input,
    run_over,
)


@click.command(
    cls=Command,
    examples=(
        "fastal select logits.npy --k 100 --by margin --out picks.csv",
        "fastal select pool/*.parquet --k 100 --carry text --label-config config.xml --out t.json",
    ),
)
@K_OR_PER_GROUP
@selection_option(
    "--by",
    type=click.Choice(SELECTION_SCORES),
    default="margin",
    show_default=True,
    help="Score to pick by. Those from bald to variance are of several draws. score ranks your "
    "own scores. random picks random rows, for a baseline.",
)
@GROUPS
@selection_option(
    "--groups",
    help="Groups of the rows: predicted, for the predicted classes; or a file of labels, such as "
    "`fastal assign` writes (.parquet, .csv, .npy). Rows are matched by id if file and pool have "
    "ids, else by row number.",
)
@selection_option(
    "--noise",
    type=click.Choice(NOISES),
    help="Draw the picks at random, the more uncertain rows more often. The batches become more "
    "varied (stochastic batch acquisition).",
)
@selection_option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of --noise, --by random and --ties random. The same seed gives the same picks.",
)
@selection_option(
    "--beta",
    type=float,
    default=1.0,
    show_default=True,
    help="Weight of the scores against the noise. A larger weight makes the picks less random.",
)
@TIES_OPTION
@ROWS
@pool_option(
    "--head",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the weight and the bias of a model's last layer (.safetensors, .npz, .pt). The "
    "pool then holds hidden states, of which the layer makes the logits.",
)
@OUTPUT
@POOL
@SCORING
@PICKS_OUT
@output_option(
    "--label-config",
    help="For a .json file: XML file of the labelling configuration of a Label Studio project. The "
    "tasks get the predicted class as a prediction. If the file has several Choices tags, add the "
    "name of one: config.xml:sentiment.",
)
@output_option(
    "--class-names",
    help="Names of the classes in their order, separated by commas; or a file with one per line. "
    "Default: the choices of --label-config.",
)
@ENGINE
@RUNNING
@reports_bad_input
def select(
    pool: tuple[str, ...], group_column: str | None, groups: str | None, **options: Any
) -> None:
    """Pick the k most uncertain rows.

    Writes CSV: rank, row, score, then the id and the group if the pool has them.
    """
    check_quotas(options, {"--groups": groups, "--group-column": group_column})
    noise = options["noise"]
    is_random = options["by"] == "random" or options["ties"] == "random"
    check_used("seed", noise or is_random, "--noise, --by random or --ties random")
    check_used("beta", noise, "--noise")
    with loading():
        from fastal.commands.uncertainty import select_to_file
    run_over(select_to_file, pool, {**options, "groups": groups}, group_column)


@click.command(cls=Command, examples=("fastal score logits.npy --by entropy --out scores.npy",))
@selection_option(
    "--by",
    type=click.Choice((*UNCERTAINTY_SCORES, *DISAGREEMENT_SCORES)),
    multiple=True,
    default=UNCERTAINTY_SCORES,
    help="Score to write. Repeat the option for several scores. Default: the first four. The "
    "others are of several draws.",
)
@OUTPUT
@POOL
@SCORING
@output_option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write: .npy with one field per score, or .csv. Default: CSV on standard output.",
)
@ENGINE
@RUNNING
@reports_bad_input
def score(pool: tuple[str, ...], by: tuple[str, ...], **options: Any) -> None:
    """Write the uncertainty scores of every row.

    Scores are from 0 to 1; 1 is most uncertain.
    """
    with loading():
        from fastal.commands.uncertainty import score_to_file
    run_over(score_to_file, pool, {**options, "by": tuple(dict.fromkeys(by))})
