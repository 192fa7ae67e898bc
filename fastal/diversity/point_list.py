"""A list of points that grows."""

import numpy as np

from fastal.diversity.metrics import Doubles


class PointList:
    """Points [K, D] in one array, to which points are appended.

    Args:
        points: [K, D] float64, the first points.
    """

    def __init__(self, points: Doubles) -> None:
        self._room = points
        self._n = len(points)

    @property
    def points(self) -> Doubles:
        """All points [K, D], as a view."""
        return self._room[: self._n]

    def append(self, point: Doubles) -> None:
        """Adds a point [1, D]."""
        if self._n == len(self._room):
            more = np.empty((max(64, self._n), point.shape[1]))
            self._room = np.concatenate((self.points, more)) if self._n else more
        self._room[self._n] = point[0]
        self._n += 1
