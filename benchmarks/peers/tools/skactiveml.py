"""scikit-activeml. It takes probabilities, so the softmax of logits is counted, by torch."""

import math

import numpy as np
import torch
from skactiveml import pool
from skactiveml.base import SkactivemlClassifier

from benchmarks.peers.inputs import LABELLED


class Lookup(SkactivemlClassifier):
    """A fitted classifier that knows its predictions; of the whole pool, nothing is copied."""

    def __init__(self, predictions=None, embeddings=None):
        super().__init__()
        self.predictions, self.embeddings = predictions, embeddings

    def fit(self, *_):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, x, with_embeddings=False):
        p = self.predictions()
        assert len(x) == p.shape[-2]  # the whole pool, in its order
        return (p, self.embeddings) if with_embeddings else p


def samples(data, name="logits"):
    """Samples that stand for the rows, all without a label."""
    n = len(data[name])
    return np.arange(n, dtype=np.float64)[:, None], np.full(n, np.nan)


def softmax(data):
    return lambda: torch.softmax(torch.from_numpy(data["logits"]), 1).numpy()


def scores(data):
    n = data["logits"].shape[1]

    def work():
        p = softmax(data)()
        return {
            "least_confidence": n / (n - 1) * pool.uncertainty_scores(p, method="least_confident"),
            "margin": pool.uncertainty_scores(p, method="margin_sampling"),
            "entropy": pool.uncertainty_scores(p, method="entropy") / math.log(n),
        }

    return work


def by_method(data, methods, model):
    x, y = samples(data, "logits" if "logits" in data else "probs")

    def query(method):
        strategy = pool.UncertaintySampling(method, random_state=0)
        return strategy.query(x, y, model, fit_clf=False, batch_size=int(data["k"]))

    return np.stack([query(method) for method in methods])


def top(data):
    model = Lookup(softmax(data))
    return lambda: {"rows": by_method(data, ["margin_sampling"], model)[0]}


def three(data):
    """The softmax is computed once."""

    def work():
        p = softmax(data)()
        methods = "least_confident", "margin_sampling", "entropy"
        return {"rows": by_method(data, methods, Lookup(lambda: p))}

    return work


def batch(data):
    model = Lookup(lambda: data["probs"])
    return lambda: {"rows": by_method(data, ["margin_sampling"], model)[0]}


def bald(data):
    x, y = samples(data)
    logits = torch.from_numpy(data["logits"])
    model = Lookup(lambda: torch.softmax(logits, 2).transpose(0, 1).contiguous().numpy())
    strategy = pool.GreedyBALD(sample_predictions_method_name="predict_proba", random_state=0)
    return lambda: {
        "rows": strategy.query(x, y, model, fit_ensemble=False, batch_size=int(data["k"]))
    }


def core_set(data):
    y = np.full(len(data["x"]), np.nan)
    y[:LABELLED] = 0
    k = int(data["k"])
    return lambda: {"rows": pool.CoreSet(random_state=0).query(data["x"], y, batch_size=k)}


def badge(data):
    x, y = samples(data)
    model = Lookup(softmax(data), data["x"])
    strategy = pool.Badge(clf_embedding_flag_name="with_embeddings", random_state=0)
    return lambda: {"rows": strategy.query(x, y, model, fit_clf=False, batch_size=int(data["k"]))}
