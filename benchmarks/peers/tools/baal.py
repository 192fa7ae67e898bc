"""baal. It takes logits or probabilities; of draws, the last axis counts them."""

import math

import numpy as np
import torch
from baal.active.heuristics import BALD, Certainty, Entropy, Margin


def softmax(logits):
    """Certainty ranks logits as they are, so it needs probabilities."""
    return torch.softmax(torch.from_numpy(logits), 1).numpy()


def scores(data):
    n = data["logits"].shape[1]

    def work():
        p = softmax(data["logits"])
        return {
            "least_confidence": n / (n - 1) * (1 - Certainty().get_uncertainties(p)),
            "margin": 1 - Margin().get_uncertainties(p),
            "entropy": Entropy().get_uncertainties(p) / math.log(n),
        }

    return work


def top(data):
    k = int(data["k"])
    return lambda: {"rows": Margin().get_ranks(softmax(data["logits"]))[0][:k]}


def three(data):
    k = int(data["k"])

    def work():
        p = softmax(data["logits"])
        ranks = [how.get_ranks(p)[0][:k] for how in (Certainty(), Margin(), Entropy())]
        return {"rows": np.stack(ranks)}

    return work


def bald(data):
    draws_last = np.ascontiguousarray(data["logits"].transpose(0, 2, 1))
    return lambda: {"rows": BALD().get_ranks(draws_last)[0][: int(data["k"])]}
