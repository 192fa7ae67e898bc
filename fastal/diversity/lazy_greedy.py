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

Worth = Callable[[Floats, NDArray[np.int64]], NDArray[Any]]
# How many rows are computed at first, and how many times as many if these do not decide.
_FIRST, _GROWTH = 16, 4
# Up to so many rows near to a pick are computed again at once. More are if it is their turn.
_MOST_NEAR = 64


class LazyGreedy:
    """The rows that are left to pick among, with upper bounds of their distances.

    Args:
        rows: [m] the row numbers.
        upper: [m] upper bounds of their distances to the nearest of the centres.
        x: [m, D] their embeddings.
        metric: the distance.
        are_exact: whether these are the distances, as before the first centre, where all are
            infinite.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        upper: Floats,
        x: Tensor,
        metric: Metric,
        *,
        are_exact: bool,
    ) -> None:
        self._rows = rows
        self._upper = upper.copy()
        self._is_exact = np.full(len(rows), are_exact)
        self._places = np.arange(len(rows))  # in x
        self._x = x
        self._metric = metric
        self._prepared = metric.prepared(x)

    def best(
        self, worth_of: Worth, centres: Doubles, bound: Place | None
    ) -> tuple[Place, int] | None:
        """The best row: where it stands, and its position here; None: no row is left.

        Args:
            worth_of: what rows are worth, from their distances [n] and their numbers [n]: never
                less if a distance is larger; -inf for rows that must not be picked.
            centres: [K, D] all points so far.
            bound: rows that are worth less are forgotten if they are many, if another row is best;
                None: no row.
        """
        if bound is not None:
            may_be_picked = worth_of(self._upper, self._rows) >= bound.worth
            if 0 < 2 * np.count_nonzero(may_be_picked) < len(self._rows):
                self._keep(may_be_picked)
        n_rows = _FIRST
        while True:
            worth = worth_of(self._upper, self._rows)
            best = worth.max(initial=-np.inf, where=self._is_exact)
            is_open = ~self._is_exact & (worth >= best) & (worth > -np.inf)
            places = np.flatnonzero(is_open)
            if not len(places):
                break
            if len(places) > n_rows:
                places = places[np.argpartition(worth[places], -n_rows)[-n_rows:]]
            n_rows *= _GROWTH
            points = self._metric.points(self._x[self._places[places]])
            self._upper[places] = self._metric.exact(points, centres)
            self._is_exact[places] = True
        if best == -np.inf:
            return None
        tied = np.flatnonzero(worth == best)
        at = tied[self._rows[tied].argmin()]
        return Place(float(best), int(self._rows[at])), int(at)

    def distance(self, at: int) -> float:
        """The distance of the row at a position that `best` returned."""
        return float(self._upper[at])

    def embedding(self, at: int) -> Tensor:
        """The embedding [1, D] of such a row."""
        place = self._places[at]
        return self._x[place : place + 1]

    def pick(self, at: int, centre: Doubles | None) -> None:
        """Takes such a row out, and makes it a centre: a point [1, D]; None: no other row cares."""
        self._upper[at] = -np.inf
        if centre is None:
            return
        lower, upper = self._metric.bounds(self._prepared, centre[0])
        near = np.flatnonzero(self._is_exact & (lower < self._upper))
        if len(near) > _MOST_NEAR:
            self._is_exact[near] = False
        elif len(near):
            points = self._metric.points(self._x[self._places[near]])
            upper[near] = self._metric.exact(points, centre)
        np.minimum(self._upper, upper, out=self._upper)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Leaves out all rows but these."""
        self._rows, self._upper = self._rows[kept], self._upper[kept]
        self._is_exact, self._places = self._is_exact[kept], self._places[kept]
        self._prepared = self._metric.selected(self._prepared, kept)
