"""cleanlab. It takes probabilities, so the softmax of logits is counted, by torch."""

import torch
from cleanlab.internal.multiannotator_utils import find_best_temp_scaler
from cleanlab.outlier import OutOfDistribution


def softmax(data):
    return torch.softmax(torch.from_numpy(data["logits"]), 1).numpy()


def scores(data):
    """The scores of its outliers: 1 is certain."""
    n = data["logits"].shape[1]

    def of(p, method):
        how = {"adjust_pred_probs": False, "method": method}
        return 1 - OutOfDistribution(how).fit_score(pred_probs=p, verbose=False)

    def work():
        p = softmax(data)
        return {
            "least_confidence": n / (n - 1) * of(p, "least_confidence"),
            "entropy": of(p, "entropy"),
        }

    return work


def temperature(data):
    """A grid of 9 temperatures, then a finer one: what its ensembles of ActiveLab use."""
    labels = data["labels"][:, None]
    return lambda: {"temperature": [find_best_temp_scaler(labels, softmax(data))]}
