"""The loop of active learning on data whose labels are known."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from fastal.base.argument_values import CLASS_KINDS
from fastal.base.checks import check_choice, checked_count, checked_seed
from fastal.pipeline.progress import Reporter
from fastal.simulation.all_runs import all_runs
from fastal.simulation.finished_runs import FinishedRuns
from fastal.simulation.known_data import KnownData, class_numbers
from fastal.simulation.labelling import Labelling
from fastal.simulation.metric import accuracy, metric_for, name_of
from fastal.simulation.result import Simulation
from fastal.simulation.strategies import Strategy, strategies_for
from fastal.simulation.warnings_once import warnings_once
from fastal.sources import PathLike


def simulate(
    fit: Callable[[Any, Any, int], Any],
    predict: Callable[[Any, Any], Any],
    x: Any,
    y: Any,
    strategies: Sequence[str] | Mapping[str, str | Strategy],
    *,
    rounds: int,
    batch: int,
    seeds: int | Sequence[int],
    initial: int | None = None,
    test: float | tuple[Any, Any] = 0.2,
    kind: str = "logits",
    metric: str | Callable[[Any, Any], float] = "accuracy",
    checkpoint: PathLike | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Simulation:
    """The learning curves of strategies: active learning on data whose labels are known.

    For each seed, some rows are held out as test data. The others are the pool. A few rows of the
    pool, drawn at random, get their labels first. Then each strategy has a run from these same
    rows: in each round, a model is fitted to the labelled rows and scored on the test data, and the
    strategy picks `batch` rows of the pool, which get their labels. A last model has all labels.

    All strategies have the same initial rows, test data and seeds, so they can be compared seed by
    seed. If `fit` gives the same model each time for the same rows and seed, the result is the same
    each time.

    Args:
        fit: fit(x, y, seed) returns a model of the labelled rows and their labels. The rows are in
            the order in which they were labelled. The seed is that of the run.
        predict: predict(model, x) returns the predictions [n, C] of rows, an array. Column j is
            class j, also where no labelled row is of this class.
        x: the N rows: an array [N, ...] of any library, a table, a sparse matrix, or a list.
        y: [N], their labels, likewise. For the accuracy, they are class numbers from 0 on.
        strategies: names: "least_confidence", "margin", "ratio", "entropy" (see `fastal.select`) or
            "random"; or a mapping from names of yours to these or to functions. A function gets a
            `Round` and returns `batch` different rows of the pool that have no label, as `Picks` or
            row numbers.
        rounds: how often the strategy picks, at least 1. A run fits rounds + 1 models.
        batch: how many rows are picked in each round, at least 1.
        seeds: so many seeds, from 0 on; or the seeds, each from 0 to 2^64 - 1. The intervals of the
            summary need at least two. More seeds make them narrower.
        initial: how many rows have labels from the start; None: `batch`.
        test: the share of the rows that is held out, drawn anew for each seed; or the test data,
            (x, y), and then all of x is the pool. With a share, each run copies x.
        kind: what the predictions are: "logits", "probs" or "log_probs". It is for the strategies
            that are named.
        metric: "accuracy", or a function metric(y, predictions) of the test data that returns a
            finite number.
        checkpoint: a folder in which each finished run, one strategy and one seed, is saved. It is
            removed at the end.
        resume: continue from the checkpoint, if there is one: runs that are finished are not run
            again. A checkpoint of other data or other arguments is refused. Of functions, only the
            names are compared.
        progress: write a line on stderr after each run, with its first and last score and the time
            left.

    Returns:
        Simulation, with the scores of each run before the first round and after each round. A
        warning that several rounds would log is logged once.

    Raises:
        ValueError, TypeError: a bad argument; predictions that do not fit the rows; or a strategy
            that returns anything else than `batch` different unlabelled rows. The message says
            which.
        InvalidRows: predictions of the pool are invalid.
        OSError: the checkpoint cannot be read or written.

    Example:
        >>> import fastal, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 8))
        >>> y = (x[:, 0] > 0).astype(int)
        >>> def fit(x, y, seed):  # least squares
        ...     return np.linalg.lstsq(x, 2 * y - 1)[0]
        >>> def predict(weights, x):
        ...     return np.stack([-x @ weights, x @ weights], axis=1)
        >>> curves = fastal.simulate(
        ...     fit, predict, x, y, ["margin", "random"], rounds=4, batch=10, seeds=5
        ... )
        >>> curves.n_labelled
        array([10, 20, 30, 40, 50])
        >>> curves.scores.shape  # strategies, seeds, models
        (2, 5, 5)
    """
    for name, function in (("fit", fit), ("predict", predict)):
        if not callable(function):
            raise TypeError(f"{name}: wanted a function, got {function!r}")
    checked_count("rounds", rounds)
    checked_count("batch", batch)
    check_choice("kind", kind, CLASS_KINDS)
    if resume and checkpoint is None:
        raise ValueError("resume: wanted checkpoint, the folder to resume from")
    functions = strategies_for(strategies, kind)
    numbers = _seeds(seeds)
    metric_name, measure = metric_for(metric)
    data = KnownData(x, y, test, batch if initial is None else checked_count("initial", initial))
    data.check_enough(data.initial + rounds * batch)
    if measure is accuracy:
        class_numbers("y", y)
    labelling = Labelling(fit, predict, data, measure, rounds, batch)
    with ExitStack() as context:
        saved = None
        if checkpoint is not None:
            arguments = {
                **data.identity(), "fit": name_of(fit), "predict": name_of(predict),
                "strategies": _identity(strategies), "seeds": numbers, "rounds": rounds,
                "batch": batch, "kind": kind, "metric": metric_name,
            }  # fmt: skip
            saved = context.enter_context(FinishedRuns(checkpoint, arguments, resume=resume))
        context.enter_context(warnings_once())
        scores = all_runs(labelling, functions, numbers, saved, Reporter(quiet=not progress))
        if saved is not None:
            saved.remove()
    n_labelled = data.initial + batch * np.arange(rounds + 1)
    return Simulation(tuple(functions), tuple(numbers), n_labelled, scores, metric_name)


def _seeds(seeds: Any) -> list[int]:
    """The seeds as a list; TypeError or ValueError if they are none, or if one comes twice."""
    if isinstance(seeds, (int, np.integer)):
        return list(range(checked_count("seeds", seeds)))
    if isinstance(seeds, str) or not isinstance(seeds, (Sequence, np.ndarray)):
        raise TypeError(f"seeds: wanted a number of seeds, or a list of them, got {seeds!r}")
    numbers = [checked_seed(seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds: wanted at least one, and each once, got {numbers}")
    return numbers


def _identity(strategies: Any) -> list[list[str]]:
    """The strategies as a checkpoint identifies them: pairs of names."""
    is_mapping = isinstance(strategies, Mapping)
    pairs = strategies.items() if is_mapping else [(name, name) for name in strategies]
    return [[name, of if isinstance(of, str) else name_of(of)] for name, of in pairs]
