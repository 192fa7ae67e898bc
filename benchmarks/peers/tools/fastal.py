"""fastal: its own functions, with their defaults."""

from functools import partial

import numpy as np

import fastal
from benchmarks.peers.inputs import LABELLED, SIMILAR
from fastal import diversity

SELECT = fastal.select  # imports torch, which is not a part of any job


def three(data):
    """The scores are computed once; each is ranked."""
    k = int(data["k"])

    def work():
        scores = fastal.score(data["logits"])
        ranked = scores.least_confidence, scores.margin, scores.entropy
        return {"rows": np.stack([SELECT(one, k, by="score").rows for one in ranked])}

    return work


def top(data):
    return lambda: {"rows": SELECT(data["logits"], int(data["k"])).rows}


def scores(data):
    return lambda: fastal.score(data["logits"])._asdict()


def bald(data):
    k = int(data["k"])
    return lambda: {"rows": SELECT(data["logits"], k, "bald", draws_axis=1).rows}


def quotas(data):
    select = partial(SELECT, groups=data["groups"], per_group=int(data["k"]))
    return lambda: {"rows": select(data["logits"]).rows}


def core_set(data):
    x = data["x"]
    how = {"labelled": x[:LABELLED], "exclude": np.arange(LABELLED), "metric": "euclidean"}
    return lambda: {"rows": diversity.k_center(x, int(data["k"]), **how).rows}


def badge(data):
    return lambda: {"rows": diversity.badge(data["logits"], data["x"], int(data["k"])).rows}


def kmeans(data):
    clusters = partial(diversity.CosineClusters, int(data["k"]), max_iter=10)
    return lambda: {"centroids": clusters().fit(data["x"]).centroids}


def outliers(data):
    x, validation = data["x"], data["validation"]
    return lambda: {"rows": diversity.model_outliers(x, validation, int(data["k"])).rows}


def dedup(data):
    """One centroid compares each row with all earlier rows, so the answer is exact."""
    x = data["x"]
    return lambda: {"rows": diversity.deduplicate(x, np.ones((1, x.shape[1])), SIMILAR).rows}


def temperature(data):
    fit = partial(fastal.fit_temperature, data["logits"], data["labels"])
    return lambda: {"temperature": [fit().temperature]}
