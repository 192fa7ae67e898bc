"""The runs of a simulation: each strategy from each seed."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fastal.pipeline.progress import Reporter
from fastal.simulation.finished_runs import FinishedRuns
from fastal.simulation.labelling import Labelling
from fastal.simulation.strategies import Strategy


def all_runs(
    labelling: Labelling,
    strategies: Mapping[str, Strategy],
    seeds: Sequence[int],
    saved: FinishedRuns | None,
    reporter: Reporter,
) -> NDArray[np.float64]:
    """The scores of all runs, [strategies, seeds, rounds + 1].

    All strategies run from the first seed, then from the next, so that the comparison is complete
    for every seed that is done.

    Args:
        labelling: makes a run.
        strategies: functions by name.
        seeds: the seeds.
        saved: runs that are finished are taken from it, and others are saved in it.
        reporter: writes a line after each run.
    """
    scores = {} if saved is None else saved.scores
    runs = [(name, seed) for seed in seeds for name in strategies]
    n_before, began = len(scores), time.perf_counter()
    if n_before:
        line = f"resumed after {n_before} of {len(runs)} runs"
        reporter.say(line, "resumed", runs=n_before)
    for name, seed in runs:
        if (name, seed) in scores:
            continue
        found = scores[name, seed] = labelling.run(name, strategies[name], seed)
        if saved is not None:
            saved.save()
        seconds = time.perf_counter() - began
        left = (len(runs) - len(scores)) * seconds / (len(scores) - n_before)
        reporter.say(
            f"{len(scores)} of {len(runs)} runs in {seconds:.3g} s, about {left:.0f} s left: "
            f"{name}, seed {seed}, from {found[0]:.4f} to {found[-1]:.4f}",
            "run", strategy=name, seed=seed, scores=found, seconds=round(seconds, 3),
        )  # fmt: skip
    return np.array([[scores[name, seed] for seed in seeds] for name in strategies])
