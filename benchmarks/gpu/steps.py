"""The steps by name. They print their records as lines of JSON."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.gpu.cases import CASE_BYTES, Cases, cases_for
from benchmarks.gpu.correctness import check_correctness
from benchmarks.gpu.counts import check_counts
from benchmarks.gpu.device import most_held
from benchmarks.gpu.diversity import check_core_set, check_duplicates
from benchmarks.gpu.draws import check_draws
from benchmarks.gpu.embeddings import check_cosine, check_ranks
from benchmarks.gpu.host import host
from benchmarks.gpu.large import check_large
from benchmarks.gpu.machine import environment
from benchmarks.gpu.picks import check_picks
from benchmarks.gpu.runner import FAILURES_FOUND
from benchmarks.gpu.sanitize import check_tiny
from benchmarks.gpu.timings import timings
from benchmarks.gpu.truth import sentence

Record = dict[str, Any]


def _correctness(o: Namespace, cases: Cases) -> Iterator[Record]:
    for n_classes in cases.classes:
        copies = cases.few if n_classes > 5000 else cases.many
        yield check_correctness(o.device, n_classes, o.backend, copies)


# Each step yields a record as soon as it is complete.
STEPS: dict[str, Callable[[Namespace, Cases], Iterable[Record]]] = {
    "environment": lambda o, _: [environment(o.device)],
    "correctness": _correctness,
    "picks": lambda o, cases: check_picks(o.device, cases.pools, o.backend),
    "cosine": lambda o, cases: check_cosine(o.device, cases.cosine),
    "ranks": lambda o, cases: check_ranks(o.device, cases.ranks),
    "draws": lambda o, cases: check_draws(o.device, cases.draws),
    "core_set": lambda o, cases: check_core_set(o.device, *cases.core_set),
    "duplicates": lambda o, cases: [check_duplicates(o.device, *cases.duplicates)],
    "counts": lambda o, cases: check_counts(o.device, *cases.counted),
    "large": lambda o, cases: check_large(o.device, cases.far),
    "sanitize": lambda o, cases: [check_tiny(o.device, cases.sanitized)],
    "timings": lambda o, cases: timings(o.device, o.seconds, cases),
    "host": lambda o, cases: host(o.device, cases),
}
_USE_FREE_MEMORY = ("large", "timings", "host")  # these steps may hold more than CASE_BYTES


def run_steps(options: Namespace) -> int:
    """Prints the records of the steps as they come. Returns the exit code: 0 without failures."""
    failed = False
    for step in options.step.split(","):
        for record in found_by(step, options):
            print(json.dumps({"step": step, **record}), flush=True)
            failed |= bool(record.get("failures"))
    return FAILURES_FOUND if failed else 0


def found_by(step: str, options: Namespace) -> Iterator[Record]:
    """The records of a step. An error that ends it is a failure, and so is a case too large."""
    try:
        for record in STEPS[step](options, cases_for(options)):
            held = most_held(options.device)
            if held is not None:
                record["gpu_bytes"] = held
                if held > CASE_BYTES and step not in _USE_FREE_MEMORY:
                    too_much = f"held {held:,} bytes of the GPU, allowed are {CASE_BYTES:,}"
                    record = record | {"failures": [*record.get("failures", []), too_much]}
            yield record
    except Exception as error:  # the other steps run in any case
        yield {"failures": [f"ended early: {sentence(error)}"]}
