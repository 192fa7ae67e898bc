"""Commands around the strategies: `convert`, `info` and `demo`."""

from pathlib import Path
from typing import Any

import click

from fastal.cli.help import (
    Command,
    output_option,
    pool_option,
    running_option,
    selection_option,
)
from fastal.cli.options import (
    POOL,
    RUNNING,
    TOOL_FORMAT,
    loading,
    reports_bad_input,
    run_over,
)


@click.command(
    cls=Command,
    examples=(
        "fastal convert predictions/*.parquet --column logits --id-column id --out shards",
        "fastal convert picks.csv --out tasks.json",
        "fastal convert picks.csv --format prodigy --text-column review --out tasks.jsonl",
    ),
)
@POOL
@pool_option("--group-column", help="Array or column of groups. It is converted with the rows.")
@output_option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="New folder for the shards of a pool; or a .csv, .jsonl, .parquet or .json file for "
    "picks, or that of --format.",
)
@TOOL_FORMAT
@output_option(
    "--shard-mb",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Largest size of a shard, in MiB.",
)
@RUNNING
@reports_bad_input
def convert(
    pool: tuple[str, ...], group_column: str | None, out: Path, shard_mb: int, **options: Any
) -> None:
    """Convert a pool to .npy shards, or picks to another format.

    The shards have a manifest and are read at the speed of memory. Decoding Parquet takes much
    longer than scoring it, so convert Parquet that is read more than once. Ids and groups are
    converted too if their columns are named.

    If --out is a .csv, .jsonl, .parquet or .json file, POOL is a file of picks. A .json file holds
    tasks for Label Studio. With --format, POOL is always a file of picks.
    """
    with loading():
        from fastal.commands.convert import convert_picks, convert_pool
        from fastal.picks.files import PICKS_SUFFIXES
        from fastal.picks.tool_export import export_for
    names = ("format", "text_column", "image_column")
    export = export_for(*(options.pop(name) for name in names))
    if export is not None or out.suffix in PICKS_SUFFIXES:
        if len(pool) != 1:
            raise ValueError(f"picks: wanted one file for {out}, got {len(pool)}")
        convert_picks(Path(pool[0]), out, export)
        return
    run_over(
        convert_pool, pool, {**options, "out": out, "shard_bytes": shard_mb << 20}, group_column
    )


@click.command(cls=Command, examples=("fastal info",))
@reports_bad_input
def info() -> None:
    """Print versions, devices and backends.

    If a backend cannot be used, the reason is printed.
    """
    with loading():
        import torch

        from fastal.commands.command import versions
        from fastal.ops import backend_reasons, instruction_set
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


@click.command(cls=Command, examples=("fastal demo --strategy clusters",))
@selection_option(
    "--strategy",
    type=click.Choice(["uncertainty", "clusters", "outliers", "representative"]),
    default="uncertainty",
    show_default=True,
    help="Strategy that picks the rows.",
)
@output_option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fastal-demo"),
    show_default=True,
    help="Folder for the pool, the picks and the picture.",
)
@running_option(
    "--seeds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of random splits over which the results are averaged.",
)
@reports_bad_input
def demo(out: Path, strategy: str, seeds: int) -> None:
    """Pick rows of a real pool and measure what labels are worth.

    The pool is 1,797 pictures of handwritten digits. The demo needs: pip install 'fastal[demo]'
    """
    try:
        with loading():
            from fastal.report.demo import run_demo
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error}; the demo needs: pip install 'fastal[demo]'") from error
    run_demo(out, seeds, strategy)
