"""Times strategies beside processes that keep all cores busy: `python -m benchmarks.busy`.

Each strategy runs alone and beside as many busy processes as there are CPUs, alternately. Beside
them, a fair scheduler leaves half of the cores: the least possible ratio is 2. The table has the
medians of the rounds, and the CPU time, which threads that wait by spinning increase.
"""

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

import fastal
from benchmarks.interleaved import Work
from fastal import diversity

MOST = 3.0  # how many times as long a strategy may take beside busy processes


def strategies() -> dict[str, Work]:
    """The strategies by name, on rows in memory."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50_000, 128, generator=generator)
    known = torch.randn(1000, 128, generator=generator)
    logits = torch.randn(20_000, 1000, generator=generator)
    return {
        "k_center": lambda: diversity.k_center(x[:20_000], 200),
        "CosineClusters.fit": lambda: diversity.CosineClusters(20).fit(x),
        "cluster_outliers": lambda: diversity.cluster_outliers(x, known[:20], 100),
        "representative": lambda: diversity.representative(x, known, 100),
        "adaptive_representative": lambda: diversity.adaptive_representative(x, known, 20),
        "model_outliers": lambda: diversity.model_outliers(x, known, 100),
        "deduplicate": lambda: diversity.deduplicate(x[:8000], known, 0.3),
        "typiclust": lambda: diversity.typiclust(x[:20_000], 20),
        "select, torch": lambda: fastal.select(logits, 100, backend="torch"),
        "score, torch": lambda: fastal.score(logits, backend="torch"),
        "select": lambda: fastal.select(logits, 100),
        "score": lambda: fastal.score(logits),
    }


@contextmanager
def spinning(n_processes: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that never wait, stopped at first."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(n_processes)]
    try:
        send(processes, signal.SIGSTOP)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def send(processes: list["subprocess.Popen[bytes]"], number: int) -> None:
    for process in processes:
        process.send_signal(number)


def spent(work: Work) -> tuple[float, float]:
    """The seconds that `work` takes, and the CPU seconds of all threads."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians_of(rounds: list[tuple[float, float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each (default: 7)")
    rounds, n_cpus = parser.parse_args().rounds, os.cpu_count() or 1
    print(f"fastal {fastal.__version__}, torch {torch.__version__}, {n_cpus} CPUs and busy "
          f"processes, {torch.get_num_threads()} threads, {rounds} rounds; ms")  # fmt: skip
    print(f"{'':<24}{'alone':>9}{'CPU':>9}{'busy':>9}{'CPU':>9}{'ratio':>7}")
    with spinning(n_cpus) as processes:
        for name, work in strategies().items():
            work()
            alone, busy = [], []
            for _ in range(rounds):
                alone.append(spent(work))
                send(processes, signal.SIGCONT)
                busy.append(spent(work))
                send(processes, signal.SIGSTOP)
            medians = [*medians_of(alone), *medians_of(busy)]
            ratio = medians[2] / medians[0]
            print(f"{name:<24}" + "".join(f"{1e3 * value:9.1f}" for value in medians)
                  + f"{ratio:7.2f}" + " above the bound" * (ratio > MOST), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
