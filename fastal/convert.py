"""`fastal convert`: pools to shards that are read at the speed of memory, picks to other files."""

from dataclasses import replace
from pathlib import Path

from fastal.job import How, Job
from fastal.outputs import checked, written_whole
from fastal.picks_files import PICKS_SUFFIXES, read_picks, write_picks
from fastal.shards import Shards, ShardWriter, published
from fastal.sources.files import Files
from fastal.sources.manifest import NAME

_CHUNK_BYTES = 32 << 20  # of which a copy is made


def convert_pool(pool: Files, out: Path, *, shard_bytes: int, how: How | None = None) -> Shards:
    """Writes a pool as a folder of .npy shards with a manifest, its rows in their order.

    Args:
        pool: the files; ids and groups go along where columns of them were named.
        out: the folder to be, which must not be there.
        shard_bytes: how large a shard may get.
        how: see `How`.

    Raises:
        ValueError: `out` exists.
    """
    columns = pool.columns
    writer = ShardWriter(
        out, shard_bytes, columns.ids, pool.ids if columns.ids else None, columns.groups
    )
    how = how or How()
    how = replace(how, chunk_bytes=how.chunk_bytes or _CHUNK_BYTES)
    arguments = {"shard_bytes": shard_bytes}
    if not out.exists():
        checked(out)
    with Job("convert", pool, out, arguments, how) as job:
        if out.exists():
            if not (job.keeps() and (out / NAME).exists()):
                raise ValueError(f"out: {out} exists")
            shards = published(out)  # by a run that was killed after that
        else:
            shards = _written(writer, job)
        job.finish(rows=shards.rows, shards=shards.shards)
    return shards


def _written(writer: ShardWriter, job: Job) -> Shards:
    writer.begin(go_on=job.goes_on())
    try:
        return job.run(writer)
    except BaseException:
        writer.abandon(keep=job.keeps())
        raise


def convert_picks(picks: Path, out: Path) -> None:
    """Writes a file of picks in another format; see `write_picks`."""
    for name, path in (("picks", picks), ("out", out)):
        if path.suffix not in PICKS_SUFFIXES:
            raise ValueError(f"{name}: wanted a {' or '.join(PICKS_SUFFIXES)} file, got {path}")
    found, beside = read_picks(picks)
    with written_whole(out) as file:
        write_picks(file, found, out.suffix, **beside)
