"""Picks rows one by one, each the best of those that are left, with few exact distances.

Distances to the nearest centre only fall as rows are picked. So an old distance, or a rough one, is
an upper bound, and only rows whose bounds reach the best exact one have to be computed.

Source: Minoux, Accelerated greedy algorithms for maximizing submodular set functions (1978).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.diversity.candidates import Place
from fastal.diversity.metrics import Doubles, Floats, Metric
from fastal.selection.ties import beat

Worth = Callable[[Floats, NDArray[np.int64]], NDArray[Any]]
# How many rows are computed at first, and how many times as many if these do not decide.
_FIRST, _GROWTH = 16, 4


class LazyGreedy:
    """The rows that are left to pick among, with upper bounds of their distances.

    Args:
        rows: [m] the row numbers.
        upper: [m] upper bounds of their distances to the nearest of the centres.
        x: [m, D] their embeddings.
        metric: the distance.
        n_centres: how many centres there are. If there are none, all distances are infinite.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        upper: Floats,
        x: Tensor,
        metric: Metric,
        n_centres: int,
    ) -> None:
        self._places = np.argsort(rows)  # in x
        self._rows, self._upper = rows[self._places], upper[self._places]
        self._x = x
        self._metric = metric
        self._prepared = metric.selected(metric.prepared(x), self._places)
        self._n_centres = n_centres
        # The distance to the nearest of the first `_seen` centres, exactly.
        self._exact = np.full(len(rows), np.inf, np.float32)
        self._seen = np.zeros(len(rows), np.int64)

    def best(
        self, worth_of: Worth, centres: Doubles, bound: Place | None
    ) -> tuple[Place, int] | None:
        """The best row: where it stands, and its position here; None: no row is left.

        Args:
            worth_of: what rows are worth, from their distances [n] and their numbers [n]: never
                less if a distance is larger; -inf for rows that must not be picked.
            centres: [K, D] all points so far.
            bound: a row that is no candidate; None: there is none. If most rows are worth less,
                these are forgotten: one of them could be best only after this row.
        """
        worth = worth_of(self._upper, self._rows)
        if bound is not None:
            may_be_picked = worth >= bound.worth
            if 0 < 2 * np.count_nonzero(may_be_picked) < len(self._rows):
                self._keep(may_be_picked)
                worth = worth[may_be_picked]
        n_rows = _FIRST
        while True:
            is_exact = self._seen == self._n_centres
            best, at = -np.inf, -1
            if is_exact.any():
                at = int(np.where(is_exact, worth, -np.inf).argmax())  # of equals, the lowest row
                best = worth[at]
            before = beat(worth, self._rows, best, self._rows[at] if at >= 0 else -1)
            places = np.flatnonzero(before & ~is_exact)
            if not len(places):
                break
            if len(places) > n_rows:
                places = places[np.argsort(-worth[places], kind="stable")[:n_rows]]
            n_rows *= _GROWTH
            self._compute(places, centres)
            worth[places] = worth_of(self._upper[places], self._rows[places])
        if best == -np.inf:
            return None
        return Place(float(best), int(self._rows[at])), at

    def distance(self, at: int) -> float:
        """The distance of the row at a position that `best` returned."""
        return float(self._upper[at])

    def embedding(self, at: int) -> Tensor:
        """The embedding [1, D] of such a row."""
        place = self._places[at]
        return self._x[place : place + 1]

    def pick(self, at: int, centre: Doubles | None) -> None:
        """Takes such a row out, and makes it a centre: a point [1, D].

        None: it equals a centre, so that no distance changes.
        """
        self._upper[at] = -np.inf
        if centre is None:
            return
        lower, upper = self._metric.bounds(self._prepared, centre[0])
        # The new centre cannot be the nearest of these.
        is_far = (self._seen == self._n_centres) & (lower >= self._exact)
        self._n_centres += 1
        self._seen[is_far] = self._n_centres
        np.minimum(self._upper, upper, out=self._upper)

    def _compute(self, places: NDArray[np.int64], centres: Doubles) -> None:
        """Computes the distances of these rows to all centres that they have not seen."""
        points = self._metric.points(self._x[self._places[places]])
        for is_new in (True, False):
            of = (self._seen[places] == 0) == is_new
            if of.any():
                unseen = centres[self._seen[places[of]].min() :]
                found = self._metric.exact(points[of], unseen)
                self._exact[places[of]] = np.minimum(self._exact[places[of]], found)
        self._seen[places] = self._n_centres
        self._upper[places] = self._exact[places]

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Leaves out all rows but these."""
        self._rows, self._places = self._rows[kept], self._places[kept]
        self._upper = self._upper[kept]
        self._exact, self._seen = self._exact[kept], self._seen[kept]
        self._prepared = self._metric.selected(self._prepared, kept)
