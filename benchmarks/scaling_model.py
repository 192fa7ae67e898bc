"""A model of runs over 10^9 to 10^12 rows: `python -m benchmarks.scaling_model`.

It prints the parts of docs/distributed/scaling.md that have numbers, and `--write` puts them into
the page. Nothing is timed: measured constants come from benchmarks/results, the others are
assumptions.
"""

import argparse
import functools
import math
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from fastal.distributed.in_order import _AHEAD
from fastal.distributed.shards import (
    LEAST_BYTES,
    LEAST_PER_WORKER,
    MOST_BYTES,
    MOST_ROWS,
    MOST_SHARDS,
    SHARDS_PER_WORKER,
    rows_per_shard,
)
from fastal.diversity.candidates import row_bytes_of
from fastal.diversity.clustering.k_means import sample_rows
from fastal.diversity.core_set import MEMORY_BYTES
from fastal.pipeline.drive import chunk_rows_of

PAGE = Path(__file__).parent.parent / "docs" / "distributed" / "scaling.md"
MARK = "<!-- {} of benchmarks/scaling_model.py -->"

RESULTS = {
    "cpu": "2026-11-24-cpu-2-cores.txt",
    "diversity": "2026-11-24-diversity-2-cores.txt",
    "gpu": "2026-11-26-gpu-h200-outputs.txt",
    "merging": "2026-11-26-merging-2-cores.txt",
    "candidates": "2026-11-26-merging-core-sets-2-cores.txt",
}


class Measured(NamedTuple):
    """A constant that was measured.

    Attributes:
        value: in SI units.
        what: what was measured.
        digits: the number as it stands in the file.
        file: the file of benchmarks/results, by its name in RESULTS.
    """

    value: float
    what: str
    digits: str
    file: str


CORE = {
    "select": Measured(15.26e9 / 2, "select, 100 classes, GB/s on 2 cores", "15.26", "cpu"),
    "score": Measured(15.62e9 / 2, "all four scores, 100 classes, GB/s on 2 cores", "15.62", "cpu"),
    "k-means": Measured(178.1e9 / 2, "nearest of 1,000, GFLOP/s on 2 cores", "178.1", "diversity"),
    "one centre": Measured(16.9e9 / 2, "core-set, cosine, GB/s on 2 cores", "16.9", "diversity"),
}  # fmt: skip
GPU = {
    "select": Measured(21.5e9, "select, from the host to the GPU, GB/s", "21.5", "gpu"),
    "score": Measured(22.3e9, "all four scores, from the host to the GPU, GB/s", "22.3", "gpu"),
    "k-means": Measured(440.1e9, "nearest of 1,000, `fast=True`, GB/s on the GPU", "440.1", "gpu"),
}  # fmt: skip
MERGE = {
    "select": Measured(140e-6, "merge of 10,000 candidates, ascending, us", "140", "merging"),
    "k-means": Measured(1120e-6, "merge of the sums of k-means, us", "1120", "merging"),
    "sample": Measured(43250e-6, "merge of a sample of k-means, 67 MB, us", "43250", "merging"),
    "core-set": Measured(122e-6, "merge of 100,000 distances, us", "122", "merging"),
    "candidates": Measured(
        26742e-6, "merge of the farthest rows, 17 MB, us", "26742", "candidates"
    ),
}  # fmt: skip
SLICE_ROWS = 100_000

# --- assumptions
CORES, CPUS = 32, 2  # of a CPU machine, and of a worker; the rates grow with the cores
READ = 5e9  # bytes/s that a machine reads from the storage
STORAGE = 1e12  # bytes/s that the storage delivers to all machines
NETWORK = 1.25e9  # bytes/s between the driver and all workers
DISK = 1e9  # bytes/s that the driver writes scores
HANDLING = 3e-3  # seconds of the driver for each shard beside the merge
START, PASS = 10.0, 0.2  # seconds to start workers, and of a pass without rows
CORE_SET_PASSES = 25

CLASSES, WIDTH, CLUSTERS, EPOCHS, PICKS, K = 100, 768, 1000, 10, 1000, 10_000
# Centres whose distances a pass computes.
CENTRES = {"k-means": CLUSTERS, "core-set": PICKS // CORE_SET_PASSES}
ROWS, MACHINES = (10**9, 10**10, 10**11, 10**12), (8, 64, 512)


class Cluster(NamedTuple):
    """Machines of one kind.

    Attributes:
        n: how many.
        has_gpus: whether each has a GPU, which its one worker uses, as with backend="triton"; else
            its cores are used.
    """

    n: int
    has_gpus: bool

    @property
    def workers(self) -> int:
        """How many processes read shards."""
        return self.n if self.has_gpus else self.n * CORES // CPUS

    def computes(self, strategy: str) -> float:
        """Bytes per second of all machines that have the rows in memory."""
        if not self.has_gpus:
            if strategy in CENTRES:  # a row of `WIDTH` float32 takes 2 WIDTH operations for each
                return CORE["k-means"].value * CORES * self.n * 4 / (2 * CENTRES[strategy])
            return CORE[strategy].value * CORES * self.n
        bus = GPU["select"].value
        return self.n * min(bus, GPU[strategy].value if strategy in GPU else bus)

    @property
    def reads(self) -> float:
        """Bytes per second of all machines."""
        return min(self.n * READ, STORAGE)


class Pass(NamedTuple):
    """What bounds a pass over the pool.

    Attributes:
        read: seconds in which the workers read their shards.
        compute: seconds in which they compute.
        driver: seconds in which the driver gets and merges all states.
    """

    read: float
    compute: float
    driver: float

    @property
    def seconds(self) -> float:
        """The longest of the three: they overlap."""
        return PASS + max(self)


def shards(n_rows: int, row_bytes: int, workers: int) -> tuple[int, int]:
    """How many shards a pool of mapped files has, and the rows of a shard."""
    source = mapped_files(n_rows, row_bytes)
    rows = rows_per_shard(source, chunk_rows_of(source, None), workers)
    return -(-n_rows // rows), rows


def mapped_files(n_rows: int, row_bytes: int) -> Any:
    """A pool of mapped files, as far as its division asks it."""
    return SimpleNamespace(n_rows=n_rows, row_bytes=row_bytes, in_place=True, on_gpu=False)


def one_pass(
    strategy: str,
    n_rows: int,
    row_bytes: int,
    cluster: Cluster,
    driver: Callable[[int, int], float],
) -> Pass:
    """A pass; `driver` returns the seconds of the driver for so many shards of so many rows."""
    n, rows = shards(n_rows, row_bytes, cluster.workers)
    turns = -(-n // cluster.workers)  # the last workers to end have so many shards
    of_worker = turns * rows * row_bytes * min(n, cluster.workers)
    computes = cluster.computes(strategy) * min(n, cluster.workers) / cluster.workers
    return Pass(of_worker / cluster.reads, of_worker / computes, driver(n, rows) + n * HANDLING)


# --- what the driver does for n shards of so many rows


def of_select(n: int, rows: int) -> float:
    return n * (12 * min(K, rows) / NETWORK + MERGE["select"].value)


def of_score(n: int, rows: int) -> float:
    return n * rows * 16 * (1 / NETWORK + 1 / DISK)


def of_sums(n: int, rows: int) -> float:  # noqa: ARG001
    return n * (sum_bytes() / NETWORK + MERGE["k-means"].value)


def of_core_set(n: int, rows: int, workers: int) -> float:
    """The distances travel to the worker and back, and the farthest rows to the driver."""
    of_distances = n * rows * (2 * 4 / NETWORK + MERGE["core-set"].value / SLICE_ROWS)
    each = min(rows, candidate_rows()) * (4 * WIDTH + 20) / NETWORK + MERGE["candidates"].value
    return of_distances + each * sampled(n, workers)


def sampled(n: int, workers: int) -> float:
    """How many samples or sets of farthest rows the driver gets, counted in whole ones.

    The shards that are read at once send whole ones. Of a later shard, after m were merged, a
    share of 1 / m beats the threshold.
    """
    at_once = min(n, _AHEAD * workers)
    return at_once + sum(1 / m for m in range(1, n - at_once + 1))


def sample_bytes() -> int:
    return sample_rows(CLUSTERS, WIDTH) * (4 * WIDTH + 12)


def candidate_rows() -> int:
    return MEMORY_BYTES // row_bytes_of(torch.empty(0, WIDTH))


def sum_bytes() -> int:
    return 8 * CLUSTERS * WIDTH


# --- strategies


def select(n_rows: int, cluster: Cluster) -> list[Pass]:
    return [one_pass("select", n_rows, 4 * CLASSES, cluster, of_select)]


def score(n_rows: int, cluster: Cluster) -> list[Pass]:
    return [one_pass("score", n_rows, 4 * CLASSES, cluster, of_score)]


def k_means(n_rows: int, cluster: Cluster) -> list[Pass]:
    each = sample_bytes() / NETWORK + MERGE["sample"].value

    def of_samples(n: int, rows: int) -> float:  # noqa: ARG001
        return each * sampled(n, cluster.workers)

    # To draw a sample takes no longer than to compute distances to one row.
    first = one_pass("one centre", n_rows, 4 * WIDTH, cluster, of_samples)
    return [first] + EPOCHS * [one_pass("k-means", n_rows, 4 * WIDTH, cluster, of_sums)]


def core_set(n_rows: int, cluster: Cluster) -> list[Pass]:
    of_pass = functools.partial(of_core_set, workers=cluster.workers)
    return CORE_SET_PASSES * [one_pass("core-set", n_rows, 4 * WIDTH, cluster, of_pass)]


STRATEGIES = {
    f"select: k = {K:,}, {CLASSES} classes, 1 pass": select,
    f"score to a file: four scores, {CLASSES} classes, 1 pass": score,
    f"k-means: {CLUSTERS:,} clusters, {WIDTH} columns, {EPOCHS + 1} passes": k_means,
    f"core-set: {PICKS:,} picks, {WIDTH} columns, {CORE_SET_PASSES} passes": core_set,
}


# --- parts of the page


def parts() -> dict[str, str]:
    """The parts of the page that are computed, by their names."""
    made = (sizes, times, pools, constants, limits)
    return {lines.__name__: "\n".join(lines()) for lines in made}


def sizes() -> Iterator[str]:
    chunk_bytes = chunk_rows_of(mapped_files(0, 4 * CLASSES), None) * 4 * CLASSES
    chunk = f"{size(chunk_bytes)} or {chunk_rows_of(mapped_files(0, 1), None):,} rows"
    yield "| limit | |"
    yield "|---|---|"
    yield f"| shards per worker | {SHARDS_PER_WORKER} |"
    yield f"| shards per worker, if the pool is too small for so many | {LEAST_PER_WORKER} |"
    yield f"| bytes of a shard | {size(LEAST_BYTES)} to {size(MOST_BYTES)} |"
    yield f"| rows of a shard, at most | {MOST_ROWS:,} |"
    yield f"| a shard has at least a chunk; of mapped files, that is the smaller of | {chunk} |"
    yield f"| shards of a pool, at most; shards of larger pools are larger | {MOST_SHARDS:,} |"


def limits() -> Iterator[str]:
    """What the model says where it ends, as a list."""
    for told in (*limits_of_shards(), *limits_of_k_means()):
        yield textwrap.fill(
            f"- {told}", 100, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
        )


def limits_of_k_means() -> Iterator[str]:
    n_rows, cpus = ROWS[0], [Cluster(n, has_gpus=False) for n in MACHINES]
    bounded = next(one for one in cpus if bound_of(k_means(n_rows, one)) == "driver")
    found, _ = shards(n_rows, 4 * WIDTH, bounded.workers)
    yield (
        f"**k-means of {power(n_rows)} rows is bounded by the driver** from {bounded.n} CPU "
        f"machines on. With {bounded.n}, the pool has {found:,} shards. Each sends sums of "
        f"{size(sum_bytes())}, which makes {size(found * sum_bytes())} in an iteration. More "
        "machines do not help."
    )
    yield (
        f"**The first pass of k-means** draws a sample. In the table above, a sample has "
        f"{size(sample_bytes())}. Up to {_AHEAD} W shards are read before the first is merged, and "
        f"each of them sends a whole sample. On {cpus[-1].n} CPU machines, a pool of "
        f"{power(n_rows)} rows has no more shards than that. So the run takes longer there than on "
        f"{cpus[-2].n}."
    )


def limits_of_shards() -> Iterator[str]:
    most, row_bytes = Cluster(MACHINES[-1], has_gpus=False), 4 * WIDTH
    yield (
        f"**No pass is faster than the storage.** {most.n} machines that read {READ / 1e9:g} GB/s "
        f"each ask for {most.n * READ / 1e12:.1f} TB/s. The model stops at what the storage "
        "delivers. If yours delivers R bytes per second, no pass takes less than N b / R seconds."
    )
    yield (
        f"**The driver handles a shard in {HANDLING * 1e3:g} ms.** This is an assumption. "
        f"{MOST_SHARDS:,} shards take the driver {duration(MOST_SHARDS * HANDLING)} in each pass."
    )
    _, rows = shards(ROWS[-1], row_bytes, most.workers)
    yield (
        f"**A pool has about {MOST_SHARDS:,} shards at most.** With {power(ROWS[-1])} rows of "
        f"{row_bytes:,} bytes, a shard has {size(rows * row_bytes)}. If a worker dies, another "
        "reads the whole shard again."
    )
    found, _ = shards(ROWS[0], row_bytes, most.workers)
    yield (
        f"**Few shards are divided unevenly.** With {power(ROWS[0])} such rows on {most.n} CPU "
        f"machines, there are {found / most.workers:.1f} shards per worker. Some workers wait "
        "while others read a second shard."
    )


def constants() -> Iterator[str]:
    yield "| measured | | file |"
    yield "|---|---|---|"
    for found in (*CORE.values(), *GPU.values(), *MERGE.values()):
        yield f"| {found.what} | {found.digits} | `{RESULTS[found.file]}` |"
    yield ""
    yield "| assumed | |"
    yield "|---|---|"
    yield f"| a CPU machine: cores, in workers of {CPUS}; rates grow with the cores | {CORES} |"
    yield "| a GPU machine: GPUs like the measured one, each with a worker | 1 |"
    yield f"| a machine reads from the storage | {READ / 1e9:g} GB/s |"
    yield f"| the storage delivers to all machines | {STORAGE / 1e9:,.0f} GB/s |"
    yield f"| the driver's network | {NETWORK / 1e9:g} GB/s |"
    yield f"| the driver's disk, for scores | {DISK / 1e9:g} GB/s |"
    yield f"| the driver's time for a shard beside its merge | {HANDLING * 1e3:g} ms |"
    yield f"| start of all workers | {START:g} s |"
    yield f"| a pass without rows | {PASS:g} s |"
    yield f"| passes of a core-set of {PICKS:,} picks | {CORE_SET_PASSES} |"


def pools() -> Iterator[str]:
    yield "| rows | pool | machines | workers | shards | a shard | shards per worker |"
    yield "|---|---|---|---|---|---|---|"
    for n_rows in ROWS:
        for n in MACHINES:
            cluster, row_bytes = Cluster(n, has_gpus=False), 4 * WIDTH
            found, rows = shards(n_rows, row_bytes, cluster.workers)
            yield (
                f"| {power(n_rows)} | {size(n_rows * row_bytes)} | {n} | {cluster.workers:,} "
                f"| {found:,} | {size(rows * row_bytes)} | {found / cluster.workers:.1f} |"
            )


def times() -> Iterator[str]:
    for title, strategy in STRATEGIES.items():
        yield f"**{title}**"
        yield ""
        kinds = [(n, has_gpus) for has_gpus in (False, True) for n in MACHINES]
        heads = (f"{n} {'GPU' if has_gpus else 'CPU'}" for n, has_gpus in kinds)
        yield f"| rows | {' | '.join(heads)} |"
        yield "|---" * (1 + len(kinds)) + "|"
        for n_rows in ROWS:
            cells = (cell(strategy(n_rows, Cluster(*kind))) for kind in kinds)
            yield f"| {power(n_rows)} | {' | '.join(cells)} |"
        yield ""


def cell(passes: list[Pass]) -> str:
    """The time of a run, and what bounds most of it."""
    return f"{duration(run_seconds(passes))} {bound_of(passes)}"


def run_seconds(passes: list[Pass]) -> float:
    return START + sum(of.seconds for of in passes)


def bound_of(passes: list[Pass]) -> str:
    """What bounds most of a run: to read, to compute, or the driver."""
    total = Pass(*(sum(column) for column in zip(*passes, strict=True)))
    return max(Pass._fields, key=lambda name: getattr(total, name))


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{digits(seconds / length)} {unit}"
    return f"{digits(seconds)} s"


def size(n_bytes: float) -> str:
    value, units = n_bytes / 1e6, ["MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{digits(value)} {units[0]}"


def digits(value: float) -> str:
    """A number with two digits, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def power(n_rows: int) -> str:
    return "10" + str(round(math.log10(n_rows))).translate(
        str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    )


def filled(page: str) -> str:
    """The page with the computed parts between their marks."""
    for name, part in parts().items():
        begin, end = MARK.format(name), MARK.format(f"end of {name}")
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{part.rstrip()}\n\n{end}{rest.split(end)[1]}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.scaling_model", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--write", action="store_true", help="put the parts into the page")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(parts().values()))


if __name__ == "__main__":
    main()
