"""The command line. Results alone go to stdout, progress and messages to stderr.

Exit status: 0; 2 for bad usage or bad input, with one line that says what was wrong.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

import fastal
from fastal.backend import BACKENDS, backend_reasons, instruction_set
from fastal.jobs import score_to_file, select_to_file, versions
from fastal.scores import KINDS, MEASURES

_Command = Callable[..., Any]


class _BadInput(click.ClickException):
    exit_code = 2


def _reports_bad_input(command: _Command) -> _Command:
    """Turns an error about arguments or files into one line and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # whoever read the output has seen enough: click ends quietly
        except (ValueError, TypeError, OSError) as error:
            raise _BadInput(" ".join(str(error).split())) from error

    return wrapped


def _scoring_options(command: _Command) -> _Command:
    for option in (
        click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True),
        click.option(
            "--on-invalid",
            type=click.Choice(["raise", "skip"]),
            default="raise",
            show_default=True,
            help="Rows with NaN, +inf or no finite value: stop, or leave them out and count them.",
        ),
        click.option(
            "--kind",
            type=click.Choice(KINDS),
            default="logits",
            show_default=True,
            help="What the pool holds.",
        ),
        click.argument("pool", nargs=-1, required=True, metavar="POOL..."),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastal.__version__, package_name="fastal")
def main() -> None:
    """Pick the rows of an unlabelled pool that are most worth labelling.

    A POOL is a .npy file of predictions [rows, classes], a folder of them, a glob, or several of
    these; rows are numbered across files in the order of their paths.
    """


@main.command()
@_scoring_options
@click.option("--k", type=int, required=True, help="How many rows to pick.")
@click.option("--by", type=click.Choice(MEASURES), default="entropy", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="A .csv file; default: standard output."
)
@_reports_bad_input
def select(pool: tuple[str, ...], k: int, by: str, out: Path | None, **options: str) -> None:
    """Print the k most uncertain rows as CSV: rank, row, score."""
    select_to_file(pool, k, by, out=out, **options)


@main.command()
@_scoring_options
@click.option(
    "--by",
    type=click.Choice(MEASURES),
    multiple=True,
    default=MEASURES,
    help="A score to write; may be given several times. Default: all four.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A .npy file (a field a score) or a .csv file; default: CSV on standard output.",
)
@_reports_bad_input
def score(pool: tuple[str, ...], by: tuple[str, ...], out: Path | None, **options: str) -> None:
    """Write the scores of every row; 1 is most uncertain."""
    score_to_file(pool, tuple(dict.fromkeys(by)), out=out, **options)


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
