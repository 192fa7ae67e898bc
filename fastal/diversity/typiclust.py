"""TypiClust: the most typical row of each cluster, for the first labels."""

import heapq
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor, converter_for
from fastal.base.checks import checked_count, checked_seed
from fastal.base.errors import prefixing_errors
from fastal.diversity.assignment import Assignment, assigned, nearest_centroid
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.clustering.clusters import CosineClusters
from fastal.diversity.core_set import labelled_rows
from fastal.diversity.typical_rows import UnitRows, ValidRows, neighbour_distances
from fastal.picks.picks import Picks
from fastal.pipeline.row_choice import row_filter_for
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import Source, open_pool
from fastal.sources.files import in_column_order_of

_log = logging.getLogger("fastal")
_ITEM_BYTES = 8


def typiclust(
    embeddings: Any,
    k: int,
    *,
    labelled: Any = None,
    neighbours: int = 20,
    max_clusters: int = 500,
    seed: int = 0,
    memory_bytes: int = 1 << 30,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    exclude: Any = None,
    among: Any = None,
    progress: bool = False,
) -> Picks:
    """TypiClust: the most typical rows of the largest clusters without labels.

    The rows are clustered by `CosineClusters` into as many clusters as there are labelled rows and
    picks. Then each pick is the most typical row of a cluster: of the clusters with the fewest
    labelled and picked rows, the largest. The typicality of a row is 1 / (mean Euclidean distance
    to its nearest neighbours in its cluster), with rows scaled to length 1. It is for small
    budgets, where uncertain rows are of little use.

    The pool is read to find the clusters, once to assign the rows, and once for each set of
    clusters that fit into memory together. Where it is not known how many valid rows the pool has,
    it is read once more to count them.

    Args:
        embeddings: [N, D]; any pool that `fastal.select` takes and that can be read again.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked.
        labelled: [L, D], the rows that are already labelled: an array, or any pool that fits into
            memory; None: there are none. They count in the clusters of their nearest centroids, and
            do not move the centroids. If labelled rows are in the pool too, `exclude` leaves them
            out.
        neighbours: how many nearest neighbours count, at least 1. In a cluster with fewer other
            rows, all of them count.
        max_clusters: the most clusters, at least 1. There are min(L + k, max_clusters) clusters,
            but no more than valid rows.
        seed: the seed of the clusters, from 0 to 2^64 - 1.
        memory_bytes: memory for rows of clusters that are picked from, which take 8 D bytes each.
            Every row of the pool takes 12 more bytes, and comparisons take up to 128 MiB.
        fast: as for `nearest_centroid`; for the clusters only.
        on_invalid: "raise", or "skip" to leave out rows that are not finite and count them in the
            picks' `invalid`.
        backend: "auto", "triton", "native" or "torch"; for the clusters only.
        chunk_bytes: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        progress: as for `fastal.select`.

    Returns:
        Picks in the order of picking. Scores are typicalities, from 0.5: infinite for a row whose
        neighbours all equal it, and 0 for a row alone in its cluster. Groups are the clusters.
        Ties go to the lower cluster, then to the lower row number. If a cluster gives several rows,
        they come in the order of their typicality, which is computed once.

    Raises:
        InvalidRows, TypeError, OSError: as `fastal.select`.
        ValueError: a cluster does not fit into memory, or another argument is bad; the message
            names it.

    Source: Hacohen, Dekel and Weinshall, Active Learning on a Budget: Opposite Strategies Suit High
    and Low Budgets (ICML 2022), section 4. The authors' code takes squared distances, leaves out
    clusters of at most 5 rows, and computes typicality anew after each pick of a cluster.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[9, 1], [1, 9], [9, 2], [1, 8], [9, 3]], np.float32)
        >>> picks = diversity.typiclust(x, k=2)
        >>> picks.rows, picks.scores.round(1)
        (array([2, 1]), array([ 9.5, 73. ], dtype=float32))
    """
    k, neighbours = checked_count("k", k), checked_count("neighbours", neighbours)
    max_clusters = checked_count("max_clusters", max_clusters)
    memory_bytes, seed = checked_count("memory_bytes", memory_bytes), checked_seed(seed)
    options = ScoringOptions(on_invalid, backend)
    source = open_pool(embeddings)
    with prefixing_errors("labelled"):
        labelled = in_column_order_of(embeddings, labelled)
    known = labelled_rows(labelled)
    how = RunOptions(chunk_bytes, exclude=exclude, among=among, progress=progress)

    n_valid = _n_valid(source, options, how)
    if not n_valid:
        _log.warning("nothing was picked: there are no valid rows")
        return Picks([], [], strategy="typiclust")
    n_known = 0 if known is None else len(known)
    clusters = CosineClusters(
        min(n_known + k, max_clusters, n_valid), seed=seed, fast=fast, on_invalid=on_invalid,
        backend=backend,
    ).fit(
        source, chunk_bytes=chunk_bytes, exclude=exclude, among=among, progress=progress
    )  # fmt: skip
    measure = CentroidDistance(clusters.centroids, fast=fast)
    n_clusters, width = measure.units.shape
    if known is not None and known.shape[1] != width:
        raise ValueError(
            f"labelled: wanted {width} columns, as the embeddings have, got {known.shape[1]}"
        )
    reducer = Assignment(measure, options)
    found = assigned(reducer, source, how)
    cluster = as_tensor(found.cluster, "embeddings").cpu().numpy()
    n_labelled = np.zeros(n_clusters, np.int64)
    if known is not None:
        of_known = nearest_centroid(known.numpy(), clusters.centroids, backend="torch").cluster
        n_labelled = np.bincount(of_known, minlength=n_clusters)
    sizes = np.bincount(cluster[cluster >= 0], minlength=n_clusters)
    turns = np.array(list(_in_turn(sizes, n_labelled, k)), np.int64)

    rows, scores = np.empty(len(turns), np.int64), np.empty(len(turns), np.float32)
    for some in _fitting(np.unique(turns), sizes, memory_bytes // (_ITEM_BYTES * width)):
        members = np.flatnonzero(np.isin(cluster, some))
        gather = UnitRows(members, width, options)
        of_some = RunOptions(chunk_bytes, among=members, progress=progress)
        units = run_on_pool(gather, source, of_some, lambda found, _: found)
        for one in some:
            places, picked = np.flatnonzero(cluster[members] == one), np.flatnonzero(turns == one)
            distance = neighbour_distances(units[torch.from_numpy(places)], neighbours).numpy()
            nearest = np.argsort(distance, kind="stable")[: len(picked)]
            rows[picked] = members[places[nearest]]
            with np.errstate(divide="ignore"):
                scores[picked] = 1 / distance[nearest]
    if len(rows) < k:
        _log.warning("k: wanted %d rows; there are %d valid ones, all picked", k, len(rows))
    to_kind = converter_for(found.cluster)
    return Picks(
        to_kind(torch.from_numpy(rows)), to_kind(torch.from_numpy(scores)), source.ids(rows),
        reducer.invalid, turns, "typiclust", source.carried(rows),
    )  # fmt: skip


def _n_valid(source: Source, options: ScoringOptions, how: RunOptions) -> int:
    """How many rows may be picked. They are counted only if that is not known."""
    if source.n_rows is None or options.on_invalid == "skip":
        return run_on_pool(ValidRows(options), source, how, lambda found, _: found)
    row_filter = row_filter_for(how.exclude, how.among, source)
    return source.n_rows if row_filter is None else row_filter.n_left(source.n_rows)


def _in_turn(sizes: NDArray[np.int64], n_labelled: NDArray[np.int64], k: int) -> Iterator[int]:
    """The cluster of each pick: the one with the fewest labels and picks; of these, the largest."""
    left = sizes.copy()
    waiting = [(int(n_labelled[one]), -int(sizes[one]), int(one)) for one in np.flatnonzero(sizes)]
    heapq.heapify(waiting)
    for _ in range(min(k, int(sizes.sum()))):
        count, size, one = heapq.heappop(waiting)
        left[one] -= 1
        if left[one]:
            heapq.heappush(waiting, (count + 1, size, one))
        yield one


def _fitting(
    clusters: NDArray[np.int64], sizes: NDArray[np.int64], room: int
) -> Iterator[NDArray[np.int64]]:
    """The clusters in sets, each of which has at most `room` rows.

    Raises:
        ValueError: a cluster alone has more rows.
    """
    largest = clusters[sizes[clusters].argmax()]
    if sizes[largest] > room:
        raise ValueError(
            f"memory_bytes: cluster {largest} has {sizes[largest]:,} rows, and memory_bytes is for "
            f"{room:,}: wanted more memory or more clusters"
        )
    while len(clusters):
        n = int(np.searchsorted(sizes[clusters].cumsum(), room, side="right"))
        yield clusters[:n]
        clusters = clusters[n:]
