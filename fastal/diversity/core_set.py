"""Core-sets: rows so chosen that none of the pool is far from all of them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastal.base.arrays import is_array
from fastal.base.checks import check_same, checked_count
from fastal.base.errors import prefixing_errors
from fastal.base.reducer import Pending
from fastal.diversity.centroids import checked_rows, copied, rows_of
from fastal.diversity.distance import Distance
from fastal.diversity.row_values import RowValues
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.picks import Picks
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
) -> Picks:
    """Greedy k-centre: each pick is the row farthest from all that are labelled or picked.

    The pool is read once a pick, and one float32 a row is kept. With "euclidean", no row is left
    farther away than twice as far as the best choice of k rows would leave one.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes, but of iterables only those
            that can be gone through again and again, such as lists of arrays.
        k: how many rows to pick, at least 1; k >= N picks every valid row.
        labelled: [L, D], what is labelled already: an array or any such pool, which has to fit
            into memory. None, or no rows: the first pick is the valid row of the lowest number.
        metric: "cosine", 1 - cosine similarity, from 0 to 2, off by at most (D + 8) 2^-24: a row of
            zeros is at distance 1 from all. "euclidean", off by at most (D + 8) 2^-24 of itself.
        fast: as for `nearest_centroid`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite, and count them.
        backend: as for `nearest_centroid`; "euclidean" is computed by "torch".
        chunk_bytes: how much of the pool to look at in one go; None: as suits.
        checkpoint: as for `fastal.select`; what it saves has 4 bytes a row.
        resume: as for `fastal.select`.

    Returns:
        Picks in the order they were made. Scores are distances to the nearest row labelled or
        picked before, larger = farther; they never increase. The first pick, where nothing was
        labelled, has the score of the second, or 0. Ties go to the lower row number. Duplicates of
        rows picked are at distance 0, or near it by rounding, and come last.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach
    (ICLR 2018), algorithm 1; Gonzalez (1985).
    """
    with prefixing_errors("labelled"):
        labelled = in_column_order_of(pool, labelled)
    reducer = CoreSet(
        k, labelled=labelled, metric=metric, fast=fast, on_invalid=on_invalid, backend=backend
    )
    return pick_from_pool(reducer, pool, RunOptions(chunk_bytes, checkpoint, resume))


class CoreSet(ScoringReducer[Picks]):
    """Greedy k-centre as a reducer of a pass a pick: see `k_center` for the arguments.

    Within a pass any chunks, in any order, and any number of merged reducers give the same pick.
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
    ) -> None:
        self._k = self.max_passes = checked_count("k", k)
        self._to_centres = Distance(metric, _labelled_rows(labelled), fast=fast)
        super().__init__(self._to_centres, ScoringOptions(on_invalid, backend))
        # To the nearest centre so far; -inf for rows that are picked or invalid.
        self._distance = RowValues(math.inf, torch.float32)
        self._farthest: Best | None = None  # from all centres, with its embedding, [D] float64
        self._rows: list[int] = []
        self._scores: list[float] = []

    def look(self, chunk: Any, start: int | None = None) -> Pending:
        """Finds the farthest row; see `Reducer.look`."""
        rows = self._scorer.prepare(chunk, start)
        (distance,), _ = self._scorer.scores(rows)
        held = self._distance.read(rows.start, rows.start + len(rows.x)).to(distance.device)
        is_invalid = distance.isnan()
        counted = held == -math.inf  # invalid rows were counted in the first pass
        n_invalid = int((is_invalid & ~counted).count_nonzero())
        nearest = torch.minimum(held, distance.masked_fill(is_invalid, -math.inf))
        found = _farthest_of(rows.x, rows.start, nearest)

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: distance)
            self._distance.write(rows.start, nearest)
            self._farthest = found.or_better(self._farthest) if found else self._farthest

        return Pending(commit)

    def next_pass(self) -> bool:
        """Picks the farthest row; whether another pass is to find one more."""
        if self._farthest is None:
            return False
        distance, row, embedding = self._farthest
        self._scores.append(distance)
        self._rows.append(row)
        self._distance.trim()
        self._distance.values[row] = -math.inf
        self._to_centres.centres = embedding[None]
        self._farthest = None
        self._scorer.next_row = 0
        return len(self._rows) < self._k

    def merge(self, other: "CoreSet") -> None:
        """Adds a reducer with the same arguments and picks that saw other rows of this pass.

        Raises:
            ValueError, TypeError: the other is no such reducer.
        """
        self._check_mergeable(other)
        check_same({"picks": self._rows}, {"picks": other._rows}, "merge: the other")
        self._scorer.merge(other._scorer)
        theirs = other._distance.values
        ours = self._distance.read(0, len(theirs))
        self._distance.write(0, torch.minimum(ours, theirs.to(ours.device)))
        if other._farthest is not None:
            self._farthest = other._farthest.or_better(self._farthest)

    def result(self) -> Picks:
        """The picks so far, as arrays of the kind of the last chunk, else NumPy."""
        scores = list(self._scores)
        if scores and self._to_centres.began_from is None:  # nothing is far from no centre
            scores[0] = scores[1] if len(scores) > 1 else 0.0
        to_caller_kind = self._scorer.to_caller_kind
        return Picks(
            to_caller_kind(torch.tensor(self._rows, dtype=torch.int64, device="cpu")),
            to_caller_kind(torch.tensor(scores, dtype=torch.float32, device="cpu")),
            invalid=self.invalid,
        )

    @property
    def invalid(self) -> int:
        """How many rows were left out as invalid."""
        return int((self._distance.values == -math.inf).sum()) - len(self._rows)

    @property
    def threshold(self) -> float | None:
        """The distance of the last pick; None before the first."""
        return self._scores[-1] if self._scores else None

    def identity(self) -> dict[str, Any]:
        """k, and what distances are measured from."""
        return {"strategy": "k_center", "k": self._k, **self._to_centres.identity()}

    def _state(self) -> dict[str, Any]:
        """The state: 4 bytes per row of the pool."""
        centre, far = self._to_centres.centres, self._farthest
        return {
            **super()._state(),
            "rows": list(self._rows),
            "scores": list(self._scores),
            "distance": self._distance.values.cpu().numpy().copy(),
            "centre": centre.numpy() if self._rows and centre is not None else None,
            "farthest": None if far is None else [far.score, far.row, far.payload.numpy()],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        rows, scores, distance, centre, farthest = (
            state[name] for name in ("rows", "scores", "distance", "centre", "farthest")
        )
        super()._restore(state)
        self._rows, self._scores = list(rows), list(scores)
        self._distance.load(torch.from_numpy(distance.copy()))
        if centre is not None:
            self._to_centres.centres = torch.from_numpy(centre)
        self._farthest = None
        if farthest is not None:
            distance, row, embedding = farthest
            self._farthest = Best(distance, row, torch.from_numpy(embedding))


def _farthest_of(x: Tensor, start: int, distance: Tensor) -> Best | None:
    """The row of a chunk that is farthest from all centres; None if all are invalid or picked."""
    if not len(x):
        return None
    place = int(distance.argmax())  # the first of equals
    if distance[place] == -math.inf:
        return None
    return Best(float(distance[place]), start + place, x[place].to("cpu", torch.float64, copy=True))


def _labelled_rows(labelled: Any) -> Tensor | None:
    """The labelled embeddings [L, D], float64 on the host; None where there are none."""
    if labelled is None:
        return None
    if is_array(labelled):
        rows = copied(labelled, "labelled")
    else:
        try:
            rows = rows_of(open_pool(labelled), "rows")
        except (TypeError, ValueError, RuntimeError) as error:  # the last of chunks that differ
            named = TypeError if isinstance(error, TypeError) else ValueError
            raise named(f"labelled: {error}") from error
    if rows.ndim == 2 and not len(rows):
        return None
    return checked_rows(rows, "labelled").double()
