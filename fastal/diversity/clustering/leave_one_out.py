"""What moving a row to another cluster gains, if the row itself is left out of its cluster."""

import torch
from torch import Tensor

from fastal.ops.reference.cosine import first_largest

_LEAST_LENGTH = 2.0**-60  # of a sum, for its inverse; a sum of 0 has the gain of an empty cluster


def best_moves(
    similarity: Tensor, cluster: Tensor, lengths: Tensor, error: float
) -> tuple[Tensor, Tensor]:
    """The cluster that each row gains most by moving to, and an upper bound of that gain.

    The objective is the sum over clusters of |s|, where s is the sum of a cluster's members, each
    scaled to length 1. If a row x moves from cluster i to cluster j, it changes by
    |s_j + x| - |s_j| - (|s_i| - |s_i - x|). With the similarity c of x to s and r = 1 / |s|:

        |s + x| - |s| = (2 c + r) / (1 + sqrt(1 + r (2 c + r)))
        |s| - |s - x| = (2 c - r) / (1 + sqrt(1 - r (2 c - r)))

    Both rise with c. So with the largest possible error added to the similarities in the first,
    and subtracted in the second, the difference is an upper bound, except for the rounding of the
    arithmetic itself.

    Args:
        similarity: [n, K] float32, the similarities of rows of length 1 to the sums; overwritten.
        cluster: [n] int64, the present cluster of each row; below 0: none.
        lengths: [K] float64, |s| of each cluster.
        error: the largest error of a similarity.

    Returns:
        Clusters [n] int64, other than the present ones, and gains [n] float32. Ties go to the
        lowest cluster. The gain is -inf if there is no other cluster, and NaN for rows that have no
        cluster or a similarity that is NaN.

    Source: Dhillon, Guan and Kogan, Iterative Clustering of High Dimensional Text Data Augmented by
    Local Search (2002), section 3.
    """
    inverse = (1 / lengths.clamp(min=_LEAST_LENGTH)).float()
    own = cluster.clamp(min=0)[:, None]
    lost = similarity.gather(1, own)[:, 0].sub_(error).mul_(2).sub_(inverse[own[:, 0]])
    lost /= (1 - inverse[own[:, 0]] * lost).clamp_(min=0).sqrt_().add_(1)
    gained = similarity.mul_(2).add_(inverse + 2 * error)
    gained /= (inverse * gained).add_(1).clamp_(min=0).sqrt_().add_(1)
    gained.scatter_(1, own, -torch.inf)
    target = first_largest(gained)
    gain = gained.gather(1, target[:, None])[:, 0] - lost
    return target, gain.masked_fill_(cluster < 0, torch.nan)
