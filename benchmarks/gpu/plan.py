"""The order of the steps, side by side or one after the other, and their time limits."""

import os
import shutil
import sys
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gpu.cases import Cases, cases_for
from benchmarks.gpu.runner import Outcome, run

# Seconds from the start until the checks, the timings and the host step must end.
ENDS, QUICK_ENDS = (160, 260, 290), (75, 105, 120)
MOST_SIDE_BY_SIDE = 14
CHECKS = ("picks", "cosine", "ranks", "draws", "core_set,duplicates,counts")  # one process for each
# Without torch's cache, each tensor has an allocation of its own size.
SANITIZED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
Job = tuple[str, ...]


class Check:
    """Runs steps as processes and collects their records."""

    def __init__(self, options: Namespace) -> None:
        self.started = time.monotonic()
        self.records: dict[str, list[dict[str, Any]]] = {}
        self.failures: list[str] = []
        self._command = [sys.executable, "-m", "benchmarks.gpu", "--device", options.device]
        self._command += ["--quick"] * options.quick

    def step(self, end: float, step: str, *arguments: str, **variables: str) -> None:
        """Runs steps in one process, at most until `end`, in seconds from the start."""
        outcome = self._run(end, step, *arguments, **variables)
        for record in outcome.records:
            self._keep(record.pop("step", step), record)
        if outcome.problem:
            self.failures.append(f"{' '.join((step, *arguments))}: {outcome.problem}")

    def sanitize(self, end: float, tool: str) -> None:
        """Runs the sanitize step under compute-sanitizer, if it is installed."""
        found = {"tool": tool, "result": "compute-sanitizer is not on the PATH"}
        if program := shutil.which("compute-sanitizer"):
            outcome = self._run(end, "sanitize", under=(program, "--tool", tool), **SANITIZED)
            found = verdict(tool, outcome)
        self._keep("sanitizer", found)

    def _run(
        self, end: float, step: str, *arguments: str, under: tuple[str, ...] = (), **variables: str
    ) -> Outcome:
        seconds = round(end - (time.monotonic() - self.started))
        command = [*under, *self._command, "--step", step, "--seconds", str(seconds), *arguments]
        return run(command, seconds, **variables)

    def _keep(self, step: str, record: dict[str, Any]) -> None:
        self.records.setdefault(step, []).append(record)
        self.failures += [f"{step}: {failure}" for failure in record.get("failures", [])]


def verdict(tool: str, outcome: Outcome) -> dict[str, Any]:
    """The finding of a tool of compute-sanitizer. If the tool cannot run, this is no failure."""
    if "not supported" in outcome.output.lower():
        return {"tool": tool, "result": "compute-sanitizer does not support this device"}
    summaries = [line for line in outcome.output.splitlines() if "SUMMARY" in line]
    result = summaries[-1].strip("= ") if summaries else outcome.problem or "no summary"
    failures = [failure for record in outcome.records for failure in record.get("failures", [])]
    if summaries and not any(clean in result for clean in (": 0 errors", ": 0 hazards")):
        failures.append(result)
    return {"tool": tool, "result": result, "failures": failures}


def check_everything(options: Namespace) -> dict[str, Any]:
    """Runs every step within the time limit, and returns all records."""
    check = Check(options)
    ends = QUICK_ENDS if options.quick else ENDS
    checks_end, timings_end, host_end = (
        end * (options.limit or ends[-1]) / ends[-1] for end in ends
    )
    check.step(checks_end, "environment")
    if not check.failures:  # else no other step can work
        _run_checks(check, options, checks_end)
        check.step(timings_end, "timings")
        check.step(host_end, "host")
    return {
        "passed": not check.failures,
        "seconds": round(time.monotonic() - check.started, 1),
        "failures": check.failures,
        **check.records,
    }


def jobs_of(cases: Cases, on_gpu: bool) -> list[Job]:
    """The steps and arguments of the processes that run side by side.

    The CPU bounds the time to compile and to compute the true scores. So each number of classes has
    a process of its own, and the largest, which take longest, come first. If the kernels are
    interpreted, one process is enough.
    """
    few = ",".join(map(str, cases.reference_classes))
    reference = ("correctness", "--classes", few, "--backend", "torch")
    if not on_gpu:
        all_classes = ",".join(map(str, cases.classes))
        steps = ",".join(("large", *CHECKS, "sanitize", "correctness"))
        return [(steps, "--classes", all_classes), reference]
    by_classes = [("correctness", "--classes", str(n)) for n in sorted(cases.classes, reverse=True)]
    large = [("large",)] if cases.far else []
    return [*large, *((step,) for step in CHECKS), *by_classes, reference]


def _run_checks(check: Check, options: Namespace, end: float) -> None:
    """Runs all steps except timings and host, side by side."""
    on_gpu = options.device != "cpu"
    tools = ("memcheck", "racecheck") if on_gpu else ()
    n_cpus = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(min(MOST_SIDE_BY_SIDE, max(2, n_cpus - 1))) as pool:
        started = [
            pool.submit(check.step, end, *job, OMP_NUM_THREADS="1")
            for job in jobs_of(cases_for(options), on_gpu)
        ]
        started += [pool.submit(check.sanitize, end, tool) for tool in tools]
        for job in started:
            job.result()
