"""Checks fastal on the GPU of this machine: are the scores right, the picks exact, and how fast?

    scripts/gpu-check [--out FILE.json] [--quick] [--limit SECONDS]

It first looks for what Triton needs of the machine. Every step is then a process of its own, with
a time limit, that prints a JSON record a line: neither a crash nor a hang of one takes away what
the others find, or what it had found itself. A step alone, or several:

    PYTHONPATH=.:kernels python -m benchmarks.gpu --step correctness --classes 2,1000
    PYTHONPATH=.:kernels compute-sanitizer python -m benchmarks.gpu --step sanitize

With `--device cpu` and TRITON_INTERPRET=1 all steps interpret the kernels, on matrices so small
that they take a few seconds. That tries the check, not the kernels; its times mean nothing.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

from benchmarks.gpu.needs import missing


def main() -> int:
    """The exit code: 0 where nothing is wrong."""
    options = arguments()
    if not options.step and (problem := missing(options.device)):
        sys.exit(f"gpu-check: {problem}")
    if options.step:
        from benchmarks.gpu.steps import run_steps

        logging.getLogger("fastal").setLevel(logging.CRITICAL)  # invalid rows are made on purpose
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
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all findings there")
    parser.add_argument("--quick", action="store_true", help="less of everything, in two minutes")
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS", help="end by then: 290, or 120 with --quick"
    )
    parser.add_argument("--step", metavar="STEPS", help="only these, in this process: picks,large")
    parser.add_argument(
        "--classes", type=numbers, help="class counts for the correctness step: 2,10,1000"
    )
    parser.add_argument("--backend", default="triton", choices=("triton", "torch"))
    parser.add_argument("--device", default="cuda", help="cpu: for developers; interprets")
    parser.add_argument("--seconds", type=float, default=600, help="the time that a step has")
    options = parser.parse_args()
    if options.out and not options.out.absolute().parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.absolute().parent}")
    return options


def numbers(given: str) -> tuple[int, ...]:
    """Numbers with commas."""
    return tuple(map(int, given.split(",")))


if __name__ == "__main__":
    sys.exit(main())
