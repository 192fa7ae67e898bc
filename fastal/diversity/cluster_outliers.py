"""Cluster-based outliers: the rows that no centroid is near to."""

from typing import TYPE_CHECKING, Any

from fastal.diversity.centroids import CentroidDistance
from fastal.selection.picks import Picks
from fastal.uncertainty import SelectOptions, select

if TYPE_CHECKING:
    from typing_extensions import Unpack


def cluster_outliers(
    pool: Any, centroids: Any, k: int, *, fast: bool = False, **options: "Unpack[SelectOptions]"
) -> Picks:
    """The k rows farthest from every centroid, in one pass, exact and deterministic.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes.
        centroids: [K, D] array, such as `CosineClusters.centroids`, of any length.
        k: how many rows to pick, at least 1.
        fast: as for `nearest_centroid`.
        options: the arguments of `fastal.select` that `SelectOptions` names. Invalid are rows
            that are not finite.

    Returns:
        Picks; scores are cosine distances, 1 - similarity to the nearest centroid, from 0 to 2,
        larger = farther. Ties go to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.3.
    """
    return select(pool, k, CentroidDistance(centroids, fast=fast), **options)
