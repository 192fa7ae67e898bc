"""The two distances of core-sets: bounds that cost little, and values that are exact.

A distance is a float32 number that is a function of the row and the centre alone. No product of
matrices decides its bits: BLAS adds in an order that depends on the shapes. A product with a
derived bound of its error shows which rows and centres cannot matter. What is left is computed pair
by pair, in float64, in a fixed order.

u is 2^-24, the largest relative error of one float32 operation. A sum of D products of the
components of two unit rows has an error of at most D u, in any order.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal import ops
from fastal.ops import reference
from fastal.ops.reference import in_row_threads
from fastal.ops.reference.cosine import norm_is_accurate
from fastal.scoring.rows import Rows

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
_U = 2.0**-24
# On GPUs, fast products round both rows to TF32, 2^-11, or the centre to bfloat16, 2^-9.
_FAST_ERROR = 2.0**-8
_BLOCK_BYTES = 1 << 23  # of products, or of differences, at once


class Metric(ABC):
    """A distance between rows. Centres are points: float64 rows, prepared once by `points`."""

    @abstractmethod
    def points(self, x: Tensor) -> Doubles:
        """Rows [n, D] as points [n, D] float64. A row's point does not depend on other rows."""

    @abstractmethod
    def upper(self, rows: Rows, centres: Doubles, *, fast: bool) -> Tensor:
        """Upper bounds of the distances of rows of a pool to the nearest of some centres.

        Args:
            rows: n rows.
            centres: [K, D] points, K >= 1.
            fast: whether products may be less exact; the bounds are then wider.

        Returns:
            [n] float32 on the rows' device; NaN for rows that are not finite.
        """

    @abstractmethod
    def prepared(self, x: Tensor) -> Any:
        """What `bounds` needs of rows [m, D] on the host; `selected` takes some of them."""

    @abstractmethod
    def bounds(self, prepared: Any, centre: Doubles) -> tuple[Floats, Floats]:
        """Lower and upper bounds [m] of the distances of prepared rows to one centre [D]."""

    @abstractmethod
    def exact(self, points: Doubles, centres: Doubles) -> Floats:
        """The distances [n] of points [n, D] to the nearest of the centres [K, D], K >= 1."""

    def changes_others(self, distance: float) -> bool:  # noqa: ARG002
        """Whether a new centre at a distance from the nearest may be the nearest of another row."""
        return True

    def selected(self, prepared: Any, kept: NDArray[Any]) -> Any:
        """The prepared rows at these positions [n], or those that a mask [m] keeps."""
        return tuple(column[torch.from_numpy(kept)] for column in prepared)

    def _exact_in_blocks(self, points: Doubles, centres: Doubles) -> Floats:
        found = np.empty(len(points), np.float32)

        def work(blocks: Iterator[slice]) -> None:
            for block in blocks:
                low, high, open_pairs = self._interval(points[block], centres)
                found[block] = low
                for place in np.flatnonzero(low != high):
                    near = centres[open_pairs(place)]
                    row = block.start + place
                    found[row] = self._pairwise(points[row], near).min()

        n_rows = max(1, _BLOCK_BYTES // (8 * len(centres)))
        in_row_threads(work, torch.from_numpy(points), n_rows)
        return found

    @abstractmethod
    def _interval(self, points: Doubles, centres: Doubles) -> tuple[Floats, Floats, Any]:
        """The least and the largest float32 that the distance to the nearest centre may be.

        Also a function from the place of a point to a mask of the centres that may be nearest.
        """

    @abstractmethod
    def _pairwise(self, point: Doubles, centres: Doubles) -> Floats:
        """The distances [K] of one point to centres, added up in a fixed order."""


class Cosine(Metric):
    """1 - cosine similarity, from 0 to 2. A row of zeros has distance 1 to all rows.

    The similarity is rounded to float32, and then subtracted from 1.
    """

    def points(self, x: Tensor) -> Doubles:
        """Rows of length 1, or zeros."""
        found: Doubles = x.double().contiguous().numpy()
        largest = np.abs(found).max(1, keepdims=True, initial=0)
        found = found / np.maximum(largest, np.finfo(np.float64).smallest_normal)
        length = np.sqrt(np.add.reduce(found * found, axis=1, keepdims=True))
        found /= np.where(length == 0, 1, length)
        return found

    def upper(self, rows: Rows, centres: Doubles, *, fast: bool) -> Tensor:
        """See `Metric.upper`.

        After the similarity, 1 - similarity and the sum with the error are rounded, by 3 u, since
        they are at most 2 and 3. The distance itself is rounded, by u. See `similarity_error`.
        """
        x, backend = rows.x, rows.backend
        units = torch.from_numpy(centres).float().to(x.device)
        if len(units) == 1:
            found = ops.similarities(x, units, fast, backend=backend)[:, 0]
        else:
            found = ops.nearest(x, units, fast, backend=backend)[1]
        return (1 - found).add_(similarity_error(rows, fast=fast))

    def prepared(self, x: Tensor) -> tuple[Tensor]:
        """Rows of length 1, in float32: each component has an error of (D / 2 + 4) u."""
        rounded = x.float()
        length = torch.linalg.vector_norm(rounded, dim=1, keepdim=True)
        units = rounded / length
        inaccurate = ~norm_is_accurate(length[:, 0])
        if inaccurate.any():
            units[inaccurate] = torch.from_numpy(self.points(x[inaccurate])).float()
        return (units,)

    def bounds(self, prepared: Any, centre: Doubles) -> tuple[Floats, Floats]:
        """See `Metric.bounds`: D u of the product, (D / 2 + 4) u and u of the rows, as `upper`."""
        (units,) = prepared
        distance: Floats = (1 - torch.mv(units, torch.from_numpy(centre).float())).numpy()
        error = np.float32((2 * len(centre) + 16) * _U)
        return distance - error, distance + error

    def exact(self, points: Doubles, centres: Doubles) -> Floats:
        """See `Metric.exact`."""
        return self._exact_in_blocks(points, centres)

    def _interval(self, points: Doubles, centres: Doubles) -> tuple[Floats, Floats, Any]:
        similarity = _products(points, centres)
        largest = similarity.max(1)
        error = (points.shape[1] + 16) * 2.0**-52  # of both, this sum and that of `_pairwise`
        return (
            _distance(largest + error),
            _distance(largest - error),
            lambda place: similarity[place] >= largest[place] - 2 * error,
        )

    def _pairwise(self, point: Doubles, centres: Doubles) -> Floats:
        return _distance(np.add.reduce(point * centres, axis=1))


class Euclidean(Metric):
    """The Euclidean distance."""

    def points(self, x: Tensor) -> Doubles:
        """The rows, in float64."""
        found: Doubles = x.double().contiguous().numpy()
        return found

    def upper(self, rows: Rows, centres: Doubles, *, fast: bool) -> Tensor:  # noqa: ARG002
        """See `Metric.upper`."""
        return reference.euclidean_upper(rows.x, torch.from_numpy(centres).to(rows.x.device))

    def prepared(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rows in float64, and the squares of their lengths."""
        x = x.double()
        return x, x.square().sum(1)

    def bounds(self, prepared: Any, centre: Doubles) -> tuple[Floats, Floats]:
        """See `Metric.bounds` and `_squares`."""
        x, squares = prepared
        products = torch.mv(x, torch.from_numpy(centre)).numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            return _roots(squares.numpy(), float(centre @ centre), products, len(centre))

    def exact(self, points: Doubles, centres: Doubles) -> Floats:
        """See `Metric.exact`."""
        return self._exact_in_blocks(points, centres)

    def changes_others(self, distance: float) -> bool:
        """See `Metric.changes_others`: not if it equals a centre."""
        return distance > 0

    def _interval(self, points: Doubles, centres: Doubles) -> tuple[Floats, Floats, Any]:
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.add.reduce(points * points, axis=1)[:, None]
            of_centres = np.add.reduce(centres * centres, axis=1)
            low, high = _roots(squares, of_centres, _products(points, centres), points.shape[1])
        return low.min(1), high.min(1), lambda place: low[place] <= high[place].min()

    def _pairwise(self, point: Doubles, centres: Doubles) -> Floats:
        halves = point / 2 - centres / 2  # halves do not overflow
        tiny = np.finfo(np.float64).tiny
        largest = np.maximum(np.abs(halves).max(1, keepdims=True, initial=0), tiny)
        scaled = halves / largest
        with np.errstate(over="ignore"):  # distances beyond float32 are infinite
            distance = np.sqrt(np.add.reduce(scaled * scaled, axis=1)) * largest[:, 0] * 2
            found: Floats = distance.astype(np.float32)
        return found


def similarity_error(rows: Rows, *, fast: bool) -> float:
    """The largest error of `ops.similarities` and `ops.nearest`, with some roundings after them.

    It is (D + 8) u by their definition, u from centres rounded to float32, and up to 7 u besides.
    """
    is_fast = fast and rows.backend == "triton"
    return (rows.x.shape[1] + 16) * _U + (_FAST_ERROR if is_fast else 0)


METRICS: dict[str, type[Metric]] = {"cosine": Cosine, "euclidean": Euclidean}


def _products(points: Doubles, centres: Doubles) -> Doubles:
    found: Doubles = torch.mm(torch.from_numpy(points), torch.from_numpy(centres).t()).numpy()
    return found


def _distance(similarity: Doubles) -> Floats:
    found: Floats = np.float32(1) - similarity.clip(-1, 1).astype(np.float32)
    return found


def _roots(squares: Any, of_centres: Any, products: Doubles, width: int) -> tuple[Floats, Floats]:
    """Lower and upper bounds of distances, from squares of lengths and products.

    |x|^2 + |c|^2 - 2 x c has an error of at most (D + 4) 2^-52 (|x| + |c|)^2, and that is at most
    twice |x|^2 + |c|^2. If a square is beyond float64's range, the bounds are 0 and infinity.
    """
    both = squares + of_centres
    squared, error = both - 2 * products, (width + 8) * 2.0**-51 * both
    low = np.sqrt(np.maximum(squared - error, 0)) * (1 - 2.0**-50)
    high = np.sqrt(np.maximum(squared + error, 0)) * (1 + 2.0**-50)
    is_unknown = ~np.isfinite(high)
    low, high = np.where(is_unknown, 0, low), np.where(is_unknown, math.inf, high)
    return low.astype(np.float32), high.astype(np.float32)
