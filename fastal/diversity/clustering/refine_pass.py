"""One pass that refines clusters, as a reducer: finds rows to move, then moves them in memory."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal import ops
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_values import RowValues
from fastal.diversity.centroids import CentroidDistance, digest
from fastal.diversity.clustering.kept_rows import KeptRows
from fastal.diversity.clustering.leave_one_out import best_moves
from fastal.diversity.clustering.lloyd_pass import no_clusters
from fastal.diversity.clustering.local_search import (
    Partition,
    block_rows,
    improved,
    similarity_error,
)
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer

_GPU_BLOCK_BYTES = 1 << 28  # of similarities
_VECTOR_ROWS = 1 << 12  # rows at once whose vectors are kept; they are summed in float64


class Refined(NamedTuple):
    """A partition after a refining pass.

    Attributes:
        partition: the sums and counts.
        clusters: [m] int64, the clusters of the rows that were kept.
        n_moves: how many moves there were.
    """

    partition: Partition
    clusters: Tensor
    n_moves: int


class RefinePass(ScoringReducer[Refined]):
    """Keeps the rows that gain most by a move to another cluster; the result has moved them.

    The pass keeps the n rows with the largest gain, see `best_moves`, also if it is negative: such
    rows may move after others have. `improved` then searches among them in memory. The gains come
    from exact sums, and no row's gain depends on other rows of the pass. So the result is the same
    for any chunks, any order of chunks and any order of merging.

    Args:
        centroids: the directions of the sums.
        partition: the sums and counts at the start of the pass.
        clusters: the cluster of each row.
        n_kept: n.
        options: how rows are compared with centroids.

    Attributes:
        partition: the argument.
        clusters: the argument.
    """

    def __init__(
        self,
        centroids: CentroidDistance,
        partition: Partition,
        clusters: RowValues,
        n_kept: int,
        options: ScoringOptions,
    ) -> None:
        super().__init__(centroids, options)
        self._centroids = centroids
        self.partition = partition
        self._lengths = partition.lengths
        self.clusters = clusters
        self._n_kept = n_kept
        self._kept = self._none_kept()
        self._found: Refined | None = None  # the result, until there are more rows

    def _none_kept(self, threshold: tuple[float, int] | None = None) -> KeptRows:
        return KeptRows(self._n_kept, self.partition.sums.shape[1], np.int32, threshold)

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Finds the rows of embeddings [n, D] that gain most; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        pieces = [self._gains(piece) for piece in _pieces(rows, len(self._lengths))]
        gains, similarity = map(torch.cat, zip(*pieces, strict=True))
        n_invalid = int(rows.invalid(similarity).count_nonzero())
        keys = gains.cpu().numpy()
        numbers = rows.numbers.at(np.arange(len(keys)))
        above = self._kept.above(keys, numbers)
        kept = self._kept.copied()
        kept.add(keys[above], numbers[above], _vectors(rows, above))

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: similarity)
            self._kept, self._found = kept, None

        return Pending(commit)

    def _gains(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """What rows gain by their best move, NaN if they have none; and a similarity of each."""
        x, similarity = rows.x, self._centroids.similarities(rows)
        device = similarity.device  # a GPU also reads rows on the host
        cluster = self.clusters.read(rows.numbers).to(device).long()
        first = similarity[:, 0].clone()
        own = similarity.gather(1, cluster.clamp(min=0)[:, None])[:, 0]
        error = similarity_error(x.shape[1])
        _, gains = best_moves(similarity, cluster, self._lengths.to(device), error)
        orthogonal = (own == 0).nonzero()[:, 0]
        zeros = orthogonal[~x[orthogonal.to(x.device)].any(1).to(device)]
        gains[zeros] = torch.nan  # rows of zeros add nothing to any sum
        return gains, first

    def part(self) -> "RefinePass":
        """A pass over the same clusters that has read no rows; see `merge`.

        It moves no rows before `set_context`, which tells it their clusters.
        """
        part = self._unread()
        part.clusters = no_clusters()
        part._kept, part._found = part._none_kept(), None
        return part

    def context_for(self, start: int, stop: int) -> tuple[RowValues, tuple[float, int]]:
        """See `Mergeable.context_for`: the clusters of the rows, and the gain they must beat."""
        return self.clusters.part(start, stop), self._kept.threshold

    def set_context(self, context: tuple[RowValues, tuple[float, int]]) -> None:
        """See `Mergeable.set_context`."""
        self.clusters, threshold = context
        self._kept = self._none_kept(threshold)

    def merge(self, other: "RefinePass") -> None:
        """Adds the rows that were kept of other rows of the same pass.

        Raises:
            ValueError: the other refines another partition.
            TypeError: the other is not a `RefinePass`, or is this very reducer.
        """
        self._check_mergeable(other)
        self._scorer.merge(other._scorer)
        self._kept.merge(other._kept)
        self._found = None

    def result(self) -> Refined:
        """The partition after the moves of the rows that were kept so far."""
        if self._found is None:
            _, rows, vectors = self._kept.columns()
            clusters = self.clusters.values[self._places(rows)].long()
            self._found = Refined(*improved(self.partition, vectors, clusters))
        return self._found

    def moved(self) -> RowValues:
        """The cluster of each row after the moves; `clusters` is written over."""
        _, rows, _ = self._kept.columns()
        self.clusters.values[self._places(rows)] = self.result().clusters.int()
        return self.clusters

    def _places(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(rows - self.clusters.first)

    def identity(self) -> dict[str, Any]:
        """The centroids and the sums."""
        return {**super().identity(), "sums": digest(self.partition.sums)}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "kept": self._kept.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        kept = state["kept"]
        super()._restore(state)
        self._kept.load_state_dict(kept)


def _pieces(rows: Rows, n_clusters: int) -> Iterator[Rows]:
    """The rows in blocks whose similarities fit into a cache, or into a part of a GPU's memory."""
    on_gpu = rows.x.is_cuda or rows.backend == "triton"
    n = block_rows(n_clusters, _GPU_BLOCK_BYTES) if on_gpu else block_rows(n_clusters)
    for first in range(0, max(1, len(rows.x)), n):
        yield rows.part(first, first + n)


def _vectors(rows: Rows, places: NDArray[np.int64]) -> NDArray[np.int32]:
    """The rows at these places as they are summed, [m, D]; see `unit_sums`.

    They are computed on the host: a GPU may sum the squares of few rows in another order.
    """
    x = rows.x
    found = [np.empty((0, x.shape[1]), np.int32)]
    for first in range(0, len(places), _VECTOR_ROWS):
        of_block = x[torch.from_numpy(places[first : first + _VECTOR_ROWS]).to(x.device)].cpu()
        alone = torch.arange(len(of_block), dtype=torch.int64, device="cpu")
        sums = ops.unit_sums(of_block, alone, len(of_block), backend=rows.backend)
        found.append(sums.int().numpy())
    return np.concatenate(found)
