"""Cluster-based outliers: the rows farthest from every centroid."""

from typing import TYPE_CHECKING, Any

from fastal.diversity.centroids import CentroidDistance
from fastal.picks.picks import Picks
from fastal.uncertainty import SelectOptions, select

if TYPE_CHECKING:
    from typing_extensions import Unpack


def cluster_outliers(
    pool: Any, centroids: Any, k: int, *, fast: bool = False, **options: "Unpack[SelectOptions]"
) -> Picks:
    """The k rows farthest from their nearest centroid, in one pass, exact and deterministic.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes.
        centroids: [K, D] array, such as `CosineClusters.centroids`; its rows have any length.
        k: how many rows to pick, at least 1.
        fast: as for `nearest_centroid`.
        options: the arguments of `fastal.select` that `SelectOptions` names. Rows that are not
            finite are invalid.

    Returns:
        Picks, farthest first. Scores are cosine distances to the nearest centroid, 1 - similarity,
        from 0 to 2. Ties go to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.3.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[1, 0], [-1, -1], [3, 4]], np.float32)
        >>> picks = diversity.cluster_outliers(x, np.eye(2), k=2)
        >>> picks.rows, picks.scores.round(3)
        (array([1, 2]), array([1.707, 0.2  ], dtype=float32))
    """
    return select(pool, k, CentroidDistance(centroids, fast=fast), **options)
