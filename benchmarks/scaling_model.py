"""A model of runs over 10^9 to 10^12 rows: `python -m benchmarks.scaling_model`.

It prints the tables of docs/distributed/scaling.md, and `--write` puts them into the page. Nothing
is timed: measured constants come from benchmarks/results, the others are assumptions.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from fastal.distributed.in_order import _AHEAD
from fastal.distributed.shards import _rows_per_shard
from fastal.diversity.clustering.k_means import (
    _LEAST_SAMPLE_ROWS,
    _MOST_SAMPLE_BYTES,
    _SAMPLE_ROWS,
)
from fastal.pipeline.drive import chunk_rows_of

PAGE = Path(__file__).parent.parent / "docs" / "distributed" / "scaling.md"
MARK = "<!-- {} of benchmarks/scaling_model.py -->"

RESULTS = {
    "cpu": "2026-11-24-cpu-2-cores.txt",
    "diversity": "2026-11-24-diversity-2-cores.txt",
    "gpu": "2026-11-26-gpu-h200-outputs.txt",
    "merging": "2026-11-26-merging-2-cores.txt",
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
    "core-set": Measured(16.9e9 / 2, "core-set, cosine, GB/s on 2 cores", "16.9", "diversity"),
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

CLASSES, WIDTH, CLUSTERS, EPOCHS, PICKS, K = 100, 768, 1000, 10, 1000, 10_000
ROWS, MACHINES = (10**9, 10**10, 10**11, 10**12), (8, 64, 512)


class Cluster(NamedTuple):
    """Machines of one kind.

    Attributes:
        n: how many.
        has_gpus: whether each has a GPU, which its one worker uses; else its cores are used.
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
            rate = CORE[strategy].value * CORES * self.n
            # A row of `WIDTH` float32 takes 2 WIDTH CLUSTERS operations.
            return rate * 4 / (2 * CLUSTERS) if strategy == "k-means" else rate
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
    source = SimpleNamespace(n_rows=n_rows, row_bytes=row_bytes, in_place=True, on_gpu=False)
    rows = _rows_per_shard(source, chunk_rows_of(source, None), workers)  # type: ignore[arg-type]
    return -(-n_rows // rows), rows


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
    return n * (8 * CLUSTERS * WIDTH / NETWORK + MERGE["k-means"].value)


def of_core_set(n: int, rows: int) -> float:
    """The distances travel to the worker and back."""
    return n * rows * (2 * 4 / NETWORK + MERGE["core-set"].value / SLICE_ROWS)


def sampled(n: int, workers: int) -> float:
    """How many samples the driver gets, counted in whole ones.

    The shards that are read at once send whole ones. Of a later shard, after m were merged, a
    share of 1 / m beats the threshold.
    """
    at_once = min(n, _AHEAD * workers)
    return at_once + sum(1 / m for m in range(1, n - at_once + 1))


def sample_bytes() -> int:
    most = max(_MOST_SAMPLE_BYTES // (4 * WIDTH), CLUSTERS)
    rows = min(max(_SAMPLE_ROWS * CLUSTERS, _LEAST_SAMPLE_ROWS), most)
    return rows * (4 * WIDTH + 12)


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
    first = one_pass("core-set", n_rows, 4 * WIDTH, cluster, of_samples)
    return [first] + EPOCHS * [one_pass("k-means", n_rows, 4 * WIDTH, cluster, of_sums)]


def core_set(n_rows: int, cluster: Cluster) -> list[Pass]:
    return PICKS * [one_pass("core-set", n_rows, 4 * WIDTH, cluster, of_core_set)]


STRATEGIES = {
    f"select: k = {K:,}, {CLASSES} classes, 1 pass": select,
    f"score to a file: four scores, {CLASSES} classes, 1 pass": score,
    f"k-means: {CLUSTERS:,} clusters, {WIDTH} columns, {EPOCHS + 1} passes": k_means,
    f"core-set: {PICKS:,} picks, {WIDTH} columns, {PICKS:,} passes": core_set,
}


# --- tables


def tables() -> dict[str, str]:
    """The tables of the page, by their names."""
    return {"constants": "\n".join(constants()), "pools": "\n".join(pools()),
            "times": "\n".join(times())}  # fmt: skip


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
    """The time of a run, and what bounds most of it: reading, computing, or the driver."""
    total = Pass(*(sum(column) for column in zip(*passes, strict=True)))
    bound = max(Pass._fields, key=lambda name: getattr(total, name))
    return f"{duration(START + sum(of.seconds for of in passes))} {bound}"


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
    """The page with the tables between their marks."""
    for name, table in tables().items():
        begin, end = MARK.format(name), MARK.format(f"end of {name}")
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{table.rstrip()}\n\n{end}{rest.split(end)[1]}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.scaling_model", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(tables().values()))


if __name__ == "__main__":
    main()
