"""Prints GB/s, the ratio to naive eager torch, and the share of this machine's read bandwidth.

`--results FILE` writes the table to a file as well.
"""

import os
import platform
import time
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

NAIVE = "eager, sort"


def pytest_addoption(parser):
    parser.addoption("--results", type=Path)


def read_bandwidth(n_bytes=1 << 30, rounds=5):
    """Bytes a second that torch's threads read from memory: the best of three reductions."""
    x = torch.ones(n_bytes // 4)
    best = float("inf")
    for reduce in (torch.sum, torch.amax, lambda x: torch.dot(x, x)):
        for _ in range(rounds):
            begin = time.perf_counter()
            reduce(x)
            best = min(best, time.perf_counter() - begin)
    return n_bytes / best


def pytest_terminal_summary(config):
    session = getattr(config, "_benchmarksession", None)
    timed = [b for b in getattr(session, "benchmarks", []) if not b.has_error]
    if not timed:
        return
    bandwidth = read_bandwidth()
    rate = {
        (b.extra_info["case"], b.extra_info["provider"]): b.extra_info["bytes"] / b.stats.min
        for b in timed
    }
    table = Table("logits", "provider", "GB/s", "times naive", "of read bandwidth")
    for (case, provider), found in rate.items():
        naive = rate.get((case, NAIVE))
        ratio = f"{found / naive:.1f}" if naive else ""
        table.add_row(case, provider, f"{found / 1e9:.2f}", ratio, f"{found / bandwidth:.1%}")
    console = Console(width=100, record=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    console.print(
        f"\n{date.today()}: {machine}, torch {torch.__version__}; "
        f"read bandwidth {bandwidth / 1e9:.1f} GB/s; best of 3 rounds",
        highlight=False,
    )
    console.print(table)
    if path := config.getoption("--results"):
        console.save_text(path)
