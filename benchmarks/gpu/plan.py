"""Which steps run, side by side or one after the other, and by when each must end."""

import os
import shutil
import sys
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gpu import sanitize
from benchmarks.gpu.runner import Outcome, run

CLASSES = (2, 3, 7, 10, 16, 17, 31, 32, 33, 64, 100, 257, 1000, 1001, 1024, 1025, 4096, 4097)
CLASSES += (32_000, 50_257, 131_072, 262_144)
FEW_CLASSES = (2, 10, 33, 1000, 1001, 50_257)
INTERPRETED_CLASSES = (2, 10, 33)

# Seconds after the start by which the checks, the timings and the host's rows must end.
ENDS, QUICK_ENDS = (130, 255, 290), (60, 105, 120)


class Check:
    """Runs steps as processes and keeps what they find."""

    def __init__(self, options: Namespace) -> None:
        self.started = time.monotonic()
        self.records: dict[str, list[dict[str, Any]]] = {}
        self.failures: list[str] = []
        self._command = [sys.executable, "-m", "benchmarks.gpu", "--device", options.device]
        self._command += ["--quick"] * options.quick

    def step(self, end: float, step: str, *arguments: str, **variables: str) -> None:
        """Runs a step until `end`, in seconds after the start, at most."""
        outcome = self._run(end, step, *arguments, **variables)
        self._keep(step, outcome.records)
        if outcome.problem:
            self.failures.append(f"{' '.join((step, *arguments))}: {outcome.problem}")

    def sanitize(self, end: float, tool: str) -> None:
        """Runs the tiny step under compute-sanitizer, if there is one."""
        found = {"tool": tool, "result": "compute-sanitizer is not on the PATH"}
        if program := shutil.which("compute-sanitizer"):
            under = (program, "--tool", tool)
            outcome = self._run(end, "sanitize", under=under, **sanitize.VARIABLES)
            found = sanitize.verdict(tool, outcome)
        self._keep("sanitizer", [found])

    def _run(
        self, end: float, step: str, *arguments: str, under: tuple[str, ...] = (), **variables: str
    ) -> Outcome:
        seconds = round(end - (time.monotonic() - self.started))
        command = [*under, *self._command, "--step", step, "--seconds", str(seconds), *arguments]
        return run(command, seconds, **variables)

    def _keep(self, step: str, records: list[dict[str, Any]]) -> None:
        self.records.setdefault(step, []).extend(records)
        for record in records:
            self.failures += [f"{step}: {failure}" for failure in record.get("failures", [])]


def check_everything(options: Namespace) -> dict[str, Any]:
    """Runs every step, within the time, and returns all that they found."""
    check = Check(options)
    checks_end, timings_end, host_end = QUICK_ENDS if options.quick else ENDS
    check.step(checks_end, "environment")
    if check.failures:
        sys.exit(f"gpu-check: {check.failures[0]}")
    _run_checks(check, options, checks_end)
    if options.device != "cpu":
        check.step(timings_end, "timings")
        check.step(host_end, "host")
    return {
        "passed": not check.failures,
        "seconds": round(time.monotonic() - check.started, 1),
        "failures": check.failures,
        **check.records,
    }


def _run_checks(check: Check, options: Namespace, end: float) -> None:
    """All but timings, side by side.

    Compiling and computing truths is bound by the CPU: a process of its own for every number of
    classes, the many first, since they take the longest.
    """
    on_gpu = options.device != "cpu"
    few = ",".join(map(str, FEW_CLASSES if on_gpu else INTERPRETED_CLASSES))
    jobs = [("large",)] if on_gpu and not options.quick else []
    jobs.append(("picks",))
    jobs += [("correctness", "--classes", str(n)) for n in sorted(options.classes, reverse=True)]
    jobs.append(("correctness", "--classes", few, "--backend", "torch"))
    with ThreadPoolExecutor(min(14, max(2, (os.cpu_count() or 1) - 2))) as pool:
        tools = ("memcheck", "racecheck") if on_gpu else ()
        started = [pool.submit(check.sanitize, end, tool) for tool in tools]
        started += [pool.submit(check.step, end, *job, OMP_NUM_THREADS="1") for job in jobs]
        for job in started:
            job.result()
