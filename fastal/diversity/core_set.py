"""Core-sets: rows chosen such that every row of the pool is near to one of them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import is_array
from fastal.base.checks import check_same, checked_count
from fastal.base.errors import prefixing_errors
from fastal.base.row_filter import row_filter_of
from fastal.base.row_values import RowValues
from fastal.diversity.candidates import Candidates, Place
from fastal.diversity.centroids import checked_rows, copied, rows_of
from fastal.diversity.distance import DistanceBound
from fastal.diversity.greedy_picks import GreedyPicks, expected_passes
from fastal.diversity.lazy_greedy import LazyGreedy
from fastal.diversity.point_list import PointList
from fastal.ops.reference import in_one_thread
from fastal.picks.picks import Picks
from fastal.pipeline.engine import Engine
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import PathLike, open_pool
from fastal.sources.files import in_column_order_of

MEMORY_BYTES = 1 << 26


def k_center(
    pool: Any,
    k: int,
    *,
    labelled: Any = None,
    metric: str = "cosine",
    fast: bool = False,
    memory_bytes: int = MEMORY_BYTES,
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

    A pass over the pool finds many picks: it keeps the farthest rows, and picks go on among these
    as long as no other row can be farther. So 1,000 picks take about 10 passes. The picks are
    exactly those of one pass for each pick. At worst, a pick takes two passes. Memory is 4 bytes
    per row, 8 (L + k) D bytes for the centres, and `memory_bytes`. After the last pick, some row of
    the pool has the largest distance to its nearest labelled or picked row. With "euclidean", this
    distance is at most twice that of the best choice of k rows.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again,
            such as a list of arrays. A generator fails if there has to be a second pass.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked.
        labelled: [L, D], the rows that are already labelled: an array, or any pool that fits into
            memory. None, or no rows: the first pick is the valid row with the lowest number. If
            labelled rows are in the pool too, `exclude` leaves them out.
        metric: "cosine" is 1 - cosine similarity, from 0 to 2, with an error of at most 2^-23; a
            row of zeros has distance 1 to all. "euclidean" has a relative error of at most 2^-23.
            Neither depends on the backend.
        fast: as for `nearest_centroid`. The picks are the same, but passes may be more.
        memory_bytes: memory for the farthest rows. More memory saves passes, and changes no pick.
        on_invalid: "raise", or "skip" to leave out rows that are not finite and count them in the
            picks' `invalid`.
        backend: "auto", "triton", "native" or "torch"; "euclidean" has "torch" only.
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
    (ICLR 2018), algorithm 1; Gonzalez (1985). Fewer passes: `fastal.diversity.lazy_greedy`.

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
        k, labelled=labelled, metric=metric, fast=fast, memory_bytes=memory_bytes,
        on_invalid=on_invalid, backend=backend,
    )  # fmt: skip
    run_options = RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress, engine)
    return pick_from_pool(reducer, pool, run_options)


class CoreSet(GreedyPicks):
    """Greedy k-centre as a reducer. `k_center` runs it over a pool.

    Any chunks in any order and any merging within a pass give the same picks.

    Args:
        k: how many rows to pick, at least 1.
        labelled: [L, D], the rows that are already labelled; None: there are none.
        metric: "cosine" or "euclidean"; see `k_center`.
        fast: as for `k_center`.
        memory_bytes: as for `k_center`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite and count them.
        backend: "auto", "triton", "native" or "torch"; "euclidean" has "torch" only.
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
        memory_bytes: int = MEMORY_BYTES,
        on_invalid: str = "raise",
        backend: str = "auto",
        exclude: Any = None,
        among: Any = None,
    ) -> None:
        self._to_centres = DistanceBound(metric, labelled_rows(labelled), fast=fast)
        options = ScoringOptions(on_invalid, backend)
        super().__init__(k, self._to_centres, options, row_filter_of(exclude, among))
        self._memory_bytes = checked_count("memory_bytes", memory_bytes)
        self._candidates = Candidates(self._memory_bytes)
        self._metric = self._to_centres.metric
        self._centres = PointList(self._to_centres.centres)  # the labelled rows, then the picks
        self._n_labelled = len(self._to_centres.centres)
        # Rows whose bounds reach this worth are computed exactly in this pass; None: no row.
        self._exact_from: float | None = None
        self._n_passes = 0
        self.max_passes = expected_passes(k, 0, 0)
        self._is_part = False  # the centres of a part are those of the whole, and not in its state

    def _read(self, rows: Rows, nearest: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Adds the rows that are worth most to the candidates."""
        numbers = rows.numbers.at(np.arange(len(rows.numbers)))
        worth = self._worth(rows.without_left_out(nearest, -np.inf), numbers)
        if self._exact_from is not None:
            places = (worth >= self._exact_from).nonzero()[:, 0]
            points = self._metric.points(rows.x[places].cpu())
            exact = torch.from_numpy(self._metric.exact(points, self._centres.points))
            nearest[places] = exact.to(nearest.device)
            worth = self._worth(rows.without_left_out(nearest, -np.inf), numbers)
        candidates = self._candidates.empty()
        candidates.add(worth, rows.numbers, nearest, rows.x)
        return nearest, lambda: self._candidates.merge(candidates)

    def _worth(self, nearest: Tensor, rows: NDArray[np.int64]) -> Tensor:  # noqa: ARG002
        """What rows are worth, [n], larger = better: never less if a row is farther.

        Args:
            nearest: their distances to the nearest centre, [n]; -inf for rows that must not be
                picked, which are worth -inf.
            rows: their numbers, [n].
        """
        return nearest

    def _most_gained(self, n_picks: int) -> float:  # noqa: ARG002
        """By how much the worth of a row may have risen in `n_picks` picks."""
        return 0.0

    def next_pass(self) -> bool:
        """Picks the farthest rows of the pass; returns whether there is to be another pass."""
        self._end_pass()
        candidates, self._candidates = self._candidates, Candidates(self._memory_bytes)
        n_picks, n_centres = len(self._rows), len(self._centres.points)
        # In one thread, since torch would divide each of the many small steps.
        in_one_thread(lambda: self._pick_among(candidates))
        self._to_centres.centres = self._centres.points[n_centres:]
        self._n_passes += 1
        if len(self._rows) == self._k or candidates.bound is None:
            self.max_passes = self._n_passes
            return False
        if len(self._rows) > n_picks:
            self._exact_from = None
        self.max_passes = expected_passes(self._k, len(self._rows), self._n_passes)
        return True

    def _pick_among(self, candidates: Candidates) -> None:
        """Picks candidates as long as no other row can precede them."""
        rows, upper, x = candidates.best()
        left = LazyGreedy(rows, upper, x, self._metric, len(self._centres.points))
        n_picks = len(self._rows)
        while len(self._rows) < self._k:
            bound = self._bound(candidates.bound, len(self._rows) - n_picks)
            found = left.best(self._worth_of, self._centres.points, bound)
            if found is None:
                return
            best, at = found
            if not best.precedes(bound):
                # If this is the first, rough distances leave open which row is best: the next pass
                # computes exact ones.
                self._exact_from = best.worth
                return
            point = self._metric.points(left.embedding(at))
            changes_others = self._metric.changes_others(left.distance(at))
            left.pick(at, point if changes_others else None)
            if changes_others:
                self._centres.append(point)
            self._add(best.row, best.worth)

    def _bound(self, dropped: Place | None, n_picks: int) -> Place | None:
        """No row but a candidate precedes this one, `n_picks` picks after the pass."""
        gained = self._most_gained(n_picks)
        if dropped is None or not gained:
            return dropped
        return Place((dropped.worth + gained) * (1 + 2.0**-50), -1)  # before all rows of this worth

    def _worth_of(self, distance: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[Any]:
        found: NDArray[Any] = self._worth(torch.from_numpy(distance), rows).numpy()
        return found

    def part(self) -> "CoreSet":
        """A reducer with the same picks that has read no rows of this pass; see `merge`.

        It has no distances before `set_context`.
        """
        part = self._unread()
        part._distance = self._distance.part(0, 0)
        part._candidates = Candidates(self._memory_bytes)
        part._is_part = True
        return part

    def context_for(self, start: int, stop: int) -> tuple[RowValues, Place | None]:
        """See `Mergeable.context_for`: the distances of the rows, and what they have to precede."""
        return self._distance.part(start, stop), self._candidates.bound

    def set_context(self, context: tuple[RowValues, Place | None]) -> None:
        """See `Mergeable.set_context`."""
        self._distance, self._candidates.bound = context

    def merge(self, other: "CoreSet") -> None:
        """Adds a reducer that read other rows of the same pass.

        Raises:
            ValueError: the other has other arguments or picks.
            TypeError: the other is not a `CoreSet`, or is this very reducer.
        """
        self._check_mergeable(other)
        check_same({"picks": self._rows}, {"picks": other._rows}, "merge: the other")
        self._scorer.merge(other._scorer)
        self._distance.merge(other._distance, torch.minimum)
        self._candidates.merge(other._candidates)

    @property
    def kth_score(self) -> float | None:
        """The score of the last pick; None before a pick that has a distance."""
        score = super().kth_score
        return None if score is None or math.isinf(score) else score

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
        """The state: 4 bytes per row of the pool, the picks' embeddings, and the candidates."""
        centres = None
        if not self._is_part:
            picked = self._centres.points[self._n_labelled :]
            centres = {"picked": picked.copy(), "n_new": len(self._to_centres.centres)}
        return {
            **super()._state(),
            "centres": centres,
            "candidates": self._candidates.state_dict(),
            "exact_from": self._exact_from,
            "passes": self._n_passes,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        centres = state["centres"]
        if centres is not None:
            self._centres = PointList(self._centres.points[: self._n_labelled])
            for point in centres["picked"]:
                self._centres.append(point[None])
            points = self._centres.points
            self._to_centres.centres = points[len(points) - centres["n_new"] :]
        self._candidates.load_state_dict(state["candidates"])
        self._exact_from, self._n_passes = state["exact_from"], state["passes"]
        self.max_passes = expected_passes(self._k, len(self._rows), self._n_passes)


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
