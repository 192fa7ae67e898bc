"""Diversity sampling: the rows that a model does not know that it does not know."""

from fastal.diversity.centroids import Centroids, Nearest, nearest_centroid, similarities
from fastal.diversity.cluster_outliers import cluster_outliers
from fastal.diversity.core_set import CoreSet, k_center
from fastal.diversity.deduplicator import Deduplicator, Duplicates
from fastal.diversity.duplicates import deduplicate

__all__ = [
    "Centroids",
    "CoreSet",
    "Deduplicator",
    "Duplicates",
    "Nearest",
    "cluster_outliers",
    "deduplicate",
    "k_center",
    "nearest_centroid",
    "similarities",
]
