"""Diversity sampling: the rows that a model does not know that it does not know."""

from fastal.diversity.centroids import Centroids, Nearest, nearest_centroid, similarities
from fastal.diversity.cluster_outliers import cluster_outliers

__all__ = [
    "Centroids",
    "Nearest",
    "cluster_outliers",
    "nearest_centroid",
    "similarities",
]
