"""Diversity sampling: finds rows that are new to a model, though the model may be sure of them."""

from typing import TYPE_CHECKING

from fastal.base.lazy import import_on_first_use

if TYPE_CHECKING:
    from fastal.diversity.assignment import Nearest, nearest_centroid
    from fastal.diversity.badge import badge
    from fastal.diversity.centroids import CentroidDistance, similarities
    from fastal.diversity.cluster_outliers import cluster_outliers
    from fastal.diversity.clustering.cluster_sample import ClusterSample
    from fastal.diversity.clustering.clusters import CosineClusters
    from fastal.diversity.core_set import CoreSet, k_center
    from fastal.diversity.deduplicate import deduplicate
    from fastal.diversity.deduplicator import Deduplicator
    from fastal.diversity.duplicates import Duplicates
    from fastal.diversity.model_outliers import ValidationRank, model_outliers
    from fastal.diversity.representative import adaptive_representative, representative
    from fastal.diversity.typiclust import typiclust

__all__ = [
    "CentroidDistance",
    "ClusterSample",
    "CoreSet",
    "CosineClusters",
    "Deduplicator",
    "Duplicates",
    "Nearest",
    "ValidationRank",
    "adaptive_representative",
    "badge",
    "cluster_outliers",
    "deduplicate",
    "k_center",
    "model_outliers",
    "nearest_centroid",
    "representative",
    "similarities",
    "typiclust",
]

import_on_first_use(
    __name__,
    {
        "fastal.diversity.assignment": ["Nearest", "nearest_centroid"],
        "fastal.diversity.badge": ["badge"],
        "fastal.diversity.centroids": ["CentroidDistance", "similarities"],
        "fastal.diversity.cluster_outliers": ["cluster_outliers"],
        "fastal.diversity.clustering.cluster_sample": ["ClusterSample"],
        "fastal.diversity.clustering.clusters": ["CosineClusters"],
        "fastal.diversity.core_set": ["CoreSet", "k_center"],
        "fastal.diversity.deduplicator": ["Deduplicator"],
        "fastal.diversity.deduplicate": ["deduplicate"],
        "fastal.diversity.duplicates": ["Duplicates"],
        "fastal.diversity.model_outliers": ["ValidationRank", "model_outliers"],
        "fastal.diversity.representative": ["adaptive_representative", "representative"],
        "fastal.diversity.typiclust": ["typiclust"],
    },
)
