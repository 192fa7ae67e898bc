"""Commands around the strategies: `convert`, `info` and `demo`."""

from pathlib import Path
from typing import Any

import click
import torch

from fastal.cli.options import POOL, RUNNING, reports_bad_input, run_over
from fastal.commands.command import versions
from fastal.commands.convert import convert_picks, convert_pool
from fastal.ops import backend_reasons, instruction_set
from fastal.output.picks_files import PICKS_SUFFIXES


@click.command()
@POOL
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
@RUNNING
@reports_bad_input
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
    run_over(
        convert_pool, pool, {**options, "out": out, "shard_bytes": shard_mb << 20}, group_column
    )


@click.command()
@reports_bad_input
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


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fastal-demo"),
    show_default=True,
    help="The folder for what is read, picks and picture.",
)
@click.option(
    "--strategy",
    type=click.Choice(["uncertainty", "clusters", "outliers", "representative"]),
    default="uncertainty",
    show_default=True,
    help="How to pick.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True)
@reports_bad_input
def demo(out: Path, strategy: str, seeds: int) -> None:
    """Pick rows from a real pool, and measure what labelling them is worth."""
    try:
        from fastal.report.demo import run_demo
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error}; the demo needs: pip install 'fastal[demo]'") from error
    run_demo(out, seeds, strategy)
