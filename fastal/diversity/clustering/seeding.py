"""The first centroids of k-means, how centroids move, and how many are distinct."""

import math

import numpy as np
import torch
from torch import Tensor

from fastal import ops
from fastal.diversity.near_duplicates import near_duplicates
from fastal.ops.reference import nearest, unit_rows

# Sample rows per cluster for k-means++. With a quarter of them, the final inertia is 0.3% higher.
# Twice as many take twice as long.
_SEEDING_ROWS = 32
_WARM_UPS = 20  # the most iterations on the sample, which need not converge


def first_centroids(sample: Tensor, n_clusters: int, seed: int, *, backend: str) -> Tensor:
    """The first centroids [K, D]: k-means++ on a part of the sample, then k-means on all of it.

    Args:
        sample: [S, D] float32 unit rows in random order, S >= K.
        n_clusters: K.
        seed: the seed of the draws.
        backend: what computes k-means on the sample: a name that `ops.choose` returned.
    """
    units = _k_means_plus_plus(sample[: _SEEDING_ROWS * n_clusters], n_clusters, seed)
    for _ in range(_WARM_UPS):
        cluster, _ = ops.nearest(sample, units, backend=backend)  # assign
        sums = ops.unit_sums(sample, cluster, n_clusters, backend=backend)
        found = moved(units, sums, sample)  # move
        if torch.equal(found, units):  # test
            break
        units = found
    return units


def moved(units: Tensor, sums: Tensor, sample: Tensor) -> Tensor:
    """The new centroids [K, D]: the direction of the sum of each cluster's members.

    A cluster is empty if it has no members, or if its members cancel. The empty clusters restart
    one after the other, each at the row of the sample that is farthest from all other centroids.
    An empty cluster keeps its centroid if every row of the sample is at a centroid, within the
    error of the similarities; if the sample is empty; or if all clusters are empty.

    Args:
        units: [K, D] float32, the present centroids.
        sums: [K, D], see `unit_sums`.
        sample: [S, D] float32 unit rows.
    """
    found = unit_rows(sums).float()
    empty = (sums == 0).all(1).nonzero()[:, 0].tolist()
    if not empty:
        return found
    found[empty] = units[empty]
    if len(empty) == len(found) or not len(sample):
        return found
    full = (sums != 0).any(1)
    closest = nearest(sample, found[full])[1]
    at_centroids = _similarity_of_equals(sample.shape[1])
    for cluster in empty:
        if closest.min() >= at_centroids:
            break
        found[cluster] = sample[closest.argmin()]
        closest = torch.maximum(closest, nearest(sample, found[cluster, None])[1])
    return found


def n_distinct(units: Tensor) -> int:
    """How many centroids [K, D] are distinct: not equal to another, within the error of `nearest`.

    Centroids of equal rows need not be equal bits, since moving a centroid rounds it.
    """
    is_zero = (units == 0).all(1)
    rows = (~is_zero).nonzero()[:, 0]
    n_repeated = 0
    if len(rows):
        least = _similarity_of_equals(units.shape[1])
        ((repeated, _, _),) = near_duplicates(units, [rows], least)
        n_repeated = len(repeated)
    return len(rows) - n_repeated + bool(is_zero.any())


def _similarity_of_equals(width: int) -> float:
    """The least similarity that `nearest` may find for equal directions."""
    return 1 - (width + 8) * 2.0**-24


def _k_means_plus_plus(units: Tensor, k: int, seed: int) -> Tensor:
    """Rows [k, D] chosen by greedy k-means++.

    Rows are drawn in proportion to 1 - similarity, which is half the squared distance. Of several
    draws, the row that leaves the smallest sum of distances is chosen.

    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding (2007), section
    2.2.
    """
    rng = np.random.default_rng(seed)
    n_draws = 2 + int(math.log(k))
    chosen = [int(rng.integers(len(units)))]
    distance = (1 - units @ units[chosen[0]]).clamp_(min=0)
    for _ in range(k - 1):
        cumulative = distance.double().cumsum(0)
        drawn = torch.from_numpy(rng.random(n_draws)) * cumulative[-1]
        places = torch.searchsorted(cumulative, drawn, right=True).clamp_(max=len(units) - 1)
        left = torch.minimum(distance[:, None], (1 - units @ units[places].t()).clamp_(min=0))
        best = int(left.double().sum(0).argmin())
        chosen.append(int(places[best]))
        distance = left[:, best]
    return units[chosen]
