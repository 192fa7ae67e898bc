"""What commands have in common: options, how a pool is opened and read, what is bad input."""

import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import click
from click.core import ParameterSource

from fastal.base.argument_values import BACKENDS, BYTES_DTYPES, ENGINES, TIES, TOOLS
from fastal.base.errors import Interrupted, prefixing_errors
from fastal.cli.help import output_option, pool_option, running_option, selection_option
from fastal.cli.other_pool import OtherPool
from fastal.pipeline.interrupts import exiting, raising
from fastal.pipeline.progress import Reporter, to_stderr

_Command = Callable[..., Any]
_NO_THREADS = "can't start new thread"  # of Python's RuntimeError
loading = functools.partial(exiting, to_stderr)  # a context for imports that take seconds


class _BadInput(click.ClickException):
    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ARG002
        to_stderr(f"Error: {self.message}")


def reports_bad_input(command: _Command) -> _Command:
    """Decorates a command: an error about arguments or files is one line, with exit status 2.

    A signal that ends the run is one line too, with exit status 128 + its number.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with raising():
                return command(*args, **kwargs)
        except Interrupted as interrupted:
            saved = "; continue with --resume" if kwargs.get("checkpoint") else ""
            to_stderr(f"{interrupted}{saved}")
            click.get_current_context().exit(128 + interrupted.signal)
        except BrokenPipeError:
            raise  # the reader of the output has closed the pipe: click ends quietly
        except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
            reason = str(error).strip() or type(error).__name__
            raise _BadInput(spelled(reason)) from error
        except RuntimeError as error:
            if str(error) != _NO_THREADS:
                raise
            raise _BadInput(f"{error}: the system has no more") from error

    return wrapped


def spelled(message: str) -> str:
    """Rewrites a message from the Python names of arguments to the options of this command.

    "on_invalid='skip' leaves them out" becomes "--on-invalid skip leaves them out", and
    "column: wanted ..." becomes "--column: wanted ...". Options that are repeated count from 1:
    "parts[0]" becomes "--part 1".
    """
    options = {
        option.name: max(option.opts, key=len)
        for option in click.get_current_context().command.params
        if isinstance(option, click.Option) and option.name is not None
    }
    # A file of the user may have the name of an argument.
    for value in click.get_current_context().params.values():
        for given in value if isinstance(value, tuple) else (value,):
            options.pop(str(given), None)
    if "group_column" in options and not click.get_current_context().params.get("groups"):
        options["groups"] = options["group_column"]
    if not options:
        return message
    names = "|".join(sorted(options, key=len, reverse=True))

    def with_value(found: re.Match[str]) -> str:
        return f"{options[found[1]]} {found[3]}"

    def alone(found: re.Match[str]) -> str:
        return options[found[1]]

    def numbered(found: re.Match[str]) -> str:
        return f"{options[found[1]]} {int(found[2]) + 1}"

    message = re.sub(rf"(?<![^\s(])({names})\[(\d+)\](?=[ :,]|$)", numbered, message)
    message = re.sub(rf"(?<![^\s(])({names})=(['\"])([^'\"]*)\2", with_value, message)
    message = re.sub(rf"(?<![^\s(])({names})=()(\d+)(?!\.?\w)", with_value, message)
    message = re.sub(rf"(?<![^\s(])({names})=True\b", alone, message)
    message = re.sub(rf"(?<=of another run: )({names})(?= )", alone, message)
    # A name at the start of a message, after the name of a file, or after "wanted".
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
    pool_option("--column", help="Array or column to read, if a file holds several."),
    pool_option(
        "--columns",
        help="Columns to read, one per class or dimension: names or patterns such as 'logit_*', "
        "separated by commas. If the columns of a pattern differ only by a number, they are sorted "
        "by number. Otherwise they keep the order of the first file.",
    ),
    pool_option("--id-column", help="Array or column of row ids, which the output then has."),
    pool_option(
        "--dtype",
        type=click.Choice(BYTES_DTYPES),
        help="Type of the numbers in a column of plain bytes.",
    ),
    pool_option(
        "--on-bad-file",
        type=click.Choice(["raise", "skip"]),
        default="raise",
        show_default=True,
        help="What to do with a file that cannot be read, is cut short, or has rows of another "
        "shape or other columns: raise, or skip it, report it and exit with status 3.",
    ),
)
TEMPERATURE = pool_option(
    "--temperature",
    type=float,
    default=1.0,
    help="Number that logits are divided by. `fastal fit-temperature` finds it. Default: 1.",
)
K = selection_option("--k", type=int, required=True, help="Number of rows to pick.")
K_OR_PER_GROUP = selection_option(
    "--k", type=int, help="Number of rows to pick. Required unless --per-group is given."
)
CLUSTERS = selection_option(
    "--clusters", "n_clusters", type=int, help="Number of clusters to find in the pool."
)
LABELLED = selection_option(
    "--labelled",
    multiple=True,
    help="File of embeddings of the labelled rows. Repeat the option for several files.",
)
GROUPS = with_options(
    selection_option(
        "--per-group",
        type=int,
        help="Largest number of rows to pick from a group. Without --k, so many rows of every "
        "group are picked, or all its rows if it has fewer.",
    ),
    selection_option(
        "--group-column",
        help="Array or column of groups, or the key in folder names such as country=de.",
    ),
)
ON_INVALID = pool_option(
    "--on-invalid",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="What to do with an invalid row: raise, or skip it and report how many were skipped. "
    "A row of predictions is invalid if it has NaN, +inf or no finite value. A row of "
    "embeddings is invalid if it has any value that is not finite.",
)
SCORING = with_options(
    ON_INVALID,
    running_option(
        "--backend",
        type=click.Choice(BACKENDS),
        default="auto",
        show_default=True,
        help="Backend that computes the scores. `fastal info` prints which can be used; auto "
        "chooses one of these.",
    ),
)
TIES_OPTION = selection_option(
    "--ties",
    type=click.Choice(TIES),
    default="first",
    show_default=True,
    help="Which of the rows with equal scores to pick: the first, or random ones, drawn by --seed.",
)
SEED = selection_option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of all random draws. The same seed gives the same picks.",
)
FAST = running_option(
    "--fast",
    is_flag=True,
    help="On a GPU, use matrix products of lower precision, which are faster.",
)


def memory_option(default: int, help: str, *, least: int = 1) -> _Command:  # noqa: A002
    """The option --memory-mb, in MiB; the command gets bytes."""
    return running_option(
        "--memory-mb",
        "memory_bytes",
        type=click.IntRange(min=least),
        default=default,
        show_default=True,
        callback=lambda _context, _parameter, mebibytes: mebibytes << 20,
        help=help,
    )


_PICKS_FILE = click.Path(path_type=Path, dir_okay=False)
ROWS = with_options(
    selection_option(
        "--exclude",
        type=_PICKS_FILE,
        multiple=True,
        help="File of picks that must not be picked again: .csv, .jsonl, .parquet or .json, also "
        "as Label Studio, Prodigy, doccano and Argilla export it. Rows are matched by id if both "
        "have ids, otherwise by row number. Repeat the option for several files.",
    ),
    selection_option(
        "--among",
        type=_PICKS_FILE,
        multiple=True,
        help="File of the only rows that may be picked, in the same formats.",
    ),
)
TOOL_FORMAT = with_options(
    output_option(
        "--format",
        type=click.Choice(TOOLS),
        help="Annotation tool that reads the file: prodigy or doccano (.jsonl), argilla (.json), "
        "or cvat (.txt, a list of images). Default: as the suffix of --out says.",
    ),
    output_option(
        "--text-column",
        help="With --format: column of texts that the annotators see. Default: text.",
    ),
    output_option(
        "--image-column",
        help="With --format: column of paths or URLs of images that the annotators see. Default "
        "for cvat: image.",
    ),
)
CARRY = pool_option(
    "--carry",
    help="Arrays or columns that the output gets too, such as text,image_url: names, separated by "
    "commas. They hold text, numbers or bools.",
)
PICKS_OUT = with_options(
    output_option(
        "--out",
        type=click.Path(path_type=Path),
        help="File to write the picks to: .csv, .jsonl, .parquet, or .json (Label Studio tasks). "
        "Default: CSV on standard output.",
    ),
    TOOL_FORMAT,
    CARRY,
)
_CHECKPOINT = with_options(
    running_option(
        "--checkpoint",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder to save the state of the run in, every 30 seconds and on SIGINT or SIGTERM.",
    ),
    running_option(
        "--resume",
        is_flag=True,
        help="Continue from the state in the --checkpoint folder, if there is one.",
    ),
)
CHUNKS_AND_MESSAGES = with_options(
    running_option(
        "--chunk-mb",
        type=click.IntRange(min=1),
        help="MiB of the pool to read at a time. Default: 32, or 256 for mapped files.",
    ),
    running_option("--quiet", is_flag=True, help="Print no progress and no summary."),
    running_option(
        "--log-json",
        is_flag=True,
        help="Print progress and messages as JSON, one object per line.",
    ),
)
RUNNING = with_options(_CHECKPOINT, CHUNKS_AND_MESSAGES)
ENGINE = with_options(
    running_option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        show_default=True,
        help="Who reads the pool: this process, or the machines of a Ray cluster. All of them need "
        "the same paths, or URLs. The output is the same.",
    ),
    running_option(
        "--address",
        help="With --engine ray: address of the cluster, such as head:6379, or auto for the one in "
        "RAY_ADDRESS or of this machine. Default: that of auto, otherwise a new cluster here.",
    ),
    running_option(
        "--workers",
        type=click.IntRange(min=1),
        help="With --engine ray: number of processes that read the pool. Default: as many as the "
        "machines have room for when the run starts.",
    ),
)


def check_quotas(options: dict[str, Any], groups: Mapping[str, object]) -> None:
    """Raises a usage error unless the options say how many rows to pick, of one kind of groups.

    Args:
        options: the values of `K_OR_PER_GROUP` and `GROUPS`, by argument.
        groups: the options that name groups, and their values.
    """
    given = [name for name, value in groups.items() if value]
    if options["k"] is None and options["per_group"] is None:
        raise click.UsageError("Missing option '--k' or '--per-group'.")
    if len(given) > 1:
        raise click.UsageError(f"Wanted one of {' and '.join(given)}, got both.")
    if options["per_group"] is None and given:
        raise click.UsageError("Groups need --per-group, the number of rows to pick from each.")


def check_used(argument: str, is_used: object, wanted: str) -> None:
    """Raises a usage error if an option was given and nothing uses it.

    Args:
        argument: the argument of the option.
        is_used: whether something uses it.
        wanted: the options that would use it.
    """
    source = click.get_current_context().get_parameter_source(argument)
    if source is not ParameterSource.DEFAULT and not is_used:
        raise click.UsageError(f"--{argument.replace('_', '-')} needs {wanted}.")


def run_over(
    work: Callable[..., Any],
    pool: tuple[str, ...],
    options: dict[str, Any],
    group_column: str | None = None,
    other_pools: Mapping[str, OtherPool] = MappingProxyType({}),
) -> None:
    """Opens the pool and runs a command on it, as the options of `POOL` and `RUNNING` say.

    Args:
        work: takes the pool, `how`, the other pools, and the remaining options.
        pool: paths.
        options: by name.
        group_column: of the pool.
        other_pools: further pools by argument of `work`.
    """
    column, columns = options.pop("column"), options.pop("columns")
    if column and columns:
        raise click.UsageError("Wanted one of --column and --columns, got both.")
    with loading():
        from fastal.commands.command import CommandOptions
        from fastal.picks.tool_export import export_for
        from fastal.scoring.model_output import ModelOutput
        from fastal.scoring.scoring_options import ScoringOptions
        from fastal.sources import open_pool
        from fastal.sources.draws import draws
        from fastal.sources.files import Files
        from fastal.sources.items import items

    reporter = Reporter(quiet=options.pop("quiet"), as_json=options.pop("log_json"))
    chunk_mb = options.pop("chunk_mb")
    if "on_invalid" in options:
        options["scoring"] = ScoringOptions(options.pop("on_invalid"), options.pop("backend"))
    if "class_axis" in options:
        names = ("kind", "temperature", "class_axis", "draws_axis", "aggregate")
        options["output"] = ModelOutput(**{name: options.pop(name) for name in names})
    of_items = {name: options.pop(name, None) for name in ("lengths", "offsets", "mask")}
    export = export_for(
        *(options.pop(name, None) for name in ("format", "text_column", "image_column"))
    )
    engine = options.pop("engine", "local")
    of_ray = {name: options.pop(name, None) for name in ("address", "workers")}
    for name, value in of_ray.items():
        if value is not None:
            check_used(name, engine == "ray", "--engine ray")
    if engine == "ray":
        with loading():
            from fastal.distributed.ray_engine import Ray
        engine = Ray(**of_ray)
        # Else Ray writes on standard output, where results go, that a worker has died.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    options["options"] = CommandOptions(
        None if chunk_mb is None else chunk_mb << 20,
        options.pop("checkpoint", None),
        options.pop("resume", False),
        list(options.pop("exclude", ())) or None,
        list(options.pop("among", ())) or None,
        engine=engine,
        reporter=reporter,
        export=export,
    )
    read = {"column": columns.split(",") if columns else column, "dtype": options.pop("dtype")}
    carry = options.pop("carry", None)
    named = {
        "group_column": group_column,
        "carry": None if carry is None else [name.strip() for name in carry.split(",")],
        "ragged": options.pop("ragged", False),
        **{name: options.pop(name) for name in ("id_column", "on_bad_file")},
    }
    is_ensemble = options.pop("ensemble", False)
    if is_ensemble and named["on_bad_file"] == "skip":
        raise click.UsageError("--on-bad-file skip cannot be used with --ensemble.")
    with reporter.warnings(spelled):
        # What stands over files has their members.
        if is_ensemble:
            source = cast("Files", draws([open_pool([path], **read, **named) for path in pool]))
        else:
            source = cast("Files", open_pool(list(pool), **read, **named))
        if any(of_items.values()):
            source = cast("Files", items(source, **of_items))
        if export is not None:
            export.check_columns(source.columns.of_picks)
        others = {}
        for name, other in other_pools.items():
            if other.paths:
                with prefixing_errors(name):
                    others[name] = other.opened(source, **read, **named)
        work(source, **others, **options)
    if any(pool.skipped for pool in (source, *others.values())):
        click.get_current_context().exit(3)
