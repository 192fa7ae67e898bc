"""Checks fastal on the GPU of this machine: accuracy of scores, exactness of picks, and speed.

    scripts/gpu-check [--out FILE.json] [--quick] [--limit SECONDS]

It first checks that the machine has what Triton needs. Each step then runs in a process of its own,
with a time limit, and prints one JSON record a line. So the crash or hang of a step loses neither
the records of other steps nor its own earlier ones. To run single steps:

    PYTHONPATH=.:kernels python -m benchmarks.gpu --step correctness --classes 2,1000
    PYTHONPATH=.:kernels compute-sanitizer python -m benchmarks.gpu --step sanitize

With `--device cpu` and TRITON_INTERPRET=1, all steps interpret the kernels, on matrices so small
that this takes a few seconds. It tests this program, not the kernels. Its times mean nothing.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

from benchmarks.gpu.needs import missing


def main() -> int:
    """Runs the command. Returns the exit code: 0 if nothing failed."""
    options = arguments()
    if not options.step and (problem := missing(options.device)):
        sys.exit(f"gpu-check: {problem}")
    if options.step:
        from benchmarks.gpu.steps import run_steps

        logging.getLogger("fastal").setLevel(logging.CRITICAL)  # invalid rows are intended here
        return run_steps(options)
    from benchmarks.gpu.plan import check_everything
    from benchmarks.gpu.report import report

    found = check_everything(options)
    try:
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    finally:
        print(report(found))
    return 0 if found["passed"] else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all records to a file")
    parser.add_argument("--quick", action="store_true", help="run fewer cases, in two minutes")
    parser.add_argument(
        "--limit",
        type=float,
        metavar="SECONDS",
        help="the time limit of the whole run (default: 290, or 120 with --quick)",
    )
    parser.add_argument(
        "--step", metavar="STEPS", help="run only these steps, in this process: picks,large"
    )
    parser.add_argument(
        "--classes", type=numbers, help="numbers of classes for the correctness step: 2,10,1000"
    )
    parser.add_argument(
        "--backend",
        default="triton",
        choices=("triton", "torch"),
        help="the backend that the correctness and picks steps check (default: triton)",
    )
    parser.add_argument(
        "--device",
        default="cuda",
        help="the device to check (default: cuda); cpu interprets the kernels, for developers",
    )
    parser.add_argument(
        "--seconds", type=float, default=600, help="the time limit of a step (default: 600)"
    )
    options = parser.parse_args()
    if options.out and not options.out.absolute().parent.is_dir():
        parser.error(f"--out: the folder {options.out.absolute().parent} does not exist")
    return options


def numbers(given: str) -> tuple[int, ...]:
    """The numbers of a comma-separated list."""
    return tuple(map(int, given.split(",")))


if __name__ == "__main__":
    sys.exit(main())
