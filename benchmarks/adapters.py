"""Times adapters beside the same work done by fastal alone, on 1,000,000 rows.

    scripts/test-adapters TOOL                      # makes the environment of the tool
    .venv-adapters/TOOL/bin/python -m benchmarks.adapters TOOL

An adapter is called as its tool calls it. What the tool itself does in such a call, such as checks
of its input, is timed by a strategy that does nothing else, and subtracted. The works take turns.
"""

import argparse
import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

import fastal
from benchmarks.interleaved import Work, interleaved

ROWS, CLASSES, K, BATCH = 1_000_000, 100, 1000, 10_000


class Case(NamedTuple):
    """Works that are compared.

    Attributes:
        fastal: the work, done by fastal's public functions.
        adapter: the same work by the adapter.
        tool: what the tool does in that call by itself; None: nothing.
    """

    fastal: Work
    adapter: Work
    tool: Work | None = None


def logits() -> torch.Tensor:
    return 3 * torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(0))


def of_transformers() -> dict[str, Case]:
    from fastal.adapters.transformers import ScoresOfLogits

    batches = logits().split(BATCH)
    adapter = ScoresOfLogits("margin")
    return {
        "ScoresOfLogits, batches of 10,000": Case(
            lambda: [fastal.score(batch).margin for batch in batches],
            lambda: [adapter(batch, None) for batch in batches],
        )
    }


def of_skactiveml() -> dict[str, Case]:
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy, SkactivemlClassifier

    from fastal.adapters.skactiveml import Uncertainty

    probs = logits().softmax(1).numpy()

    class Known(SkactivemlClassifier):
        def fit(self, *_, **__):
            return self

        def predict_proba(self, *_):
            return probs

    class First(SingleAnnotatorPoolQueryStrategy):
        """Checks and gathers what any strategy of the tool does."""

        def query(self, X, y, clf, fit_clf, batch_size):  # noqa: ARG002, N803
            x, y, candidates, batch_size, _ = self._validate_data(X, y, None, batch_size, False)
            samples, numbers = self._transform_candidates(candidates, x, y)
            clf.predict_proba(samples)
            return numbers[:batch_size]

    x, y = np.zeros((ROWS, 2), np.float32), np.full(ROWS, np.nan)
    call = {"X": x, "y": y, "clf": Known(), "fit_clf": False, "batch_size": K}
    options = {"kind": "probs", "ties": "random"}
    return {
        "Uncertainty": Case(
            partial(fastal.select, probs, K, **options),
            partial(Uncertainty("margin").query, **call),
            partial(First().query, **call),
        )
    }


def of_modal() -> dict[str, Case]:
    from fastal.adapters.modal import margin_sampling

    probs = logits().softmax(1).numpy()
    learner = SimpleNamespace(predict_proba=lambda *_: probs)
    return {
        "margin_sampling": Case(
            partial(fastal.select, probs, K, kind="probs"),
            partial(margin_sampling, learner, np.zeros((ROWS, 1)), K),
        )
    }


def of_baal() -> dict[str, Case]:
    from fastal.adapters.baal import Uncertainty

    # The loop wants all scores, too: their mean and deviation.
    def ranked(x):
        scores = fastal.score(x).margin
        return fastal.select(scores, K, by="score"), scores

    x = logits()
    return {
        "Uncertainty": Case(partial(ranked, x), partial(Uncertainty(query_size=K).get_ranks, x))
    }


def of_small_text() -> dict[str, Case]:
    from fastal.adapters.small_text import Uncertainty

    x = logits().numpy()
    rows = np.arange(ROWS)
    unlabelled, labelled = np.delete(rows, rows[::100]), rows[::100]
    return {
        "Uncertainty, of a representation": Case(
            partial(fastal.select, x, K, among=unlabelled),
            partial(Uncertainty().query, None, x, unlabelled, labelled, labelled % 2, K),
        )
    }


def of_cleanlab() -> dict[str, Case]:
    from fastal.adapters.cleanlab import get_active_learning_scores

    probs = logits().softmax(1).numpy()
    return {
        "get_active_learning_scores": Case(
            partial(fastal.score, probs, kind="probs"),
            partial(get_active_learning_scores, pred_probs_unlabeled=probs),
        )
    }


TOOLS: dict[str, Callable[[], dict[str, Case]]] = {
    "baal": of_baal,
    "cleanlab": of_cleanlab,
    "modal": of_modal,
    "skactiveml": of_skactiveml,
    "small_text": of_small_text,
    "transformers": of_transformers,
}


def main() -> None:
    what = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="benchmarks.adapters", description=what)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--rounds", type=int, default=10, help="how often each work is timed")
    options = parser.parse_args()
    logging.getLogger("fastal").setLevel(logging.ERROR)
    print(f"{ROWS:,} x {CLASSES} float32, k = {K:,}, {torch.get_num_threads()} threads")
    print(f"{'':50}{'fastal, ms':>12}{'adapter':>10}{'tool':>10}{'cost':>8}")
    for name, case in TOOLS[options.tool]().items():
        works = [work or (lambda: None) for work in case]
        for work in works:
            work()
        taken = np.array(interleaved(*works, rounds=options.rounds))
        direct, adapter, tool = taken.T
        cost = np.median((adapter - tool) / direct) - 1
        milliseconds = "".join(f"{1e3 * value:10.1f}" for value in np.median(taken, axis=0))
        print(f"{options.tool}: {name}".ljust(52) + milliseconds + f"{cost:8.1%}")


if __name__ == "__main__":
    main()
