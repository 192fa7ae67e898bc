"""Checks fastal on the GPU of this machine: are the scores right, the picks exact, and how fast?

    scripts/gpu-check [--out FILE.json] [--quick]

Every step is a process of its own, with a time limit, that prints a JSON record a line: neither a
crash nor a hang of one takes away what the others find, or what it had found itself. A step alone:

    PYTHONPATH=.:kernels python -m benchmarks.gpu_check --step correctness --classes 2,1000
    PYTHONPATH=.:kernels compute-sanitizer python -m benchmarks.gpu_check --sanitize

With `--device cpu` and TRITON_INTERPRET=1 the kernels are interpreted; then there are no timings.
"""

import argparse
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastal
from benchmarks import gpu_timing
from fastal.backend import uncertainty
from fastal.scores import MEASURES
from tests.matrices import INVALID, INVALID_PROBS, layouts, regimes

RELATIVE = 1e-5
ABSOLUTE = float(np.finfo(np.float32).tiny)  # below it, float32 has no relative precision

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
CLASSES = (2, 3, 7, 10, 16, 17, 31, 32, 33, 64, 100, 257, 1000, 1001, 1024, 1025, 4096, 4097)
CLASSES += (32_000, 50_257, 131_072, 262_144)
FEW_CLASSES = (2, 10, 33, 1000, 1001, 50_257)
INTERPRETED_CLASSES = (2, 10, 33)
POOLS = ((2, torch.float32), (10, torch.float32), (33, torch.bfloat16), (1000, torch.bfloat16))
POOLS += ((1001, torch.float16),)

FOUND = 3  # the exit code of a step that ran to its end and found failures

# Seconds after the start by which the checks, the timings and the copies from the host must end.
ENDS, QUICK_ENDS = (130, 260, 290), (60, 105, 120)


# ------------------------------------------------------------------------------------ truth


def definitions(x: torch.Tensor, kind: str) -> np.ndarray:
    """The four scores [4, N] as the book defines them: softmax, sort, formulas, in long doubles."""
    # Rows contiguous, which NumPy adds up in pairs: else 1 − p1 = 1e-12 would lose to rounding.
    p = x.detach().cpu().double().numpy().astype(np.longdouble, order="C")
    n = p.shape[1]
    if kind != "probs":
        p = np.exp(p - p.max(1, keepdims=True))
    p = np.sort(p / p.sum(1, keepdims=True), axis=1)
    p1, p2 = p[:, -1], p[:, -2]
    log_p = np.log(p, where=p > 0, out=np.zeros_like(p))  # p log p is 0 at p = 0
    entropy = -(p * log_p).sum(1) / math.log(n)
    return np.stack([n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, entropy])


def relative_errors(got: torch.Tensor, want: np.ndarray) -> np.ndarray:
    """How far each score is off, of what it should be; infinite for NaN and outside [0, 1]."""
    score = got.cpu().double().numpy()
    off = np.maximum(np.abs(score - want) - ABSOLUTE, 0)
    error = np.divide(off, want, where=want > 0, out=np.where(off > 0, np.inf, 0).astype(off.dtype))
    return np.where((score >= 0) & (score <= 1), error, np.inf)


class Findings:
    """Counts checks, and keeps the failures and the worst error of each score by dtype."""

    def __init__(self) -> None:
        self.checks = 0
        self.failures: list[str] = []
        self.worst: dict[str, dict[str, float]] = {}

    @contextmanager
    def check(self, what: str) -> Iterator[None]:
        """One check: whatever goes wrong in it is a failure, and the next one runs."""
        self.checks += 1
        try:
            yield
        except Exception as error:  # a finding
            self.failures.append(f"{what}: {gpu_timing.sentence(error)}")

    def scores(
        self, x: torch.Tensor, got: Sequence[torch.Tensor], truth: np.ndarray,
        measures: Sequence[str] = MEASURES,
    ) -> None:  # fmt: skip
        """Holds scores of x against the truth; AssertionError for the first one too far off."""
        worst = self.worst.setdefault(name_of(x.dtype), dict.fromkeys(MEASURES, 0.0))
        errors = {}
        for measure, score in zip(measures, got, strict=True):
            errors[measure] = relative_errors(score, truth[MEASURES.index(measure)])
            worst[measure] = max(worst[measure], float(errors[measure].max(initial=0)))
        for measure, error in errors.items():
            row = int(error.argmax())
            assert error[row] <= RELATIVE, f"{measure} of row {row} is off by {error[row]:.1e}"

    def record(self, **fields: Any) -> dict[str, Any]:
        worst = {
            dtype: {measure: number(error) for measure, error in errors.items()}
            for dtype, errors in self.worst.items()
        }
        return fields | {"checks": self.checks, "worst": worst, "failures": self.failures}


def number(x: float) -> float | str:
    """A float that JSON can hold."""
    return float(f"{x:.3g}") if math.isfinite(x) else str(x)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ------------------------------------------------------------------------------------ scores


def check_correctness(
    device: str, class_counts: Sequence[int], backend: str = "triton"
) -> dict[str, Any]:
    """Every regime, dtype, kind and layout, and invalid rows, for each number of classes."""
    findings = Findings()
    for n_classes in class_counts:
        for dtype in DTYPES:
            for kind in ("logits", "probs", "log_probs"):
                _check_regimes(findings, device, n_classes, dtype, kind, backend)
                if n_classes >= 4:
                    _check_invalid(findings, device, n_classes, dtype, kind, backend)
        # Each layout is a kernel to compile: the dtypes take turns.
        _check_layouts(findings, device, n_classes, DTYPES[n_classes % 3], backend)
    return findings.record(class_counts=list(class_counts), backend=backend)


def rows_of(n_classes: int, dtype: torch.dtype, kind: str) -> torch.Tensor:
    """A row of each regime, on the CPU."""
    if kind == "logits":
        return regimes(n_classes, dtype)
    log_p = torch.log_softmax(regimes(n_classes, torch.float64).clamp(-1e4, 1e4), 1)
    return (log_p if kind == "log_probs" else log_p.exp()).to(dtype)


def _check_regimes(findings, device, n_classes, dtype, kind, backend):
    rows = rows_of(n_classes, dtype, kind)
    truth = definitions(rows, kind)
    # Long rows are split over programs where there are few of them, up to 256.
    copies = 3 if device == "cpu" else 17 if n_classes > 5000 else 65
    companies = {
        "alone": (rows[:1], truth[:, :1]),
        "few rows": (rows, truth),
        "many rows": (rows.to(device).repeat(copies, 1), np.tile(truth, copies)),
    }
    for company, (x, want) in companies.items():
        with findings.check(f"{n_classes} classes, {name_of(dtype)} {kind}, {company}"):
            got = fastal.score(x.to(device), kind=kind, backend=backend)
            findings.scores(x, got, want)


def _check_invalid(findings, device, n_classes, dtype, kind, backend):
    cases = INVALID_PROBS if kind == "probs" else INVALID
    bad = torch.full((len(cases), n_classes), 0.0 if kind == "probs" else -math.inf)
    bad[:, :4] = torch.tensor(list(cases.values()))
    good = rows_of(n_classes, dtype, kind)[2:3]
    x = torch.cat([good, bad[:3].to(dtype), good, bad[3:].to(dtype), good]).to(device)
    invalid = [row for row in range(len(x) - 1) if row not in (0, 4)]
    what = f"{n_classes} classes, {name_of(dtype)} {kind}, invalid rows"
    with findings.check(f"{what}, skipped"):
        for score in fastal.score(x, kind=kind, on_invalid="skip", backend=backend):
            found = score.isnan().nonzero()[:, 0].tolist()
            assert found == invalid, f"NaN in rows {found}, not {invalid}"
    with findings.check(f"{what}, raised"):
        try:
            fastal.score(x, kind=kind, backend=backend)
        except fastal.InvalidRows as error:
            found = error.rows, error.count
            wanted = invalid[: len(error.rows)], len(invalid)
            assert found == wanted, f"named {found}, not {wanted}"
        else:
            raise AssertionError("nothing was raised")


def _check_layouts(findings, device, n_classes, dtype, backend):
    x = regimes(n_classes, dtype).to(device)
    # Views must be made where they are used: a copy to the device would be contiguous.
    with torch.device(device):
        views = layouts(x)
        shifted = torch.full((x.numel() + 1,), math.nan, dtype=dtype)
    shifted[1:] = x.flatten()
    views["one element on"] = shifted[1:].view(x.shape)
    views["from the second row on"] = x[1:]
    if n_classes > 2:
        views["from the second column on"] = x[:, 1:]
    for name, view in views.items():
        with findings.check(f"{n_classes} classes, {name_of(dtype)}, {name}"):
            got = fastal.score(view, backend=backend)
            findings.scores(view, got, definitions(view, "logits"))


# ------------------------------------------------------------------------------------ picks


def check_selection(
    device: str,
    n_rows: int,
    pools: Sequence[tuple[int, torch.dtype]] = POOLS,
    backend: str = "triton",
) -> dict[str, Any]:
    """Picks against the sorted scores of the same rows: ties, invalid rows, chunks in any order."""
    findings = Findings()
    generator = torch.Generator(device).manual_seed(0)
    for turn, (n_classes, dtype) in enumerate(pools):
        by = MEASURES[turn % len(MEASURES)]
        what = f"{n_classes} classes, {name_of(dtype)}, by {by}"
        x = torch.empty(n_rows, n_classes, dtype=dtype, device=device).normal_(generator=generator)
        _check_picks(findings, x, by, what, backend)
        x[::97, 0] = math.nan
        _check_picks(findings, x, by, f"{what}, invalid rows", backend)
        # Few distinct values: hardly a score is the only one of its kind.
        x.random_(0, 3, generator=generator)
        x[:, 2:] = 0
        _check_picks(findings, x, by, f"{what}, ties", backend)
    return findings.record(rows=n_rows, backend=backend)


def ranked(scores: torch.Tensor) -> torch.Tensor:
    """Rows by score, best first, ties to the lower row; NaN left out."""
    valid = scores.isnan().logical_not().nonzero()[:, 0]
    return valid[scores[valid].sort(descending=True, stable=True).indices]


def _check_picks(findings, x, by, what, backend):
    with findings.check(f"{what}, scores"):
        scores = getattr(fastal.score(x, on_invalid="skip", backend=backend), by)
        _check_picks_of(findings, x, scores, by, what, backend)


def _check_picks_of(findings, x, scores, by, what, backend):
    best = ranked(scores)
    chunks = uneven_chunks(len(x))
    np.random.default_rng(0).shuffle(chunks)
    for k in sorted({1, -(-len(x) // 1000), len(x) // 10}):
        wanted = best[:k]

        def compare(picks, wanted=wanted):
            differ = int((picks.rows != wanted).sum())
            assert differ == 0, f"{differ} of {len(wanted)} rows differ from the sorted scores"
            assert torch.equal(picks.scores, scores[wanted]), "scores differ from fastal.score's"
            assert picks.invalid == len(x) - len(best), f"{picks.invalid} invalid rows"

        for again in ("", ", again"):
            with findings.check(f"{what}, k = {k}{again}"):
                compare(fastal.select(x, k, by, on_invalid="skip", backend=backend))
        with findings.check(f"{what}, k = {k}, shuffled chunks"):
            selector = fastal.Selector(k, by, on_invalid="skip", backend=backend)
            for start, stop in chunks:
                selector.update(x[start:stop], start)
            compare(selector.result())


def uneven_chunks(n_rows: int) -> list[tuple[int, int]]:
    """Chunks of a row to half of all, some of which begin at odd rows."""
    edges = {0, 1, n_rows // 1000, n_rows // 9, n_rows // 3 | 1, n_rows // 2, n_rows}
    return list(pairwise(sorted(edges)))


# ------------------------------------------------------------------------------------ size


def check_large(device: str) -> Iterator[dict[str, Any]]:
    """Matrices of more than 2^31 elements, and of more than 2^31 rows: the far ends of them."""
    for n_rows, n_classes, dtype, by_columns in (
        (2**31 // 10 + 1000, 10, torch.float32, False),
        (2**31 // 1001 + 1000, 1001, torch.bfloat16, False),
        (2**31 // 131_072 + 100, 131_072, torch.bfloat16, False),
        (2**31 // 1000 + 1000, 1000, torch.bfloat16, True),
        (2**31 + 1000, 2, torch.bfloat16, False),
    ):
        what = f"{n_rows} x {n_classes} {name_of(dtype)}{' by columns' * by_columns}"
        needed = n_rows * (n_classes * dtype.itemsize + 4 * 2)
        if needed > gpu_timing.usable_bytes():
            yield {"matrix": what, "skipped": f"needs {needed / 1e9:.0f} GB", "failures": []}
            continue
        findings = Findings()
        with findings.check(what):
            shape = (n_classes, n_rows) if by_columns else (n_rows, n_classes)
            x = torch.empty(shape, dtype=dtype, device=device).normal_()
            x = x.t() if by_columns else x
            x[:, 0] += 20  # certain rows, but for three
            beyond = 2**31 // n_classes if n_classes > 2 else 2**31
            uncertain = [1, beyond, n_rows - 2]
            x[uncertain] = 0
            looked_at = [row + step for row in uncertain for step in (-1, 0, 1)]
            measures = ("margin", "entropy")
            scores = uncertainty(x, measures, backend="triton")
            sample = x[looked_at]
            got = [score[looked_at] for score in scores]
            findings.scores(sample, got, definitions(sample, "logits"), measures)
            del scores
            picks = fastal.select(x, 3, "margin", backend="triton")
            assert picks.rows.tolist() == uncertain, f"picked {picks.rows.tolist()}"
        x = None
        torch.cuda.empty_cache()
        yield findings.record(matrix=what)


def check_tiny(device: str) -> dict[str, Any]:
    """A launch or two of each kind of kernel on tiny matrices, for compute-sanitizer."""
    findings = Findings()
    asked = ((torch.bfloat16, "logits"), (torch.float32, "logits"), (torch.float32, "probs"))
    for n_classes in (2, 10, 33, 257, 1001, 32_000):
        for dtype, kind in asked:
            x = torch.randn(5, n_classes)
            x = (x.softmax(1) if kind == "probs" else x).to(device, dtype)
            with findings.check(f"{n_classes} classes, {name_of(dtype)} {kind}"):
                for rows in (x, x[1:]):
                    got = fastal.score(rows, kind=kind, backend="triton")
                    findings.scores(rows, got, definitions(rows, kind))
                fastal.select(x, 2, kind=kind, backend="triton")
    return findings.record()


# ------------------------------------------------------------------------------------ machine


def environment(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    found = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": _version("triton"),
        "numpy": np.__version__,
        "fastal": fastal.__version__,
        "cpus": os.cpu_count(),
        "device": "CPU",
        "failures": [],
    }
    if device == "cpu":
        return found
    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA or ROCm GPU on this machine")
    if reasons := fastal.backend_reasons(torch.empty(1, 2, device=device))["triton"]:
        found["failures"].append(f"the kernels cannot be used: {'; '.join(reasons)}")
    properties = torch.cuda.get_device_properties(device)
    found |= {
        "device": properties.name,
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "architecture": getattr(properties, "gcnArchName", None),  # AMD's
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
    }
    asked = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit"
    answer = _output("nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader", "--id=0")
    if answer:
        found |= zip(asked.replace(".", "_").split(","), answer.split(", "), strict=False)
    return found


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# ------------------------------------------------------------------------------------ steps


def records_of(step: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What a step finds, as soon as it finds it."""
    device = options.device
    if step == "environment":
        yield environment(device)
    elif step == "correctness":
        for n_classes in options.classes:
            yield check_correctness(device, [n_classes], options.backend)
    elif step == "selection":
        size = (40, POOLS[:2]) if device == "cpu" else (1_000_000, POOLS)
        yield check_selection(device, *size, options.backend)
    elif step == "large":
        yield from check_large(device)
    elif step == "sanitize":
        yield check_tiny(device)
    elif step == "timings":
        yield from gpu_timing.timings(device, options.seconds, options.quick)
    elif step == "host":
        yield from gpu_timing.host(device, options.quick)


class Check:
    """Runs steps as processes and keeps what they print."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.started = time.monotonic()
        self.records: dict[str, list[dict[str, Any]]] = {}
        self.failures: list[str] = []

    def run(self, step: str, end: float, *arguments: str, **variables: str) -> None:
        """Runs a step until `end`, in seconds after the start, at most."""
        records, problem, _ = self._process(step, end, arguments, variables)
        self.records.setdefault(step, []).extend(records)
        for record in records:
            self.failures += [f"{step}: {failure}" for failure in record.get("failures", [])]
        if problem:
            self.failures.append(f"{' '.join((step, *arguments))}: {problem}")

    def sanitize(self, tool: str, end: float) -> None:
        """Runs the tiny step under compute-sanitizer."""
        found = {"tool": tool, "result": "compute-sanitizer is not on the PATH"}
        if program := shutil.which("compute-sanitizer"):
            wrapper = (program, "--tool", tool)
            # Without torch's cache, an allocation ends where its tensor does.
            uncached = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
            records, problem, output = self._process("sanitize", end, (), uncached, wrapper)
            found |= _verdict(records, problem, output)
            self.failures += [f"{tool}: {failure}" for failure in found.get("failures", [])]
        self.records.setdefault("sanitizer", []).append(found)

    def _process(self, step, end, arguments, variables, wrapper=()):
        """Records, what went wrong if anything, and all output."""
        seconds = round(end - (time.monotonic() - self.started))
        if seconds < 1:
            return [], "not started, no time was left", ""
        command = [*wrapper, sys.executable, "-m", "benchmarks.gpu_check", "--step", step]
        command += ["--device", self.options.device, "--seconds", str(seconds), *arguments]
        command += ["--quick"] * self.options.quick
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | variables, start_new_session=True,
        )  # fmt: skip
        problem = None
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the compilers that it may have started
            output, errors = process.communicate()
            problem = f"stopped after {seconds} s, unfinished"
        if problem is None and process.returncode not in (0, FOUND):
            last = errors.strip().splitlines()[-1:] or ["no message"]
            problem = f"{last[0][:300]} (exit code {process.returncode})"
        records = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return records, problem, output + errors


def _verdict(records, problem, output):
    """What compute-sanitizer found; that it cannot work here is no failure of the kernels."""
    summaries = [line for line in output.splitlines() if "SUMMARY" in line]
    summary = summaries[-1].strip("= ") if summaries else problem or "no summary"
    if "not supported" in output.lower():
        return {"result": "compute-sanitizer does not support this device"}
    failures = [failure for record in records for failure in record["failures"]]
    if summaries and not any(clean in summary for clean in (": 0 errors", ": 0 hazards")):
        failures.append(summary)
    return {"result": summary, "failures": failures}


def check_everything(options: argparse.Namespace) -> dict[str, Any]:
    """Runs every step, within the time, and returns all that they found."""
    check = Check(options)
    checks_end, timings_end, host_end = QUICK_ENDS if options.quick else ENDS
    check.run("environment", checks_end)
    if not check.records["environment"]:
        sys.exit(f"gpu-check: {check.failures[0]}")
    on_gpu = options.device != "cpu"

    # Compiling and computing truths is bound by the CPU; a process of its own for every number of
    # classes, the many first, since they take the longest.
    beside = partial(partial, check.run, OMP_NUM_THREADS="1")
    jobs = []
    if on_gpu:
        jobs += [partial(check.sanitize, tool, checks_end) for tool in ("memcheck", "racecheck")]
    if on_gpu and not options.quick:
        jobs.append(beside("large", checks_end))
    jobs.append(beside("selection", checks_end))
    classes = [str(n_classes) for n_classes in sorted(options.classes, reverse=True)]
    jobs += [beside("correctness", checks_end, "--classes", n) for n in classes]
    few = ",".join(map(str, FEW_CLASSES if on_gpu else INTERPRETED_CLASSES))
    jobs.append(beside("correctness", checks_end, "--classes", few, "--backend", "torch"))
    workers = min(14, max(2, (os.cpu_count() or 1) - 2))
    with ThreadPoolExecutor(workers) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()

    if on_gpu:
        check.run("timings", timings_end)
        check.run("host", host_end)
    return {
        "passed": not check.failures,
        "seconds": round(time.monotonic() - check.started, 1),
        "failures": check.failures,
        **check.records,
    }


# ------------------------------------------------------------------------------------ report


def report(found: dict[str, Any]) -> str:
    """The findings as plain text."""
    (machine,) = found["environment"]
    named = ("capability", "driver_version", "torch", "triton", "clocks_max_sm", "power_limit")
    lines = [f"{machine['date']}: {machine['device']}"]
    lines[0] += "".join(f", {name} {machine[name]}" for name in named if machine.get(name))
    lines += ["", "Worst relative errors (1e-5 is allowed)"]
    lines += _table(("backend", "dtype", *MEASURES), _worst(found.get("correctness", [])))
    checks = {}
    for step in ("correctness", "selection", "large"):
        checks[step] = sum(record.get("checks", 0) for record in found.get(step, []))
    lines += ["", "Checks: " + ", ".join(f"{n} of {step}" for step, n in checks.items())]
    lines += [
        f"{record['matrix']}: skipped, {record['skipped']}"
        for record in found.get("large", [])
        if "skipped" in record
    ]
    lines += [f"{record['tool']}: {record['result']}" for record in found.get("sanitizer", [])]
    lines += gpu_timing.report(found.get("timings", []), found.get("host", []), _table)
    lines += ["", f"{len(found['failures'])} failures" if found["failures"] else "All passed"]
    lines += [f"  {failure}" for failure in found["failures"][:40]]
    return "\n".join([*lines, f"{found['seconds']} s"])


def _worst(records):
    worst = {}
    for record in records:
        for dtype, errors in record["worst"].items():
            row = worst.setdefault((record["backend"], dtype), dict.fromkeys(MEASURES, 0.0))
            for measure, error in errors.items():
                row[measure] = max(row[measure], float(error))
    return [(*key, *(f"{error:.1e}" for error in row.values())) for key, row in worst.items()]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns as wide as they need to be, the first two to the left."""
    cells = [tuple(map(str, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all findings there")
    parser.add_argument("--quick", action="store_true", help="less of everything, in two minutes")
    steps = ("environment", "correctness", "selection", "large", "sanitize", "timings", "host")
    parser.add_argument("--step", choices=steps, help="only this, in this process")
    parser.add_argument(
        "--sanitize", action="store_const", const="sanitize", dest="step",
        help="only tiny matrices, for compute-sanitizer",
    )  # fmt: skip
    parser.add_argument("--classes", help="numbers of classes for the correctness step: 2,10,1000")
    parser.add_argument("--backend", default="triton", choices=("triton", "torch"))
    parser.add_argument("--device", default="cuda", help="cpu: for developers; interprets")
    parser.add_argument("--seconds", type=float, default=math.inf, help="the time that a step has")
    options = parser.parse_args()
    if options.classes:
        options.classes = tuple(map(int, options.classes.split(",")))
    elif options.device == "cpu":
        options.classes = INTERPRETED_CLASSES
    else:
        options.classes = FEW_CLASSES if options.quick else CLASSES
    return options


def main() -> None:
    options = arguments()
    logging.getLogger("fastal").setLevel(logging.ERROR)  # invalid rows are made on purpose here
    if options.step:
        failed = False
        for record in records_of(options.step, options):
            print(json.dumps(record), flush=True)
            failed |= bool(record.get("failures"))
        sys.exit(FOUND if failed else 0)
    found = check_everything(options)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
