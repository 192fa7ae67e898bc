"""Core-sets: rows chosen such that every row of the pool is near to one of them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal.base.arrays import is_array
from fastal.base.checks import check_same
from fastal.base.errors import prefixing_errors
from fastal.base.row_filter import row_filter_of
from fastal.base.row_numbers import RowNumbers
from fastal.base.row_values import RowValues
from fastal.diversity.centroids import checked_rows, copied, rows_of
from fastal.diversity.distance import Distance
from fastal.diversity.greedy_picks import GreedyPicks
from fastal.picks.picks import Picks
from fastal.pipeline.engine import Engine
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.ties import Best
from fastal.sources import PathLike, open_pool
from fastal.sources.files import in_column_order_of


def k_center(
    pool: Any,
    k: int,
    *,
    labelled: Any = None,
    metric: str = "cosine",
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    exclude: Any = None,
    among: Any = None,
    progress: bool = False,
    engine: str | Engine = "local",
) -> Picks:
    """Greedy k-centre: each pick is the row farthest from all labelled and picked rows.

    The pool is read once for each pick. Memory is 4 bytes per row. After the last pick, some row of
    the pool has the largest distance to its nearest labelled or picked row. With "euclidean", this
    distance is at most twice that of the best choice of k rows.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again,
            such as a list of arrays, but not a generator.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked.
        labelled: [L, D], the rows that are already labelled: an array, or any pool that fits into
            memory. None, or no rows: the first pick is the valid row with the lowest number. If
            labelled rows are in the pool too, `exclude` leaves them out.
        metric: "cosine" is 1 - cosine similarity, from 0 to 2, with an error of at most
            (D + 8) 2^-24; a row of zeros has distance 1 to all. "euclidean" has a relative error of
            at most (D + 8) 2^-24.
        fast: as for `nearest_centroid`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite and count them in the
            picks' `invalid`.
        backend: "auto", "triton" or "torch"; "euclidean" has "torch" only.
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`; it has 4 bytes per row.
        resume: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        progress: as for `fastal.select`.
        engine: as for `fastal.select`.

    Returns:
        Picks in the order of picking. Scores are distances to the nearest row that was labelled or
        picked before; they never increase. If there are no labelled rows, the first pick has the
        score of the second, or 0. Ties go to the lower row number. Duplicates of picked rows have
        distance 0, within rounding, and come last.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach
    (ICLR 2018), algorithm 1; Gonzalez (1985).

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[0, 0], [1, 0], [5, 0], [4, 3]], np.float32)
        >>> picks = diversity.k_center(x, k=3, metric="euclidean")
        >>> picks.rows, picks.scores.round(2)
        (array([0, 2, 3]), array([5.  , 5.  , 3.16], dtype=float32))
    """
    with prefixing_errors("labelled"):
        labelled = in_column_order_of(pool, labelled)
    reducer = CoreSet(
        k, labelled=labelled, metric=metric, fast=fast, on_invalid=on_invalid, backend=backend
    )
    run_options = RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress, engine)
    return pick_from_pool(reducer, pool, run_options)


class CoreSet(GreedyPicks):
    """Greedy k-centre as a reducer with one pass for each pick. `k_center` runs it over a pool.

    Within a pass, any chunks in any order and any merging give the same pick.

    Args:
        k: how many rows to pick, at least 1.
        labelled: [L, D], the rows that are already labelled; None: there are none.
        metric: "cosine" or "euclidean"; see `k_center`.
        fast: as for `nearest_centroid`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite and count them.
        backend: "auto", "triton" or "torch"; "euclidean" has "torch" only.
        exclude: as for `fastal.Selector`.
        among: as for `fastal.Selector`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[0, 0], [1, 0], [5, 0], [4, 3]], np.float32)
        >>> reducer = diversity.CoreSet(3, metric="euclidean")
        >>> has_next = True
        >>> while has_next:
        ...     reducer.update(x, 0)
        ...     has_next = reducer.next_pass()
        >>> reducer.result().rows
        array([0, 2, 3])
    """

    def __init__(
        self,
        k: int,
        *,
        labelled: Any = None,
        metric: str = "cosine",
        fast: bool = False,
        on_invalid: str = "raise",
        backend: str = "auto",
        exclude: Any = None,
        among: Any = None,
    ) -> None:
        self._to_centres = Distance(metric, labelled_rows(labelled), fast=fast)
        options = ScoringOptions(on_invalid, backend)
        super().__init__(k, self._to_centres, options, row_filter_of(exclude, among))

    def _best_of(self, rows: Rows, nearest: Tensor) -> Best | None:
        """The row that is worth most, with its embedding, [D] float64."""
        worth = self._worth(rows, nearest)
        if not len(worth):
            return None
        place = int(worth.argmax())  # ties go to the first
        if worth[place] == -math.inf:
            return None
        row = int(rows.numbers.at(np.array([place]))[0])
        return Best(float(worth[place]), row, rows.x[place].to("cpu", torch.float64, copy=True))

    def _worth(self, rows: Rows, nearest: Tensor) -> Tensor:  # noqa: ARG002
        """What rows are worth, [n], larger = better; -inf for rows that must not be picked.

        Args:
            rows: the rows.
            nearest: their distances to the nearest centre, [n]; -inf for such rows.
        """
        return nearest

    def next_pass(self) -> bool:
        """Picks the farthest row of the pass; returns whether there is to be another pass."""
        best = self._end_pass()
        if best is None:
            return False
        distance, row, embedding = best
        self._add(row, distance)
        self._to_centres.centres = embedding[None]
        return len(self._rows) < self._k

    def part(self) -> "CoreSet":
        """A reducer with the same picks that has read no rows of this pass; see `merge`.

        It has no distances before `set_context`.
        """
        part = self._unread()
        part._distance = self._distance.part(0, 0)
        part._best = None
        return part

    def context_for(self, start: int, stop: int) -> RowValues:
        """See `Mergeable.context_for`: the distances of the rows."""
        return self._distance.part(start, stop)

    def set_context(self, context: RowValues) -> None:
        """See `Mergeable.set_context`."""
        self._distance = context

    def merge(self, other: "CoreSet") -> None:
        """Adds a reducer that read other rows of the same pass.

        Raises:
            ValueError: the other has other arguments or picks.
            TypeError: the other is not a `CoreSet`, or is this very reducer.
        """
        self._check_mergeable(other)
        check_same({"picks": self._rows}, {"picks": other._rows}, "merge: the other")
        self._scorer.merge(other._scorer)
        theirs = other._distance
        numbers = RowNumbers(len(theirs.values), theirs.first)
        ours = self._distance.read(numbers)
        self._distance.write(numbers, torch.minimum(ours, theirs.values.to(ours.device)))
        if other._best is not None:
            self._best = other._best.or_better(self._best)

    def result(self) -> Picks:
        """The picks so far.

        The arrays are of the kind of the last chunk, or NumPy if there was none.
        """
        scores = list(self._scores)
        if scores and self._to_centres.began_from is None:  # the first has no distance
            scores[0] = scores[1] if len(scores) > 1 else 0.0
        return self._picks(scores)

    @property
    def strategy(self) -> str:
        """Its name."""
        return "k_center"

    def identity(self) -> dict[str, Any]:
        """k, the metric, the labelled rows, and `fast`."""
        return {"strategy": "k_center", "k": self._k, **self._to_centres.identity()}

    def _state(self) -> dict[str, Any]:
        """The state, which has 4 bytes per row of the pool."""
        centre, best = self._to_centres.centres, self._best
        return {
            **super()._state(),
            "centre": centre.numpy() if self._rows and centre is not None else None,
            "farthest": None if best is None else [best.score, best.row, best.payload.numpy()],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        centre, farthest = state["centre"], state["farthest"]
        super()._restore(state)
        if centre is not None:
            self._to_centres.centres = torch.from_numpy(centre)
        self._best = None
        if farthest is not None:
            distance, row, embedding = farthest
            self._best = Best(distance, row, torch.from_numpy(embedding))


def labelled_rows(labelled: Any) -> Tensor | None:
    """The labelled embeddings [L, D], float64 on the host; None if there are none."""
    if labelled is None:
        return None
    if isinstance(labelled, Picks):
        raise TypeError("labelled: wanted embeddings, got picks; give embeddings[picks.rows]")
    if is_array(labelled):
        rows = copied(labelled, "labelled")
    else:
        try:
            rows = rows_of(open_pool(labelled), "rows")
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: widths differ
            named = TypeError if isinstance(error, TypeError) else ValueError
            raise named(f"labelled: {error}") from error
    if rows.ndim == 2 and not len(rows):
        return None
    return checked_rows(rows, "labelled").double()
