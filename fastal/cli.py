"""The command line. Results alone go to stdout, progress and messages to stderr.

Exit status: 0; 2 for bad usage or bad input, with one line that says what was wrong; 3 where files
were skipped, so that nobody takes part of a pool for the whole; 130 or 143 after SIGINT or SIGTERM.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

import fastal
from fastal.backend import BACKENDS, backend_reasons, instruction_set
from fastal.convert import convert_picks, convert_pool
from fastal.errors import Interrupted
from fastal.interrupts import raising
from fastal.job import How, versions
from fastal.jobs import score_to_file, select_to_file
from fastal.noise import NOISES
from fastal.picks_files import PICKS_SUFFIXES
from fastal.progress import Reporter
from fastal.scores import KINDS, MEASURES
from fastal.sources import open_pool
from fastal.sources.files import Files

_Command = Callable[..., Any]


class _BadInput(click.ClickException):
    exit_code = 2


def _reports_bad_input(command: _Command) -> _Command:
    """Turns an error about arguments or files into one line and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with raising() as end:
                try:
                    return command(*args, **kwargs)
                except Interrupted as interrupted:
                    end()
                    saved = "; --resume goes on" if kwargs.get("checkpoint") else ""
                    click.echo(f"{interrupted}{saved}", err=True)
                    click.get_current_context().exit(128 + interrupted.signal)
        except BrokenPipeError:
            raise  # whoever read the output has seen enough: click ends quietly
        except (ValueError, TypeError, OSError, ImportError) as error:
            raise _BadInput(" ".join(str(error).split())) from error

    return wrapped


def _with(*options: _Command) -> _Command:
    """Decorates a command with options, in this order."""

    def decorated(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


_POOL = _with(
    click.argument("pool", nargs=-1, required=True, metavar="POOL..."),
    click.option("--column", help="The array or column of predictions, where a file has several."),
    click.option(
        "--columns", help="Columns of predictions, one a class: names or patterns, with commas."
    ),
    click.option("--id-column", help="The array or column of ids, which travel to the picks."),
    click.option(
        "--dtype",
        type=click.Choice(["float16", "bfloat16", "float32", "float64"]),
        help="What a column of plain bytes holds.",
    ),
    click.option(
        "--on-bad-file",
        type=click.Choice(["raise", "skip"]),
        default="raise",
        show_default=True,
        help="Files that are unreadable, cut short or of another shape: stop, or leave them out, "
        "name them, and exit with status 3.",
    ),
)
_SCORING = _with(
    click.option(
        "--kind",
        type=click.Choice(KINDS),
        default="logits",
        show_default=True,
        help="What the pool holds.",
    ),
    click.option(
        "--on-invalid",
        type=click.Choice(["raise", "skip"]),
        default="raise",
        show_default=True,
        help="Rows with NaN, +inf or no finite value: stop, or leave them out and count them.",
    ),
    click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True),
)
_RUNNING = _with(
    click.option(
        "--checkpoint",
        type=click.Path(path_type=Path, file_okay=False),
        help="A folder to save the state in, every 30 seconds and on SIGINT or SIGTERM.",
    ),
    click.option("--resume", is_flag=True, help="Go on from the checkpoint, if there is one."),
    click.option(
        "--chunk-mb",
        type=click.IntRange(min=1),
        help="How much of the pool to look at in one go. Default: 32, or 256 of mapped files.",
    ),
    click.option("--quiet", is_flag=True, help="No progress, no summary."),
    click.option("--log-json", is_flag=True, help="Progress and messages as JSON, one a line."),
)


def _run_over(
    work: Callable[..., Any],
    pool: tuple[str, ...],
    options: dict[str, Any],
    group_column: str | None = None,
) -> None:
    """Opens the pool and does the work on it, as the options of `_POOL` and `_RUNNING` say."""
    reporter = Reporter(quiet=options.pop("quiet"), as_json=options.pop("log_json"))
    chunk_mb = options.pop("chunk_mb")
    how = How(
        options.pop("checkpoint"),
        options.pop("resume"),
        None if chunk_mb is None else chunk_mb << 20,
        reporter,
    )
    column, columns = options.pop("column"), options.pop("columns")
    if column and columns:
        raise ValueError("columns: not together with column")
    with reporter.warnings():
        source = open_pool(
            list(pool),
            column=columns.split(",") if columns else column,
            group_column=group_column,
            **{name: options.pop(name) for name in ("id_column", "dtype", "on_bad_file")},
        )
        assert isinstance(source, Files)
        work(source, how=how, **options)
    if source.skipped:
        click.get_current_context().exit(3)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastal.__version__, package_name="fastal")
def main() -> None:
    """Pick the rows of an unlabelled pool that are most worth labelling.

    A POOL is a file of predictions [rows, classes] (.npy, .npz, .safetensors, .pt, .parquet,
    .arrow, .h5, .zarr), a folder of them, a glob, a URL, a manifest, or several of these; rows are
    numbered across files in the order of their paths.
    """


@main.command()
@_POOL
@click.option("--k", type=int, help="How many rows to pick. Without it, --per-group says so.")
@click.option("--by", type=click.Choice(MEASURES), default="entropy", show_default=True)
@click.option(
    "--per-group", type=int, help="At most so many rows of a group; without --k, exactly."
)
@click.option("--group-column", help="The array or column of groups.")
@click.option("--group-by-prediction", is_flag=True, help="Groups are predicted classes.")
@click.option(
    "--noise",
    type=click.Choice(NOISES),
    help="Pick at random, the more uncertain the likelier: stochastic batch acquisition.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--beta", type=float, default=1.0, show_default=True, help="The larger, the less random."
)
@_SCORING
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A .csv, .jsonl, .parquet or .json file (Label Studio tasks); default: CSV on standard "
    "output.",
)
@_RUNNING
@_reports_bad_input
def select(
    pool: tuple[str, ...], group_column: str | None, group_by_prediction: bool, **options: Any
) -> None:
    """Print the k most uncertain rows as CSV: rank, row, score, and id and group if there are."""
    if options["k"] is None and options["per_group"] is None:
        raise click.UsageError("Missing option '--k' or '--per-group'.")
    if options["per_group"] is None and (group_column or group_by_prediction):
        raise click.UsageError("Groups are for --per-group.")
    _run_over(select_to_file, pool, {**options, "predicted": group_by_prediction}, group_column)


@main.command()
@_POOL
@click.option(
    "--by",
    type=click.Choice(MEASURES),
    multiple=True,
    default=MEASURES,
    help="A score to write; may be given several times. Default: all four.",
)
@_SCORING
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A .npy file (a field a score) or a .csv file; default: CSV on standard output.",
)
@_RUNNING
@_reports_bad_input
def score(pool: tuple[str, ...], by: tuple[str, ...], **options: Any) -> None:
    """Write the scores of every row; 1 is most uncertain."""
    _run_over(score_to_file, pool, {**options, "by": tuple(dict.fromkeys(by))})


@main.command()
@_POOL
@click.option("--group-column", help="The array or column of groups.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder to be, for a pool; or a .csv, .jsonl, .parquet or .json file, for picks.",
)
@click.option(
    "--shard-mb", type=click.IntRange(min=1), default=1024, show_default=True,
    help="How large a shard may get.",
)  # fmt: skip
@_RUNNING
@_reports_bad_input
def convert(
    pool: tuple[str, ...], group_column: str | None, out: Path, shard_mb: int, **options: Any
) -> None:
    """Write a pool as .npy shards with a manifest, which are read at the speed of memory.

    Ids and groups go along where their columns are named. Parquet is worth converting that is read
    more than once: decoding it takes much longer than scoring.

    A file of picks is written in another format: --out tasks.json makes tasks for Label Studio.
    """
    if out.suffix in PICKS_SUFFIXES:
        if len(pool) != 1:
            raise ValueError(f"picks: wanted one file for {out}, got {len(pool)}")
        convert_picks(Path(pool[0]), out)
        return
    _run_over(
        convert_pool, pool, {**options, "out": out, "shard_bytes": shard_mb << 20}, group_column
    )


@main.command()
@_reports_bad_input
def info() -> None:
    """Print versions, devices and backends, with the reason where one cannot be used."""
    for package, found in versions().items():
        click.echo(f"{package:<10} {found}")
    instructions = instruction_set()
    threads = f"{torch.get_num_threads()} threads"
    click.echo(
        f"{'cpu':<10} {threads}, {instructions}" if instructions else f"{'cpu':<10} {threads}"
    )
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        click.echo(f"{f'cuda:{index}':<10} {device.name}, {device.total_memory / 1e9:.0f} GB")
    for backend, reasons in backend_reasons().items():
        click.echo(f"{backend:<10} {'; '.join(reasons) or 'usable'}")


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fastal-demo"),
    show_default=True,
    help="The folder for logits, picks and picture.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True)
@_reports_bad_input
def demo(out: Path, seeds: int) -> None:
    """Pick rows from a real pool, and measure what labelling them is worth."""
    try:
        from fastal.demo import run_demo
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error}; the demo needs: pip install 'fastal[demo]'") from error
    run_demo(out, seeds)
