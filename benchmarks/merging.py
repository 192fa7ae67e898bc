"""Times how a driver merges the shards of a pool: `python -m benchmarks.merging`.

What workers send is made up, and how long this takes is not counted. Timed is what the driver does
with each shard: it unpickles a state, loads it into a new part, and merges the part.

    select    candidate sets of k rows, as they come from most pools (random); each better than all
              before, the worst case (ascending); all scores equal (equal)
    quotas    candidate sets with 100 groups
    k-means   exact sums of 1000 clusters, 768 columns wide; and the samples of the first pass,
              random and ascending
    core-set  distances of 100,000 rows, and the farthest of them with 768 columns: as many as fit
              into 64 MB, as of the first shards of a pass; and one row, as of the last shards

Growth is by how much the peak of resident memory rose after the first ten merges.
"""

import argparse
import pickle
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastal
from fastal.base.reducer import Reducer
from fastal.diversity.clustering.k_means import KMeans, KMeansOptions
from fastal.diversity.core_set import MEMORY_BYTES, CoreSet
from fastal.scoring.scoring_options import ScoringOptions

GROUPS, CLUSTERS, WIDTH, SLICE = 100, 1000, 768, 100_000
WARM = 10  # merges before memory is measured
States = Iterator[bytes]
State = dict[str, Any]
Case = Callable[[argparse.Namespace], tuple[Reducer[Any], int, States]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.merging", description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=10_000, help="how many candidate sets")
    parser.add_argument("--large", type=int, default=200, help="how many of the larger states")
    parser.add_argument("-k", type=int, default=10_000, help="how many rows a set has")
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is run")
    parser.add_argument("--only", default=";".join(CASES), help="the cases, of " + ", ".join(CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"fastal {fastal.__version__}, 1 thread, k = {options.k:,}, best of {options.rounds}\n")
    print("case                    merges  KB each   seconds  CPU seconds  us a merge  growth MB")
    for name in options.only.split(";"):
        print(row(name, options), flush=True)


def row(name: str, options: argparse.Namespace) -> str:
    """A line of the table: the round that took the least time."""
    rounds = [merged(*CASES[name](options)) for _ in range(options.rounds)]
    wall, cpu, n, n_bytes, _ = min(rounds)
    growth = max(found[-1] for found in rounds)
    each = f"{n_bytes / n / 1e3:8.0f} {wall:9.2f} {cpu:12.2f} {1e6 * wall / n:11.0f}"
    return f"{name:<21} {n:>8,} {each} {growth / 1e6:10.1f}"


def merged(reducer: Reducer[Any], n: int, states: States) -> tuple[float, float, int, int, int]:
    """Seconds, CPU seconds, merges, bytes of all states, and by how much the peak memory rose."""
    wall = cpu = 0.0
    n_bytes = peak = 0
    for place in range(n):
        state = next(states)
        n_bytes += len(state)
        if place == WARM:
            peak = peak_memory(reset=True)
        began, began_cpu = time.perf_counter(), time.process_time()
        part = reducer.part()  # type: ignore[attr-defined]
        part.load_state_dict(pickle.loads(state))
        reducer.merge(part)  # type: ignore[attr-defined]
        wall += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
    return wall, cpu, n, n_bytes, max(0, peak_memory() - peak) if n > WARM else 0


def peak_memory(*, reset: bool = False) -> int:
    """The peak of resident memory; it may be counted anew from now on."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


# --- scores of candidate sets, best first


def scores_of(regime: str, place: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """k float32 scores, best first."""
    if regime == "equal":
        return np.full(k, 0.5, np.float32)
    if regime == "random":
        return np.sort(rng.random(k, np.float32))[::-1]
    # Positive floats have the order of the integers of their bits.
    return np.arange((place + 1) * k, place * k, -1, np.int32).view(np.float32)


def selections(regime: str, options: argparse.Namespace) -> tuple[Reducer[Any], int, States]:
    """Candidate sets of `Selector`."""
    selector, k = fastal.Selector(options.k, kind="probs"), options.k
    selector.update(np.array([[1.0, 0.0]], np.float32))
    state = selector.state_dict()

    def states() -> States:
        rng = np.random.default_rng(0)
        for place in range(options.sets):
            rows = place * 10 * k + rng.permutation(10 * k)[:k]
            scores = scores_of(regime, place, k, rng)
            top = {**state["top"], "rows": np.sort(rows), "scores": scores}
            yield pickle.dumps({**state, "top": top})

    return selector.part(), options.sets, states()


def quotas(regime: str, options: argparse.Namespace) -> tuple[Reducer[Any], int, States]:
    """Candidate sets of `StratifiedSelector`."""
    per_group = options.k // GROUPS
    selector, k = fastal.StratifiedSelector(per_group, kind="probs"), per_group * GROUPS
    selector.update(np.array([[1.0, 0.0]], np.float32), groups=[0])
    state = selector.state_dict()
    values, codes = list(range(GROUPS)), np.repeat(np.arange(GROUPS), per_group)

    def states() -> States:
        rng = np.random.default_rng(0)
        for place in range(options.sets):
            keys = scores_of(regime, place, k, rng).reshape(per_group, GROUPS).T.ravel()
            rows = place * 10 * k + rng.permutation(10 * k)[:k]
            top = {"values": values, "lost": np.zeros(GROUPS, np.int64), "codes": codes}
            top |= {"keys": keys, "rows": rows, "scores": keys}
            yield pickle.dumps({**state, "top": top})

    return selector.part(), options.sets, states()


# --- larger states, a few of which are sent again and again


def repeated(states: list[State]) -> States:
    packed = [pickle.dumps(state) for state in states]
    while True:
        yield from packed


def k_means() -> KMeans:
    return KMeans(CLUSTERS, None, KMeansOptions(), ScoringOptions("raise", "auto"))


def embeddings(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, WIDTH), np.float32)


def sums(options: argparse.Namespace) -> tuple[Reducer[Any], int, States]:
    """Sums of an iteration of k-means."""
    driver = k_means()
    driver._start_assigning(torch.from_numpy(embeddings(CLUSTERS, 0)))
    states = []
    for seed in range(4):
        part: Any = driver.part()
        part.update(embeddings(2000, seed), 0)
        states.append(part.state_dict())
    return driver, options.large, repeated(states)


def samples(regime: str, options: argparse.Namespace) -> tuple[Reducer[Any], int, States]:
    """Samples of the first pass of k-means: unit rows with random keys."""
    driver = k_means()
    driver.update(embeddings(100, 0), 0)
    state = driver.state_dict()
    n = driver._empty_sample(WIDTH)._n
    units = embeddings(n, 1)

    def states() -> States:
        rng = np.random.default_rng(0)
        for place in range(options.large):
            rows = np.arange(place * n, (place + 1) * n)
            keys = scores_of(regime, place, n, rng)
            yield pickle.dumps({**state, "sample": {"keys": keys, "rows": rows, "units": units}})

    return driver.part(), options.large, states()


def slices(memory_bytes: int, options: argparse.Namespace) -> tuple[Reducer[Any], int, States]:
    """Distances of the rows of a shard, and the farthest rows. All shards have the same rows."""
    driver = CoreSet(1000, memory_bytes=memory_bytes)
    x = embeddings(SLICE, 0)
    driver.update(x, 0)
    driver.next_pass()
    part = driver.part()
    part.set_context(driver.context_for(0, SLICE))
    part.update(x, 0)
    return driver, options.large, repeated([part.state_dict()])


CASES: dict[str, Case] = {
    **{
        f"{name}, {regime}": lambda options, make=make, regime=regime: make(regime, options)
        for name, make in (("select", selections), ("quotas", quotas))
        for regime in ("random", "ascending", "equal")
    },
    "k-means, sums": sums,
    **{
        f"k-means, {regime}": lambda options, regime=regime: samples(regime, options)
        for regime in ("random", "ascending")
    },
    **{
        f"core-set, {name}": lambda options, memory=memory: slices(memory, options)
        for name, memory in (("first", MEMORY_BYTES), ("last", 1))
    },
}


if __name__ == "__main__":
    main()
