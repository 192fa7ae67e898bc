"""Moves rows between clusters one at a time, as long as the objective rises."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.diversity.clustering.leave_one_out import best_moves
from fastal.ops.reference import similarities, unit_rows
from fastal.ops.reference.cluster_sums import UNIT
from fastal.selection.ties import best_first

_SWEEPS = 16  # the most for one call; a later call goes on
_BLOCK_BYTES = 1 << 23  # of similarities
_Vector = NDArray[np.float64]


class Partition(NamedTuple):
    """What is known of the members of clusters.

    Attributes:
        sums: [K, D] int64, the exact sums of the members scaled to length 1, see `unit_sums`.
        counts: [K] int64, how many members each cluster has.
    """

    sums: Tensor
    counts: Tensor

    @property
    def lengths(self) -> Tensor:
        """The lengths of the sums, [K] float64. Their total is the objective, which is to rise."""
        return torch.from_numpy(_lengths(self.sums.numpy() * UNIT))

    @property
    def inertia(self) -> float:
        """The sum over rows of the squared distance to the direction of the sum of the cluster."""
        return max(0.0, 2 * (int(self.counts.sum()) - math.fsum(self.lengths.tolist())))


def similarity_error(width: int) -> float:
    """The largest error of a similarity of rows with so many columns: that of GPUs."""
    return (width + 8) * 2.0**-23


def block_rows(n_clusters: int, block_bytes: int = _BLOCK_BYTES) -> int:
    """How many rows have so many bytes of similarities."""
    return max(1, block_bytes // (4 * n_clusters))


def improved(
    partition: Partition, vectors: NDArray[np.int32], cluster: Tensor
) -> tuple[Partition, Tensor, int]:
    """A partition with a larger objective, by moves of some of its rows.

    A sweep finds the best move of every row, and makes the moves in falling order of what they
    gain. A move is made only if it provably raises the objective, in float64, with the sums as they
    are by then. So the objective rises with each move. The sums stay exact.

    Args:
        partition: of all rows.
        vectors: [m, D], the rows, scaled to length 1 and rounded, in units of `UNIT`.
        cluster: [m] int64, their clusters.

    Returns:
        The new partition, the new clusters [m], and how many moves there were.
    """
    search = _Search(partition, vectors, cluster)
    n_moves = 0
    for _ in range(_SWEEPS if len(cluster) else 0):
        moved = search.sweep()
        n_moves += moved
        if not moved:
            break
    found = Partition(torch.from_numpy(search.sums), torch.from_numpy(search.counts))
    return found, torch.from_numpy(search.cluster), n_moves


class _Search:
    def __init__(self, partition: Partition, vectors: NDArray[np.int32], cluster: Tensor) -> None:
        self.sums = partition.sums.numpy().copy()
        self.counts = partition.counts.numpy().copy()
        self.cluster = cluster.numpy().copy()
        self._vectors = vectors
        self._rows = torch.from_numpy(vectors).float()
        self._wide = self.sums * UNIT
        # Twice the error of the gain of a move, which has a few sums of D products.
        self._error = (vectors.shape[1] + 8) * 2.0**-50

    def sweep(self) -> int:
        """Makes the moves that raise the objective. Returns how many there were."""
        target, gain = self._best_moves()
        rows = np.flatnonzero(gain > 0)
        order = rows[best_first(gain[rows], rows)]
        return sum(self._move(row, target[row]) for row in order.tolist())

    def _best_moves(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        sums = torch.from_numpy(self.sums)
        units = unit_rows(sums).float()
        lengths = torch.from_numpy(_lengths(self._wide))
        error = similarity_error(sums.shape[1])
        cluster, n_rows = torch.from_numpy(self.cluster), block_rows(len(sums))
        found = [
            best_moves(
                similarities(self._rows[first : first + n_rows], units),
                cluster[first : first + n_rows],
                lengths, error,
            )
            for first in range(0, len(cluster), n_rows)
        ]  # fmt: skip
        targets, gains = zip(*found, strict=True)
        return torch.cat(targets).numpy(), torch.cat(gains).numpy()

    def _move(self, row: int, target: int) -> bool:
        """Moves a row to another cluster if the objective rises. Returns whether it was moved."""
        source = self.cluster[row]
        x = self._vectors[row] * UNIT
        left, joined = self._wide[source], self._wide[target]
        lost = _difference(x, left - x, left)
        gained = _difference(x, joined, joined + x)
        if gained - lost <= self._error:
            return False
        self.sums[source] -= self._vectors[row]
        self.sums[target] += self._vectors[row]
        for cluster in (source, target):
            self._wide[cluster] = self.sums[cluster] * UNIT
        self.counts[source] -= 1
        self.counts[target] += 1
        self.cluster[row] = target
        return True


def _difference(x: _Vector, without: _Vector, whole: _Vector) -> float:
    """|whole| - |without|, where whole = without + x, without cancellation."""
    total = _length(whole) + _length(without)
    return float((x * (whole + without)).sum()) / total if total else 0.0


def _length(vector: _Vector) -> float:
    return float(_lengths(vector))


def _lengths(vectors: _Vector) -> Any:
    return np.sqrt((vectors * vectors).sum(-1))
