"""Times Ray's workers on one machine beside one process: `python -m benchmarks.engines`.

The pool is S files of float32 logits, which are read from the page cache. Ray runs before the clock
starts. The works that are compared run alternately.

    start     an almost empty pool: what it takes to start workers and to end them
    select    1000 rows by margin: seconds, and GB/s without the start
    memory    by how much the peak resident memory of the driver rises, for a quarter of the pool
              and for all of it
    k-means   whether the centroids are those of one process, bit for bit, over 16 shards
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import ray
import torch

import fastal
from benchmarks.interleaved import interleaved
from benchmarks.merging import peak_memory
from fastal import diversity
from fastal.distributed import Ray
from fastal.distributed.shards import shards_of
from fastal.pipeline.drive import chunk_rows_of

K, WIDTH, CLUSTERS = 1000, 64, 50


def main() -> None:
    options = arguments()
    context = ray.init(
        num_cpus=options.num_cpus, include_dashboard=False, log_to_driver=False,
        object_store_memory=1 << 29,
    )  # fmt: skip
    print(
        f"fastal {fastal.__version__}, torch {torch.__version__}, ray {ray.__version__}: ", end=""
    )
    print(f"{options.num_cpus} CPUs, {options.workers} workers, {options.cpus} CPUs each; ", end="")
    print(f"the local engine has {torch.get_num_threads()} threads; {options.rounds} rounds\n")
    with context, tempfile.TemporaryDirectory(prefix="fastal-", dir=options.folder) as folder:
        pool = [Path(folder) / f"{place:03}.npy" for place in range(options.shards)]
        write(pool, options)
        timed(pool, Path(folder) / "few.npy", options)
        memory(pool, options)
        for path in pool:
            path.unlink()
        k_means(Path(folder))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.engines", description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=64, help="how many files the pool has")
    parser.add_argument("--mb", type=int, default=200, help="the size of a file")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--chunk-mb", type=int, help="how much to read at once; default: fastal's")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=1, help="of a worker")
    parser.add_argument("--num-cpus", type=int, default=4, help="of the Ray cluster, logical ones")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--folder", type=Path, help="where to write the pool; default: temporary")
    options = parser.parse_args()
    options.chunk_bytes = None if options.chunk_mb is None else options.chunk_mb * 1_000_000
    options.engine = Ray(workers=options.workers, cpus=options.cpus)
    return options


def write(pool: list[Path], options: argparse.Namespace) -> None:
    n_rows = options.mb * 1_000_000 // 4 // options.classes
    block = np.random.default_rng(0).standard_normal((n_rows, options.classes), np.float32) * 3
    for place, path in enumerate(pool):
        np.save(path, block * np.float32(1 + place / len(pool)))


def n_shards(pool: list[Path], chunk_bytes: int | None, n_workers: int) -> int:
    source = fastal.open_pool(pool)
    return len(list(shards_of(source, chunk_rows_of(source, chunk_bytes), n_workers)))


def timed(pool: list[Path], few: Path, options: argparse.Namespace) -> None:
    """The start of workers alone, and selections."""
    np.save(few, np.random.default_rng(0).standard_normal((2000, options.classes), np.float32))
    picks = {}

    def select(engine: str | Ray, files: list[Path]) -> None:
        picks[engine] = fastal.select(files, K, engine=engine, chunk_bytes=options.chunk_bytes)

    select("local", pool)
    taken = interleaved(
        lambda: select("local", pool), lambda: select(options.engine, pool),
        lambda: select(options.engine, [few]), rounds=options.rounds,
    )  # fmt: skip
    local, of_ray, start = (statistics.median(column) for column in zip(*taken, strict=True))
    select("local", pool)
    select(options.engine, pool)
    are_equal = all(
        np.array_equal(*(getattr(found, name) for found in picks.values()))
        for name in ("rows", "scores")
    )
    size = sum(path.stat().st_size for path in pool) / 1e9
    found = n_shards(pool, options.chunk_bytes, options.workers)
    print(f"start     {start:.2f} s")
    print(f"select    {K} of {size:.1f} GB, {found} shards; equal picks: {are_equal}")
    print(f"  local   {local:7.2f} s {size / local:7.2f} GB/s")
    print(
        f"  Ray     {of_ray:7.2f} s {size / (of_ray - start):7.2f} GB/s without the start", end=""
    )
    print(f": {local / (of_ray - start):.0%} of local\n")


def memory(pool: list[Path], options: argparse.Namespace) -> None:
    for part in (pool[: max(1, len(pool) // 4)], pool):
        before = peak_memory(reset=True)
        fastal.select(part, K, engine=options.engine, chunk_bytes=options.chunk_bytes)
        size = sum(path.stat().st_size for path in part) / 1e9
        print(f"memory    {size:6.2f} GB: {(peak_memory() - before) / 1e6:6.1f} MB above the "
              f"{before / 1e6:.0f} MB before")  # fmt: skip


def k_means(folder: Path) -> None:
    """Over 16 files, each of them a shard."""
    n_rows, n_files = 20_000, 16
    pool = [folder / f"{place:02}.npy" for place in range(n_files)]
    rng = np.random.default_rng(0)
    for path in pool:
        np.save(path, rng.standard_normal((n_rows, WIDTH), np.float32))
    chunk_bytes = n_rows * WIDTH * 4
    found = [
        diversity.CosineClusters(CLUSTERS, max_iter=5)
        .fit(pool, chunk_bytes=chunk_bytes, engine=engine)
        .centroids
        for engine in ("local", Ray(workers=4, cpus=1))
    ]
    are_equal = found[0].tobytes() == found[1].tobytes()
    shards = n_shards(pool, chunk_bytes, 4)
    print(f"\nk-means   {shards} shards, 6 passes; equal bit for bit: {are_equal}")


if __name__ == "__main__":
    main()
