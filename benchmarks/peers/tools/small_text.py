"""small-text. It takes probabilities, so the softmax of logits is counted, by torch."""

import math

import numpy as np
import torch
from small_text.query_strategies import bayesian, coresets, strategies

from benchmarks.peers.inputs import LABELLED

NONE = np.array([], np.int64)


class Lookup:
    """A fitted classifier whose data set is the logits."""

    def predict_proba(self, logits, dropout_sampling=1):  # noqa: ARG002
        return torch.softmax(torch.from_numpy(logits), -1).numpy()


class Known:
    """A fitted classifier whose data set is the probabilities."""

    def predict_proba(self, p):
        return p


def query(strategy, logits, k, model=None):
    rows = np.arange(len(logits))
    return strategy.query(model or Lookup(), logits, rows, NONE, NONE, n=k)


def scores(data):
    n = data["logits"].shape[1]

    def work():
        p = Lookup().predict_proba(data["logits"])
        of = (Known(), p, NONE, NONE, NONE)
        return {
            "least_confidence": n / (n - 1) * (1 - strategies.LeastConfidence().score(*of)),
            "margin": 1 - strategies.BreakingTies().score(*of),
            "entropy": -strategies.PredictionEntropy().score(*of) / math.log(n),
        }

    return work


def top(data):
    k = int(data["k"])
    return lambda: {"rows": query(strategies.BreakingTies(), data["logits"], k)}


def three(data):
    k = int(data["k"])
    of = strategies.LeastConfidence, strategies.BreakingTies, strategies.PredictionEntropy

    def work():
        p = Lookup().predict_proba(data["logits"])
        return {"rows": np.stack([query(strategy(), p, k, Known()) for strategy in of])}

    return work


def bald(data):
    strategy = bayesian.BALD(data["logits"].shape[1])
    return lambda: {"rows": query(strategy, data["logits"], int(data["k"]))}


def core_set(data):
    """Rows are counted among the unlabelled ones."""
    x, rows = data["x"], np.arange(len(data["x"]))
    unlabelled, labelled = rows[LABELLED:], rows[:LABELLED]
    k = int(data["k"])
    return lambda: {
        "rows": LABELLED
        + coresets.greedy_coreset(x, unlabelled, labelled, k, distance_metric="euclidean")
    }
