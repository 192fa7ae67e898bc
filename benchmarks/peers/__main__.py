"""Measures fastal beside other tools: the same jobs, the same data, each in its own process.

    .venv/bin/python -m benchmarks.peers --json benchmarks/results/FILE.json
    .venv/bin/python -m benchmarks.peers --quick
    .venv/bin/python -m benchmarks.peers --only top,bald --tools fastal,modal

Tools that are not in the main environment run in those that `scripts/test-adapters TOOL` makes;
`python -m benchmarks.peers.environments` makes all that are missing. The file of results is written
after each tool. What it has already is not measured again.
"""

import argparse
import contextlib
import json
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

import fastal
from benchmarks.peers.measure import Case, Limits, Runner, prepared
from benchmarks.peers.results import Results, amount, named, read, seconds, write
from benchmarks.peers.tasks import TASKS, TOOLS
from fastal.ops import instruction_set


def main() -> None:
    options = arguments()
    limits = Limits(options.limit, int(options.memory * 1e9), options.threads)
    results = read(options.json) if options.json and options.json.exists() else started(limits)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        runners: dict[str, Runner] = {}
        for task in options.only:
            tools = [
                tool for tool in TASKS[task].tools
                if tool in options.tools and not results.of(task, tool)
            ]  # fmt: skip
            if not tools:
                continue
            print(f"\n{TASKS[task].title}")
            with prepared(task, TASKS[task].quick if options.quick else TASKS[task].sizes) as job:
                for tool in tools:
                    if tool not in runners:
                        runners[tool] = stack.enter_context(Runner(tool, limits))
                    for case in runners[tool].cases(job):
                        results.cases.append(case)
                        print(line(case), flush=True)
                    if options.json:
                        write(options.json, results)
    print(f"\n{time.monotonic() - began:.0f} seconds in all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all works")
    parser.add_argument("--only", type=names(TASKS), default=list(TASKS), metavar="TASK,...",
                        help=f"of {', '.join(TASKS)}")  # fmt: skip
    parser.add_argument("--tools", type=names(TOOLS), default=list(TOOLS), metavar="TOOL,...",
                        help=f"of {', '.join(TOOLS)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="OUT", help="the file of results")
    parser.add_argument("--limit", type=float, default=20, help="seconds of a run (default: 20)")
    parser.add_argument("--memory", type=float, default=10, help="GB of a run (default: 10)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    return parser.parse_args()


def names(known: dict[str, Any]) -> Any:
    """A type of arguments: names with commas between them."""

    def parsed(text: str) -> list[str]:
        given = text.split(",")
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"wanted {', '.join(known)}, got {unknown[0]}")
        return given

    return parsed


def started(limits: Limits) -> Results:
    about = {
        "date": str(date.today()),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": limits.threads,
        "instructions": instruction_set(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fastal": fastal.__version__,
        "limit_seconds": limits.seconds,
        "limit_bytes": limits.memory,
    }
    return Results(about, [])


def line(case: Case) -> str:
    start = f"  {TOOLS[case['tool']].label:<40}{named(case['size']):>20}"
    if case["status"] != "done":
        reasons = [case[key] for key in ("message", "expected", "expected_bytes") if key in case]
        return f"{start}  {case['status']} {json.dumps(reasons) if reasons else ''}"
    agreed = ", ".join(f"{name} {value:.3g}" for name, value in case["agreement"].items())
    return f"{start} {seconds(case['seconds']):>10} {amount(case['peak']):>10}  {agreed}"


if __name__ == "__main__":
    main()
