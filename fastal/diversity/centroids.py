"""Cosine similarity of embeddings to centroids, for arrays in memory and as a measure."""

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fastal import ops
from fastal.base.arrays import as_tensor
from fastal.base.blank_rows import Blank
from fastal.base.checks import check_dtype, check_matrix
from fastal.base.errors import WrongWidth
from fastal.base.memory_guard import guarded_arrays
from fastal.ops.reference import in_row_threads, unit_rows
from fastal.pipeline.drive import gathered
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scorer import Op, Scorer
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import Source

_log = logging.getLogger("fastal")
_ROUNDING = 2.0**-23  # twice the most that rounding to float32 changes a length of 1
_BLOCK = 1 << 18  # numbers that a thread checks at once


def similarities(
    x: Any,
    centroids: Any,
    *,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
) -> Any:
    """The cosine similarity of each row to every centroid, for few centroids.

    The error and the other arguments are those of `nearest_centroid`.

    Args:
        x: [N, D] embeddings.
        centroids: [K, D] array, K >= 1, finite.
        fast: allow less exact products on a GPU.
        on_invalid: "raise", or "skip" to give NaN to rows that are not finite, and log their count.
        backend: "auto", "triton", "native" or "torch".

    Returns:
        [N, K] float32 in [-1, 1], an array of the kind of `x`.

    Raises:
        InvalidRows, ValueError, TypeError: as `nearest_centroid`.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[2, 0], [3, 4]], np.float32)
        >>> diversity.similarities(x, np.eye(2)).round(3)
        array([[1. , 0. ],
               [0.6, 0.8]], dtype=float32)
    """
    measure = CentroidDistance(centroids, fast=fast)

    def similarities(rows: Rows) -> tuple[list[Tensor], int]:
        found = measure.similarities(rows)
        return [found], int(found[:, 0].isnan().sum())

    (found,) = scored_array(measure, x, similarities, ScoringOptions(on_invalid, backend))
    return found


class EmbeddingMeasure(Measure):
    """A measure of embeddings [n, D].

    Attributes:
        width: D; None: any D, which is the same for all rows.
        width_of: the name of the argument whose rows have this width, for messages.
    """

    kind = "embeddings"
    invalid = "has NaN or an infinite value"
    offers: tuple[str, ...] = ("triton", "native", "torch")
    width: int | None = None
    width_of: str = "centroids"

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x is [n, width]."""
        check_matrix(x, self.kind, self.columns)
        if self.width not in (None, x.shape[1]):
            raise WrongWidth(self.width_of, self.width, x.shape[1], self.kind)

    def choose(self, x: Tensor, backend: str) -> str:
        """The backend; only torch computes float64."""
        return ops.choose(backend, x, ("torch",) if x.dtype == torch.float64 else self.offers)

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The score of each row, [n] float32, NaN for rows that are not finite."""
        scores = self.score(rows)
        return [scores], int(scores.isnan().sum())

    @abstractmethod
    def score(self, rows: Rows) -> Tensor:
        """The score of each row, [n] float32 on the device of x; NaN for rows not finite."""


class FiniteRows(EmbeddingMeasure):
    """Scores every finite row 0, for reducers that only need to know which rows are valid."""

    def score(self, rows: Rows) -> Tensor:
        """0 for finite rows, NaN for others."""
        x = rows.x
        score_n = torch.empty(len(x), dtype=torch.float32, device=x.device)

        def work(claimed: Iterator[slice]) -> None:
            for block in claimed:
                least, most = x[block].aminmax(dim=1)
                score_n[block] = 0 * least + 0 * most

        in_row_threads(work, x, max(1, _BLOCK // x.shape[1]))
        return score_n

    def identity(self) -> dict[str, Any]:
        """Empty: there are no arguments."""
        return {}


class CentroidDistance(EmbeddingMeasure):
    """A measure: the cosine distance of embeddings [n, D] to the nearest of K centroids.

    The distance is 1 - similarity, [n] float32 from 0 to 2. Larger means farther, which is more
    worth labelling. `fastal.select` and `fastal.Selector` take the measure as `by`.

    Args:
        centroids: [K, D] array, K >= 1, D >= 1, finite; its rows have any length, or are zeros.
        fast: as for `nearest_centroid`.
        name: the name of the argument that the centroids came from, for error messages.

    Attributes:
        units: [K, D] float32 tensor on the host, each row of length 1, or zeros.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Example:
        >>> import fastal, numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[1, 0], [-1, -1], [3, 4]], np.float32)
        >>> picks = fastal.select(x, k=2, by=diversity.CentroidDistance(np.eye(2)))
        >>> picks.rows, picks.scores.round(3)
        (array([1, 2]), array([1.707, 0.2  ], dtype=float32))
    """

    blank: Blank | None = Blank(1.0, 1.0, 0.0)

    def __init__(self, centroids: Any, *, fast: bool = False, name: str = "centroids") -> None:
        self.units = units_of(centroids, name)
        self.width = self.units.shape[1]
        self.width_of = name
        self.fast = fast

    def nearest(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The nearest centroid of each row, and its similarity.

        They are -1 and NaN for invalid rows, and for rows that a filter passes over.
        """
        units = self.units.to(rows.x.device)
        cluster, similarity = ops.nearest(rows.x, units, self.fast, backend=rows.backend)
        return rows.without_left_out(cluster, -1), rows.without_left_out(similarity)

    def similarities(self, rows: Rows) -> Tensor:
        """The similarity of each row to every centroid, [n, K]; NaN for invalid rows."""
        return ops.similarities(
            rows.x, self.units.to(rows.x.device), self.fast, backend=rows.backend
        )

    def score(self, rows: Rows) -> Tensor:
        """The distance 1 - similarity to the nearest centroid, from 0 to 2."""
        return 1 - self.nearest(rows)[1]

    def identity(self) -> dict[str, Any]:
        """The digest of the centroids, and `fast`."""
        return {"centroids": self._digest, "fast": self.fast}

    @cached_property
    def _digest(self) -> str:
        return digest(self.units)


def units_of(centroids: Any, name: str) -> Tensor:
    """Rows [K, D] scaled to length 1, float32 on the host; rows of length 1 or 0 stay as they are.

    Raises:
        ValueError, TypeError: as `checked_rows`.
    """
    rows = checked_rows(copied(centroids, name), name)
    # Rows of length 1 are not scaled again, since that would change their last bits.
    off = (torch.linalg.vector_norm(rows.double(), dim=1, keepdim=True) - 1).abs()
    return torch.where(off <= _ROUNDING, rows, unit_rows(rows)).float()


def rows_of(pool: Source, name: str) -> Tensor:
    """All rows [L, D] of a pool that fits into memory, on the host."""
    parts = gathered(pool, lambda x: as_tensor(x, name).cpu().clone())
    return torch.cat([part for _, part in parts])


def copied(x: Any, name: str) -> Tensor:
    """A copy of an array, as a tensor on the host.

    Raises:
        TypeError: `x` is not an array; the message starts with `name`.
        OSError: `x` is a mapped file that was cut short.
    """
    with guarded_arrays(x) as guards:
        copy = as_tensor(x, name).to("cpu", copy=True)
        guards.check(name)
    return copy


def checked_rows(rows: Tensor, name: str) -> Tensor:
    """The given tensor on the host, if it has finite rows [K, D].

    Raises:
        ValueError, TypeError: the shape or dtype is wrong, or a row is not finite; the message
            starts with `name`.
    """
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"{name}: wanted [rows, columns], got shape {tuple(rows.shape)}")
    check_dtype(rows, name)
    broken = (~rows.isfinite().all(1)).nonzero()[:, 0]
    if len(broken):
        raise ValueError(f"{name}: row {int(broken[0])} has NaN or an infinite value")
    return rows


def digest(x: Tensor) -> str:
    """A hash that identifies a matrix on the host."""
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()[:32]


def scored_array(measure: CentroidDistance, x: Any, op: Op, options: ScoringOptions) -> list[Any]:
    """What an op computes from an array [N, D], see `Scorer.score`, as arrays of its kind."""
    scorer = Scorer(measure, options)
    found = scorer.score(x, op)
    if scorer.invalid:
        _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, len(found[0]))
    return [scorer.to_caller_kind(column) for column in found]
