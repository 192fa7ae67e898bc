"""Times fastal on a GPU, beside torch, as shares of the copy rate that the same run measured.

Rates are of the logits read; a copy counts what it reads and what it writes. Every variant runs
once a round, on random data, after a write that leaves nothing of the matrix in the caches and
hides the cost of starting a kernel. Times are medians, between their 20th and 80th percentiles.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

import fastal
from fastal.backend import uncertainty
from fastal.scores import MEASURES

CASES = (
    (1_000_000, 1000, torch.bfloat16),
    (65_536, 131_072, torch.bfloat16),
    (100_000_000, 10, torch.float32),
    (100_000_000, 2, torch.float32),
    (1_000_000, 1001, torch.bfloat16),
    (262_144, 32_000, torch.bfloat16),
)
PICKED = (1000, 1_000_000)
ROUNDS, FEWEST_ROUNDS = 12, 3
COMPILE_SECONDS = 60
HOST_CLASSES, HOST_BYTES, HOST_CHUNK_BYTES, HOST_ROUNDS = 1000, 4_000_000_000, 1 << 26, 5

Variant = tuple[Callable[[], Any], str]  # what to call, and the clock to read: "gpu" or "host"


def sentence(error: Exception) -> str:
    """An error in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def usable_bytes() -> float:
    """What a matrix may take of the memory that is free now."""
    return 0.6 * torch.cuda.mem_get_info()[0]


# ------------------------------------------------------------------------------------ clocks


class Stopwatch:
    """Times calls in milliseconds, by the GPU's clock or by the host's."""

    def __init__(self, device: str) -> None:
        l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        self._other = torch.empty(max(4 * l2_bytes, 1 << 29), dtype=torch.int8, device=device)

    def __call__(self, call: Callable[[], Any], clock: str) -> float:
        self._other.zero_()
        if clock == "gpu":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end)
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begun)

    def rounds(
        self, variants: dict[str, Variant], seconds: float = math.inf
    ) -> dict[str, list[float]]:
        """Times of each variant; all in turn, so that a drift of the clocks meets them alike."""
        times: dict[str, list[float]] = {name: [] for name in variants}
        end = time.monotonic() + seconds
        for done in range(ROUNDS):
            if done >= FEWEST_ROUNDS and time.monotonic() > end:
                break
            for name, (call, clock) in variants.items():
                times[name].append(self(call, clock))
        return times


def summary(times: Sequence[float], n_bytes: int | None) -> dict[str, Any]:
    """The median and its spread, and the rate where bytes are meant to be moved."""
    ranked = sorted(times)
    last = len(ranked) - 1
    ms = {
        "ms": median(ranked),
        "ms_p20": ranked[round(0.2 * last)],
        "ms_p80": ranked[round(0.8 * last)],
    }
    rate = {} if n_bytes is None else {"gb_per_s": n_bytes / ms["ms"] / 1e6}
    return {"n": len(ranked)} | {name: float(f"{x:.5g}") for name, x in (ms | rate).items()}


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """TimeoutError after so many seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took over {seconds:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# ------------------------------------------------------------------------------------ variants


def eager(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four scores as a careful user of torch writes them."""
    n = x.shape[1]
    log_p = torch.log_softmax(x, 1, dtype=torch.float32)
    p = log_p.exp()
    p1, p2 = p.topk(2, 1).values.unbind(1)
    return n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, -(p * log_p).sum(1) / math.log(n)


def in_chunks(chain: Callable[[Tensor], Any], chunks: Sequence[Tensor]) -> None:
    for chunk in chunks:
        chain(chunk)


def chunks_of(x: Tensor) -> Sequence[Tensor]:
    """Equal chunks of rows, for whose float32 temporaries there is room."""
    most = min(2**28, torch.cuda.mem_get_info()[0] // 32)
    return x.chunk(2 ** max(0, math.ceil(math.log2(x.numel() / most))))


def ours(x: Tensor) -> dict[str, Variant]:
    scores = uncertainty(x, ["entropy"], "logits", backend="triton")[0]
    variants: dict[str, Variant] = {
        "kernel, 4 scores": (partial(uncertainty, x, MEASURES, backend="triton"), "gpu"),
        "kernel, entropy": (partial(uncertainty, x, ["entropy"], backend="triton"), "gpu"),
        "fastal.score": (partial(fastal.score, x), "host"),
    }
    for k in PICKED:
        if k <= len(x):
            variants[f"fastal.select, k={k}"] = partial(fastal.select, x, k), "host"
            variants[f"torch.topk of scores, k={k}"] = partial(scores.topk, k), "gpu"
    return variants


def theirs(x: Tensor, compile_seconds: float) -> tuple[dict[str, Variant], dict[str, str]]:
    """Chains of torch's operations, and why there is none where there is none."""
    chunks = chunks_of(x)
    torch.compiler.reset()
    chains = {"torch eager": eager, "torch.compile": torch.compile(eager, dynamic=False)}
    reasons = {name: why_not(chain, chunks[0], compile_seconds) for name, chain in chains.items()}
    variants: dict[str, Variant] = {
        name: (partial(in_chunks, chains[name], chunks), "gpu")
        for name, reason in reasons.items()
        if reason is None
    }
    return variants, {name: reason for name, reason in reasons.items() if reason is not None}


def why_not(chain: Callable[[Tensor], Sequence[Tensor]], x: Tensor, seconds: float) -> str | None:
    """Why a chain cannot be timed: it fails, takes too long to compile, or gets other scores."""
    try:
        with limited(seconds):
            scores = chain(x)
        for got, want in zip(scores, uncertainty(x, MEASURES, backend="triton"), strict=True):
            # Differences of float32 probabilities: absolute, not relative.
            torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
    except Exception as error:  # no fault of fastal's
        return sentence(error)
    return None


def problem(call: Callable[[], Any]) -> str | None:
    """What a first call runs into. It compiles, and fills torch's pools of memory."""
    try:
        call()
        torch.cuda.synchronize()
    except Exception as error:  # the other variants are still worth timing
        return sentence(error)
    return None


# ------------------------------------------------------------------------------------ steps


def rates(watch: Stopwatch, device: str) -> dict[str, Any]:
    """What the memory gives: to a copy, counting both ways, and to a sum."""
    n = int(min(2**30, usable_bytes() / 8) // 4 * 4)
    source = torch.empty(n, device=device).normal_()
    target = torch.empty_like(source)
    times = watch.rounds(
        {
            "copy": (partial(target.copy_, source), "gpu"),
            "read": (partial(torch.sum, source), "gpu"),
        }
    )
    return {
        "copy": summary(times["copy"][1:], 2 * source.nbytes),
        "read": summary(times["read"][1:], source.nbytes),
    }


def timings(device: str, seconds: float, quick: bool) -> Iterator[dict[str, Any]]:
    """A record for each case and variant, the rates of the memory first."""
    end = time.monotonic() + min(seconds, 3600) - 5
    watch = Stopwatch(device)
    memory = rates(watch, device)
    for name, found in memory.items():
        yield {"case": "memory", "variant": name, **found}
    cases = CASES[:3] if quick else CASES
    for i, case in enumerate(cases):
        left = end - time.monotonic()
        torch.cuda.empty_cache()
        yield from _timed(watch, device, case, left, left / (len(cases) - i), memory, quick)


def _timed(watch, device, case, left, share, memory, quick):
    n_rows, n_classes, dtype = case
    n_rows //= 8 if quick else 1
    while n_rows * n_classes * dtype.itemsize > usable_bytes():
        n_rows //= 2
    described = {
        "case": f"{n_rows} x {n_classes} {str(dtype).removeprefix('torch.')}",
        "rows": n_rows, "classes": n_classes, "bytes": n_rows * n_classes * dtype.itemsize,
    }  # fmt: skip
    begun = time.monotonic()
    try:
        x = torch.empty(n_rows, n_classes, dtype=dtype, device=device).normal_(0, 2)
        variants = ours(x)
        others, skipped = theirs(x, min(COMPILE_SECONDS, max(1.0, left / 3)))
        variants |= others
        for name, reason in skipped.items():
            yield described | {"variant": name, "skipped": reason}
        for name, reason in {name: problem(call) for name, (call, _) in variants.items()}.items():
            if reason is not None:
                del variants[name]
                is_torch = name.startswith("torch")
                failures = [] if is_torch else [f"{described['case']}, {name}: {reason}"]
                yield described | {"variant": name, "skipped": reason, "failures": failures}
        times = watch.rounds(variants, max(5.0, share - (time.monotonic() - begun)))
    except Exception as error:  # the other cases are still worth timing
        failure = f"{described['case']}: {sentence(error)}"
        yield described | {"variant": "all", "failures": [failure]}
        return
    for name, found in times.items():
        reads_logits = not name.startswith("torch.topk")
        result = summary(found, described["bytes"] if reads_logits else None)
        for rate in ("copy", "read") if reads_logits else ():
            of_rate = result["gb_per_s"] / memory[rate]["gb_per_s"]
            result[f"share_of_{rate}"] = round(of_rate, 4)
        yield described | {"variant": name, "clock": variants[name][1], **result}


def host(device: str, quick: bool) -> Iterator[dict[str, Any]]:
    """A pool in host memory, scored chunk by chunk, against a copy of the same chunks."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    n_bytes = min(HOST_BYTES // (8 if quick else 1), free // 4)
    pageable = torch.empty(n_bytes // 2 // HOST_CLASSES, HOST_CLASSES, dtype=torch.bfloat16)
    chunk_rows = HOST_CHUNK_BYTES // 2 // HOST_CLASSES
    on_device = torch.empty(chunk_rows, HOST_CLASSES, dtype=torch.bfloat16, device=device)
    for chunk in pageable.split(chunk_rows):
        chunk.copy_(on_device.normal_()[: len(chunk)])

    def copy(pool):
        for chunk in pool.split(chunk_rows):
            on_device[: len(chunk)].copy_(chunk, non_blocking=True)

    def select(pool):
        selector = fastal.Selector(1000)
        for chunk in pool.split(chunk_rows):
            selector.update(chunk.to(device, non_blocking=True))
        selector.result()

    watch = Stopwatch(device)
    for memory, pool in (("pageable", pageable), ("pinned", pageable.pin_memory())):
        for name, call in (("copy to the GPU", copy), ("Selector.update of copies", select)):
            times = [watch(partial(call, pool), "host") for _ in range(HOST_ROUNDS + 1)]
            found = summary(times[1:], pool.nbytes)
            yield {"memory": memory, "variant": name, "bytes": pool.nbytes, **found}


# ------------------------------------------------------------------------------------ report


def report(
    timed: Sequence[dict[str, Any]],
    from_host: Sequence[dict[str, Any]],
    table: Callable[[Sequence[str], Sequence[Sequence[str]]], list[str]],
) -> list[str]:
    """Lines for people."""
    lines = []
    if timed:
        header = ("logits", "variant", "ms", "p20", "p80", "n", "GB/s", "of copy", "clock")
        lines += ["", "Timings, GB/s of logits read", *table(header, [_row(r) for r in timed])]
        lines += [f"{r['case']}, {r['variant']}: {r['skipped']}" for r in timed if "skipped" in r]
    if from_host:
        rows = [
            (r["memory"], r["variant"], f"{r['ms']:.1f}", str(r["n"]), f"{r['gb_per_s']:.1f}")
            for r in from_host
        ]
        lines += [
            "",
            "A pool in host memory",
            *table(("memory", "variant", "ms", "n", "GB/s"), rows),
        ]
    return lines


def _row(record):
    if "ms" not in record:
        return (record["case"], record["variant"], "-", "", "", "", "", "", "")
    return (
        record["case"], record["variant"],
        *(f"{record[name]:.3f}" for name in ("ms", "ms_p20", "ms_p80")), record["n"],
        f"{record['gb_per_s']:.0f}" if "gb_per_s" in record else "",
        f"{record['share_of_copy']:.1%}" if "share_of_copy" in record else "",
        record.get("clock", "gpu"),
    )  # fmt: skip
