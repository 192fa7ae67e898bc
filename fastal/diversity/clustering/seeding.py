"""Where k-means begins: rows of a sample that are spread out, and how they fit it."""

import math

import numpy as np
import torch
from torch import Tensor

from fastal.ops.reference import nearest, unit_rows, unit_sums

_SEEDING_ROWS = 32  # a cluster; a quarter ends 0.3% worse, twice as many take twice as long
_WARM_UPS = 20  # passes over the sample at most: it is no more than a sample


def seeds(sample: Tensor, n_clusters: int, seed: int) -> Tensor:
    """Centroids [K, D] to begin with: k-means++ on a part of the sample, then k-means on all of it.

    Args:
        sample: [S, D] float32 unit rows in random order, S >= K.
        n_clusters: K.
        seed: of the draws.
    """
    units = _spread_out(sample[: _SEEDING_ROWS * n_clusters], n_clusters, seed)
    for _ in range(_WARM_UPS):
        cluster, _ = nearest(sample, units)
        found = moved(units, unit_sums(sample, cluster, n_clusters), sample)
        if torch.equal(found, units):
            break
        units = found
    return units


def moved(units: Tensor, sums: Tensor, sample: Tensor) -> Tensor:
    """The new centroids [K, D]: the directions of the sums of the members of each cluster.

    Clusters without members, or whose members cancel, begin anew at the rows of the sample that
    are farthest from all other centroids, one after the other; they stay where all of it is at
    centroids already, as similarities tell.

    Args:
        units: [K, D] float32, the centroids before, which stay where the sample is too small.
        sums: [K, D] of `unit_sums`.
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
    at_centroids = 1 - (sample.shape[1] + 8) * 2.0**-24  # what 1 may be off by, see `nearest`
    for cluster in empty:
        if closest.min() >= at_centroids:
            break
        found[cluster] = sample[closest.argmin()]
        closest = torch.maximum(closest, nearest(sample, found[cluster, None])[1])
    return found


def _spread_out(units: Tensor, k: int, seed: int) -> Tensor:
    """Rows [k, D] by greedy k-means++, on 1 - similarity: half the square of the distance.

    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding (2007), section
    2.2; of several draws, that which leaves the least distance is taken.
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
