"""Core-sets: rows so chosen that none of the pool is far from all of them."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastal.base.arrays import converter_for, is_array
from fastal.base.errors import check_another, check_same, prefixing_errors, restoring
from fastal.diversity.centroids import checked_rows, copied, rows_of
from fastal.diversity.distance import Distance
from fastal.diversity.row_values import RowValues
from fastal.pipeline.drive import run_resumable
from fastal.scoring.measure import Blank
from fastal.scoring.scorer import Confirm, Scorer, watching
from fastal.selection.pick_warnings import warn_of
from fastal.selection.picks import Picks
from fastal.selection.topk import checked_count
from fastal.sources import PathLike, open_pool
from fastal.sources.files import in_order_of
from fastal.uncertainty import chunk_bytes_for, with_ids


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
        labelled = in_order_of(pool, labelled)
    reducer = CoreSet(
        k, labelled=labelled, metric=metric, fast=fast, on_invalid=on_invalid, backend=backend
    )
    source = open_pool(pool)
    arguments = {**reducer.arguments(), "on_invalid": on_invalid, "backend": backend}
    picks: Picks = run_resumable(
        reducer, source, arguments, chunk_bytes=chunk_bytes or chunk_bytes_for(pool),
        checkpoint=checkpoint, resume=resume, finish=lambda picks: with_ids(picks, source),
    )  # fmt: skip
    warn_of(picks, reducer, source)
    return picks


class _Farthest(NamedTuple):
    """The row farthest from all centres so far, and what it holds, [D] float64 on the host."""

    distance: float
    row: int
    embedding: Tensor

    def beats(self, other: "_Farthest | None") -> bool:
        return other is None or (self.distance, -self.row) > (other.distance, -other.row)


class CoreSet:
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
        self._k = checked_count("k", k)
        self._to_centres = Distance(metric, _labelled_rows(labelled), fast=fast)
        self._scorer = Scorer(self._to_centres, on_invalid=on_invalid, backend=backend)
        # To the nearest centre so far; -inf for rows that are picked or invalid.
        self._distance = RowValues(math.inf, torch.float32)
        self._farthest: _Farthest | None = None
        self._rows: list[int] = []
        self._scores: list[float] = []
        self._to_caller_kind = converter_for(np.empty(0))

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... of this pass; see `Selector.update`.

        Raises:
            InvalidRows: with on_invalid="raise".
            ValueError, TypeError: the chunk is no such array, or its width has changed.
        """
        rows = self._scorer.checked(chunk, start)
        (distance,), _ = self._scorer.scores(rows)
        held = self._distance.of(rows.start, rows.start + len(rows.x), distance.device)
        is_invalid = distance.isnan()
        n_invalid = int(
            (is_invalid & (held > -math.inf)).count_nonzero()
        )  # not those of earlier passes
        nearest = torch.minimum(held, distance.masked_fill(is_invalid, -math.inf))
        farthest = self._farthest_of(rows.x, rows.start, nearest)
        self._scorer.count(rows, n_invalid, lambda: distance, confirm)
        held.copy_(nearest)
        self._farthest = farthest
        self._to_caller_kind = converter_for(chunk)

    def _farthest_of(self, x: Tensor, start: int, distance: Tensor) -> _Farthest | None:
        """The farthest row so far, or of these, if that is farther."""
        if not len(x):
            return self._farthest
        place = int(distance.argmax())  # the first of equals
        embedding = x[place].to("cpu", torch.float64, copy=True)
        found = _Farthest(float(distance[place]), start + place, embedding)
        is_farther = found.distance > -math.inf and found.beats(self._farthest)
        return found if is_farther else self._farthest

    def next_pass(self) -> bool:
        """Picks the farthest row; whether another pass is to find one more."""
        if self._farthest is None:
            return False
        self._scores.append(self._farthest.distance)
        self._rows.append(self._farthest.row)
        self._distance.trim()
        self._distance.values[self._farthest.row] = -math.inf
        self._to_centres.centres = self._farthest.embedding[None]
        self._farthest = None
        self._scorer.next_row = 0
        return len(self._rows) < self._k

    def merge(self, other: "CoreSet") -> None:
        """Takes in a reducer with the same arguments and picks that saw other rows of this pass.

        Raises:
            ValueError, TypeError: no such reducer.
        """
        check_another(CoreSet, self, other)
        check_same({**self.arguments(), "picks": self._rows},
                   {**other.arguments(), "picks": other._rows}, "merge: the other")  # fmt: skip
        self._scorer.merge(other._scorer)
        theirs = other._distance.values
        held = self._distance.of(0, len(theirs))
        torch.minimum(held, theirs.to(held.device), out=held)
        if other._farthest is not None and other._farthest.beats(self._farthest):
            self._farthest = other._farthest

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays: 4 bytes a row of the pool."""
        centre, far = self._to_centres.centres, self._farthest
        return {
            "arguments": self.arguments(),
            "scorer": self._scorer.state_dict(),
            "rows": list(self._rows),
            "scores": list(self._scores),
            "distance": self._distance.values.cpu().numpy().copy(),
            "centre": centre.numpy() if self._rows and centre is not None else None,
            "farthest": None if far is None else [far.distance, far.row, far.embedding.numpy()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores exactly what `state_dict` gave.

        Raises:
            ValueError: the state is of other arguments, or no such state.
        """
        with restoring():
            check_same(self.arguments(), state["arguments"], "the state")
            rows, scores, distance, centre, farthest = (
                state[name] for name in ("rows", "scores", "distance", "centre", "farthest")
            )
            self._scorer.load_state_dict(state["scorer"])
        self._rows, self._scores = list(rows), list(scores)
        self._distance.load(torch.from_numpy(distance.copy()))
        if centre is not None:
            self._to_centres.centres = torch.from_numpy(centre)
        self._farthest = None
        if farthest is not None:
            distance, row, embedding = farthest
            self._farthest = _Farthest(distance, row, torch.from_numpy(embedding))

    def result(self) -> Picks:
        """The picks so far, as arrays of the kind of the last chunk, else NumPy."""
        scores = list(self._scores)
        if scores and self._to_centres.began_from is None:  # the first was the farthest from none
            scores[0] = scores[1] if len(scores) > 1 else 0.0
        n_out = int((self._distance.values == -math.inf).sum())
        return Picks(
            self._to_caller_kind(torch.tensor(self._rows, dtype=torch.int64, device="cpu")),
            self._to_caller_kind(torch.tensor(scores, dtype=torch.float32, device="cpu")),
            invalid=n_out - len(self._rows),
        )

    def arguments(self) -> dict[str, Any]:
        """What a state is bound to, as plain values."""
        return {"strategy": "k_center", "k": self._k, **self._to_centres.arguments()}

    @property
    def bar(self) -> float | None:
        """The distance of the last pick."""
        return self._scores[-1] if self._scores else None

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing."""
        return self._scorer.blank

    @property
    def backend_used(self) -> str | None:
        """The backend that looked at the last chunk."""
        return self._scorer.backend_used


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
