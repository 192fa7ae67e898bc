"""Checks fastal on the GPU of this machine: are the scores right, the picks exact, and how fast?

    scripts/gpu-check [--out FILE.json] [--quick]

Every step is a process of its own, with a time limit, that prints a JSON record a line: neither a
crash nor a hang of one takes away what the others find, or what it had found itself. A step alone:

    PYTHONPATH=.:kernels python -m benchmarks.gpu --step correctness --classes 2,1000
    PYTHONPATH=.:kernels compute-sanitizer python -m benchmarks.gpu --step sanitize

With `--device cpu` and TRITON_INTERPRET=1 the kernels are interpreted; then there are no timings.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu.correctness import check_correctness
from benchmarks.gpu.host import host
from benchmarks.gpu.large import check_large
from benchmarks.gpu.machine import environment
from benchmarks.gpu.picks import check_picks
from benchmarks.gpu.plan import CLASSES, FEW_CLASSES, INTERPRETED_CLASSES, check_everything
from benchmarks.gpu.report import report
from benchmarks.gpu.runner import FOUND
from benchmarks.gpu.sanitize import check_tiny
from benchmarks.gpu.timings import timings

# Records, each as soon as it is found.
STEPS: dict[str, Callable[[argparse.Namespace], Iterable[dict[str, Any]]]] = {
    "environment": lambda o: [environment(o.device)],
    "correctness": lambda o: (check_correctness(o.device, n, o.backend) for n in o.classes),
    "picks": lambda o: [check_picks(o.device, o.backend)],
    "large": lambda o: check_large(o.device),
    "sanitize": lambda o: [check_tiny(o.device)],
    "timings": lambda o: timings(o.device, o.seconds, o.quick),
    "host": lambda o: host(o.device, o.quick),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all findings there")
    parser.add_argument("--quick", action="store_true", help="less of everything, in two minutes")
    parser.add_argument("--step", choices=STEPS, help="only this, in this process")
    parser.add_argument("--classes", help="numbers of classes for the correctness step: 2,10,1000")
    parser.add_argument("--backend", default="triton", choices=("triton", "torch"))
    parser.add_argument("--device", default="cuda", help="cpu: for developers; interprets")
    parser.add_argument("--seconds", type=float, default=600, help="the time that a step has")
    options = parser.parse_args()
    if options.classes:
        options.classes = tuple(map(int, options.classes.split(",")))
    elif options.device == "cpu":
        options.classes = INTERPRETED_CLASSES
    else:
        options.classes = FEW_CLASSES if options.quick else CLASSES
    return options


def main() -> int:
    """The exit code: 0 where nothing is wrong."""
    options = arguments()
    logging.getLogger("fastal").setLevel(logging.ERROR)  # invalid rows are made on purpose here
    if options.step:
        failed = False
        for record in STEPS[options.step](options):
            print(json.dumps(record), flush=True)
            failed |= bool(record.get("failures"))
        return FOUND if failed else 0
    found = check_everything(options)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
