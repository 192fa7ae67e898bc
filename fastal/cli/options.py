"""What commands have in common: options, how a pool is opened and run over, what is bad input."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from fastal.base.errors import Interrupted, prefixing_errors
from fastal.commands.command import CommandOptions
from fastal.ops import BACKENDS
from fastal.pipeline.interrupts import raising
from fastal.pipeline.progress import Reporter, to_stderr
from fastal.scoring.options import ScoringOptions
from fastal.sources import Source, open_pool
from fastal.sources.files import Files, in_order_of

_Command = Callable[..., Any]
_NO_THREADS = "can't start new thread"  # of Python's RuntimeError


class _BadInput(click.ClickException):
    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ARG002
        to_stderr(f"Error: {self.message}")


def reports_bad_input(command: _Command) -> _Command:
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
                    to_stderr(f"{interrupted}{saved}")
                    click.get_current_context().exit(128 + interrupted.signal)
        except BrokenPipeError:
            raise  # whoever read the output has seen enough: click ends quietly
        except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
            reason = str(error).strip() or type(error).__name__
            raise _BadInput(spelled(reason)) from error
        except RuntimeError as error:
            if str(error) != _NO_THREADS:
                raise
            raise _BadInput(f"{error}: the system has no more") from error

    return wrapped


def spelled(message: str) -> str:
    """A message that names arguments as Python has them, in the spelling of the current command.

    "on_invalid='skip' leaves them out" is "--on-invalid skip leaves them out", and
    "column: wanted ..." is "--column: wanted ...".
    """
    options = {
        option.name: max(option.opts, key=len)
        for option in click.get_current_context().command.params
        if isinstance(option, click.Option) and option.name is not None
    }
    # Names of the user's own files stay.
    for value in click.get_current_context().params.values():
        for given in value if isinstance(value, tuple) else (value,):
            options.pop(str(given), None)
    if "group_column" in options:
        options["groups"] = options["group_column"]
    if not options:
        return message
    names = "|".join(sorted(options, key=len, reverse=True))

    def with_value(found: re.Match[str]) -> str:
        return f"{options[found[1]]} {found[3]}"

    def alone(found: re.Match[str]) -> str:
        return options[found[1]]

    message = re.sub(rf"(?<![^\s(])({names})=(['\"])([^'\"]*)\2", with_value, message)
    message = re.sub(rf"(?<![^\s(])({names})=True\b", alone, message)
    message = re.sub(rf"(?<=of another run: )({names})(?= )", alone, message)
    # What a message begins with, at once or after a file; what it asks for.
    before, after = r"(?:^|(?<=: )|(?<=wanted )|(?<= or ))", "(?=: |, | as well|$)"
    return re.sub(rf"{before}({names}){after}", alone, message)


def with_options(*options: _Command) -> _Command:
    """Decorates a command with options, in this order."""

    def decorated(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


POOL = with_options(
    click.argument("pool", nargs=-1, required=True, metavar="POOL..."),
    click.option("--column", help="The array or column to read, where a file has several."),
    click.option(
        "--columns",
        help="Columns to read, one a class: names or patterns, with commas. Those that match a "
        "pattern come by number where they differ in numbers alone, else as in the first file.",
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
        help="Files that are unreadable, cut short, of another shape or of other columns: stop, or "
        "leave them out, name them, and exit with status 3.",
    ),
)
K = click.option("--k", type=int, help="How many rows to pick. Without it, --per-group says so.")
GROUPS = with_options(
    click.option(
        "--per-group", type=int, help="At most so many rows of a group; without --k, exactly."
    ),
    click.option(
        "--group-column",
        help="The array or column of groups, or the name of folders such as country=de.",
    ),
)
SCORING = with_options(
    click.option(
        "--on-invalid",
        type=click.Choice(["raise", "skip"]),
        default="raise",
        show_default=True,
        help="Rows with NaN, +inf or no finite value, of embeddings with any that is not finite: "
        "stop, or leave them out and count them.",
    ),
    click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True),
)
PICKS_OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A .csv, .jsonl, .parquet or .json file (Label Studio tasks); default: CSV on standard "
    "output.",
)
RUNNING = with_options(
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


def check_quotas(options: dict[str, Any], has_groups: object) -> None:
    """Whether it is said how many rows to pick, by `K` or `GROUPS`."""
    if options["k"] is None and options["per_group"] is None:
        raise click.UsageError("Missing option '--k' or '--per-group'.")
    if options["per_group"] is None and has_groups:
        raise click.UsageError("Groups are for --per-group.")


def run_over(
    work: Callable[..., Any],
    pool: tuple[str, ...],
    options: dict[str, Any],
    group_column: str | None = None,
    beside: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Opens the pool and does the work on it, as the options of `POOL` and `RUNNING` say.

    Args:
        work: takes the pool, `how`, what else is opened, and the other options.
        pool: paths.
        options: by name.
        group_column: of the pool.
        beside: other pools to open, by name: of the same column.
    """
    reporter = Reporter(quiet=options.pop("quiet"), as_json=options.pop("log_json"))
    chunk_mb = options.pop("chunk_mb")
    if "on_invalid" in options:
        options["scoring"] = ScoringOptions(options.pop("on_invalid"), options.pop("backend"))
    options["options"] = CommandOptions(
        None if chunk_mb is None else chunk_mb << 20,
        options.pop("checkpoint"),
        options.pop("resume"),
        reporter,
    )
    column, columns = options.pop("column"), options.pop("columns")
    if column and columns:
        raise click.UsageError("--columns is not for use with --column.")
    read = {"column": columns.split(",") if columns else column, "dtype": options.pop("dtype")}
    with reporter.warnings(spelled):
        source = open_pool(
            list(pool),
            group_column=group_column,
            **read,
            **{name: options.pop(name) for name in ("id_column", "on_bad_file")},
        )
        assert isinstance(source, Files)
        others = {}
        for name, paths in beside.items():
            if paths:
                with prefixing_errors(name):
                    others[name] = in_order_of(source, _open_beside(paths, **read))
        work(source, **others, **options)
    if source.skipped:
        click.get_current_context().exit(3)


def _open_beside(paths: Sequence[str], column: Any, dtype: str | None) -> Source:
    has_names = not all(path.endswith(".npy") for path in paths)
    return open_pool(list(paths), column=column if has_names else None, dtype=dtype)
