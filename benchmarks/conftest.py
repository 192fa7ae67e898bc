"""Prints the results of the CPU benchmarks as a table.

The table has GB/s, the ratio to naive eager torch, and the share of this machine's read bandwidth.
`--results FILE` also writes it to a file.
"""

import os
import platform
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.providers import NAIVE
from fastal.ops import instruction_set


def pytest_addoption(parser):
    parser.addoption("--results", type=Path)


def pytest_terminal_summary(config):
    session = getattr(config, "_benchmarksession", None)
    timed = [b for b in getattr(session, "benchmarks", []) if not b.has_error]
    if not timed:
        return
    naive = {
        b.extra_info["found"]["case"]: b.stats.min
        for b in timed
        if b.extra_info["provider"] == NAIVE
    }
    table = Table("logits", "provider", "GB/s", "elements/ns", "times naive", "of bandwidth")
    for b in timed:
        found, took = b.extra_info["found"], b.stats.min
        rate, case = found["bytes"] / took, found["case"]
        table.add_row(
            case, b.extra_info["provider"], f"{rate / 1e9:.2f}",
            f"{found['elements'] / took / 1e9:.2f}",
            f"{naive[case] / took:.1f}" if case in naive else "",
            f"{rate / found['bandwidth']:.1%} of {found['bandwidth'] / 1e9:.1f}",
        )  # fmt: skip
    console = Console(width=120, record=True)
    native = instruction_set() or "no native kernels"
    console.print(
        f"\n{date.today()}: {platform.machine()}, {os.cpu_count()} cores, "
        f"{native}, torch {torch.__version__}; best of the rounds",
        highlight=False,
    )
    console.print(table)
    if path := config.getoption("--results"):
        console.save_text(path)
