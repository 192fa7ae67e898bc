"""`fastal convert`: pools to shards that are read at the speed of memory, picks to other files."""

from pathlib import Path

from fastal.commands.command import CommandOptions, CommandRun
from fastal.output.atomic import naming_path_in_errors
from fastal.output.shards import Shards, ShardWriter, published
from fastal.output.target import FolderTarget, Target, is_among
from fastal.picks.files import PICKS_SUFFIXES, read_picks, write_picks
from fastal.picks.tool_export import ToolExport
from fastal.sources.files import Files

_DEFAULTS = CommandOptions()


def convert_pool(
    pool: Files, out: Path, *, shard_bytes: int, options: CommandOptions = _DEFAULTS
) -> Shards:
    """Writes a pool as a folder of .npy shards with a manifest, its rows in their order.

    Args:
        pool: the files; ids and groups go along where columns of them were named.
        out: the folder to be, which must not be there.
        shard_bytes: how large a shard may get.
        options: how the command is run.

    Raises:
        ValueError: `out` exists.
    """
    columns = pool.columns
    writer = ShardWriter(
        out, shard_bytes, columns.ids, pool.ids if columns.ids else None, columns.groups
    )
    target = FolderTarget(out, pool)
    if not out.exists():
        target.check()
    with CommandRun("convert", writer, pool, target, options) as command_run:
        run = None if command_run.checkpoint is None else command_run.checkpoint.run
        # It is there, whole, where a run was killed after that.
        shards = published(out, run) if run is not None and options.resume else None
        if shards is None:
            target.check()
            writer.begin(command_run.checkpoint, run, target.check, resume=command_run.continues())
            try:
                with naming_path_in_errors(out):  # a full disk
                    shards = command_run.run()
            except BaseException:
                writer.abandon(keep=command_run.keeps_output())
                raise
        command_run.finish(rows=shards.rows, shards=shards.shards)
    return shards


def convert_picks(picks: Path, out: Path, export: ToolExport | None = None) -> None:
    """Writes a file of picks in another format, or for a tool; see `write_picks`."""
    if picks.suffix not in PICKS_SUFFIXES:
        raise ValueError(f"picks: wanted a {' or '.join(PICKS_SUFFIXES)} file, got {picks}")
    suffixes = PICKS_SUFFIXES if export is None else (export.suffix,)
    target = Target(out, suffixes, has_record=False)
    if is_among(out, [picks]):
        raise ValueError(f"out: {out} is the file to read")
    found = read_picks(picks)
    with target.written() as file:
        write_picks(file, found, out.suffix, export=export)
