"""faiss on CPUs."""

import faiss
import numpy as np

from benchmarks.peers.inputs import SIMILAR


def kmeans(data):
    """Spherical k-means of all rows; by default faiss takes a sample of them."""
    x, k = data["x"], int(data["k"])

    def work():
        units = x / np.linalg.norm(x, axis=1, keepdims=True)
        found = faiss.Kmeans(x.shape[1], k, niter=10, spherical=True, seed=1,
                             max_points_per_centroid=-(-len(x) // k))  # fmt: skip
        found.train(units)
        return {"centroids": found.centroids}

    return work


def dedup(data):
    """All neighbours within the range, of which the earlier ones count."""
    x = data["x"]

    def work():
        units = x / np.linalg.norm(x, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(x.shape[1])
        index.add(units)
        limits, _, rows = index.range_search(units, SIMILAR)
        of = np.repeat(np.arange(len(x)), np.diff(limits.astype(np.int64)))
        return {"rows": np.unique(of[rows < of])}

    return work
