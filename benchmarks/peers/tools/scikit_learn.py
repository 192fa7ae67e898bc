"""scikit-learn."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import NearestNeighbors

from benchmarks.peers.inputs import SIMILAR


def kmeans(data):
    """Euclidean distance of rows of length 1: the same assignments; a centroid is the mean."""
    x, k = data["x"], int(data["k"])

    def work():
        units = x / np.linalg.norm(x, axis=1, keepdims=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 10 iterations are asked for
            found = KMeans(k, n_init=1, max_iter=10, random_state=0).fit(units)
        return {"centroids": found.cluster_centers_}

    return work


def dedup(data):
    """All neighbours within the distance, of which the earlier ones count."""
    x = data["x"]

    def work():
        index = NearestNeighbors(radius=1 - SIMILAR, metric="cosine", algorithm="brute").fit(x)
        near = index.radius_neighbors(x, return_distance=False)
        return {"rows": np.flatnonzero([rows.min() < row for row, rows in enumerate(near)])}

    return work


class Lookup(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is its input."""

    def fit(self, _, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return self.classes_[x.argmax(1)]


def temperature(data):
    logits, labels = data["logits"], data["labels"]
    model = FrozenEstimator(Lookup().fit(logits, labels))

    def work():
        fitted = CalibratedClassifierCV(model, method="temperature").fit(logits, labels)
        return {"temperature": [1 / fitted.calibrated_classifiers_[0].calibrators[0].beta_]}

    return work
