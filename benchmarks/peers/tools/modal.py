"""modAL. Its strategies take probabilities, so the softmax of the logits is counted, by torch."""

import math

import numpy as np
import torch
from modAL import uncertainty
from sklearn.base import BaseEstimator


class Lookup(BaseEstimator):
    """A fitted classifier whose probabilities are its input."""

    def predict_proba(self, x):
        return x


def probabilities(logits):
    return torch.softmax(torch.from_numpy(logits), 1).numpy()


def scores(data):
    n, model = data["logits"].shape[1], Lookup()

    def work():
        p = probabilities(data["logits"])
        return {
            "least_confidence": n / (n - 1) * uncertainty.classifier_uncertainty(model, p),
            "margin": 1 - uncertainty.classifier_margin(model, p),
            "entropy": uncertainty.classifier_entropy(model, p) / math.log(n),
        }

    return work


def top(data):
    k = int(data["k"])

    def work():
        p = probabilities(data["logits"])
        return {"rows": uncertainty.margin_sampling(Lookup(), p, n_instances=k)[0]}

    return work


def three(data):
    k = int(data["k"])
    strategies = (
        uncertainty.uncertainty_sampling, uncertainty.margin_sampling, uncertainty.entropy_sampling
    )  # fmt: skip

    def work():
        p = probabilities(data["logits"])
        return {"rows": np.stack([pick(Lookup(), p, n_instances=k)[0] for pick in strategies])}

    return work
