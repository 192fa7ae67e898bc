"""Cosine similarity of embeddings to centroids: of arrays in memory, and as a measure."""

import hashlib
import logging
from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal import ops
from fastal.base.arrays import as_tensor, memory_of
from fastal.base.blank_rows import Blank
from fastal.base.checks import check_dtype, check_matrix
from fastal.base.memory_guard import guarded
from fastal.ops.reference import unit_rows
from fastal.pipeline.drive import gathered
from fastal.scoring.measure import Measure
from fastal.scoring.scorer import Op, Scorer
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import Source

_log = logging.getLogger("fastal")
_ROUNDING = 2.0**-23  # twice what rounding to float32 can do to a length


class Nearest(NamedTuple):
    """The most similar centroid of each row, ties to the lowest.

    Attributes:
        cluster: [N] int64, the centroid's number; -1 for invalid rows.
        similarity: [N] float32, the cosine similarity to it, in [-1, 1]; NaN for invalid rows.
    """

    cluster: Any
    similarity: Any


def nearest_centroid(
    x: Any,
    centroids: Any,
    *,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
) -> Nearest:
    """The most similar centroid of each row by cosine similarity, from one read of the rows.

    Rows and centroids are normalised here, without a copy of the rows. Similarities are off by at
    most (D + 8) 2^-24, whatever the rows' lengths (on a GPU twice that, and for bfloat16 2^-17
    more); of centroids more alike than that, either may be taken for the nearest. A row or a
    centroid of zeros has similarity 0 to all.

    Args:
        x: [N, D] embeddings; float16, bfloat16, float32 or float64; any strides, any device; torch,
            NumPy or another DLPack producer.
        centroids: [K, D] array, K >= 1, finite, of any length.
        fast: allows a GPU products of lower precision: TF32 of float32 rows, centroids rounded to
            the rows' dtype where that has 16 bits.
        on_invalid: "raise", or "skip" to give rows that are not finite NaN, and log their count.
        backend: "auto", "triton" or "torch"; see `fastal.backend_reasons`.

    Returns:
        Nearest, of arrays of the kind of `x`.

    Raises:
        InvalidRows: with on_invalid="raise", naming the first rows that are not finite.
        ValueError, TypeError: a bad argument, named.
    """
    of = CentroidDistance(centroids, fast=fast)

    def nearest(x: Tensor, backend: str) -> tuple[list[Tensor], int]:
        cluster, similarity = of.nearest(x, backend)
        return [similarity, cluster], int(similarity.isnan().sum())

    similarity, cluster = _scored(of, x, nearest, ScoringOptions(on_invalid, backend))
    return Nearest(cluster, similarity)


def similarities(
    x: Any,
    centroids: Any,
    *,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
) -> Any:
    """The cosine similarity of each row to every centroid, where these are few.

    Args:
        x: [N, D], as for `nearest_centroid`.
        centroids: [K, D], as for `nearest_centroid`.
        fast: as for `nearest_centroid`.
        on_invalid: as for `nearest_centroid`.
        backend: as for `nearest_centroid`.

    Returns:
        [N, K] float32 in [-1, 1], an array of the kind of `x`.

    Raises:
        InvalidRows, ValueError, TypeError: as `nearest_centroid`.
    """
    of = CentroidDistance(centroids, fast=fast)

    def similarities(x: Tensor, backend: str) -> tuple[list[Tensor], int]:
        found = of.similarities(x, backend)
        return [found], int(found[:, 0].isnan().sum())

    (found,) = _scored(of, x, similarities, ScoringOptions(on_invalid, backend))
    return found


class EmbeddingMeasure(Measure):
    """A measure of embeddings [n, D].

    Attributes:
        width: D; None: any number, the same for all rows.
    """

    kind = "embeddings"
    invalid = "has NaN or an infinite value"
    offers: tuple[str, ...] = ("triton", "torch")
    width: int | None = None

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x is [n, width]."""
        check_matrix(x, self.kind, self.columns, width=self.width)

    def scores(self, x: Tensor, backend: str, start: int) -> tuple[list[Tensor], int]:  # noqa: ARG002
        """The score of each row, [n] float32, NaN for rows that are not finite."""
        scores = self.score(x, backend)
        return [scores], int(scores.isnan().sum())

    @abstractmethod
    def score(self, x: Tensor, backend: str) -> Tensor:
        """The score of each row, [n] float32 where x is, NaN for rows that are not finite."""


class FiniteRows(EmbeddingMeasure):
    """Score 0 for every row that is finite: for reducers that only need valid rows."""

    def score(self, x: Tensor, backend: str) -> Tensor:  # noqa: ARG002
        """0 for every row that is finite."""
        least, most = x.aminmax(dim=1)
        return (0 * least + 0 * most).float()

    def identity(self) -> dict[str, Any]:
        """There are no arguments."""
        return {}


class CentroidDistance(EmbeddingMeasure):
    """The cosine distance of embeddings [n, D] to the nearest of K centroids.

    Args:
        centroids: [K, D] array, K >= 1, D >= 1, finite; of any length, or zeros.
        fast: as for `nearest_centroid`.
        name: the argument they came in, for errors.

    Attributes:
        units: [K, D] float32 on the host, each of length 1, or zeros.
    """

    blank: Blank | None = Blank(1.0, 1.0, 0.0)

    def __init__(self, centroids: Any, *, fast: bool = False, name: str = "centroids") -> None:
        self.units = units_of(centroids, name)
        self.width = self.units.shape[1]
        self.fast = fast

    def nearest(self, x: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        """The nearest centroid of each row and the similarity to it; -1 and NaN if invalid."""
        return ops.nearest(x, self.units.to(x.device), self.fast, backend=backend)

    def similarities(self, x: Tensor, backend: str) -> Tensor:
        """The similarity of each row to every centroid, [n, K]; NaN if invalid."""
        return ops.similarities(x, self.units.to(x.device), self.fast, backend=backend)

    def score(self, x: Tensor, backend: str) -> Tensor:
        """The distance 1 - similarity to the nearest centroid, from 0 to 2."""
        return 1 - self.nearest(x, backend)[1]

    def identity(self) -> dict[str, Any]:
        """The digest of the centroids, and `fast`."""
        return {"centroids": digest(self.units), "fast": self.fast}


def units_of(centroids: Any, name: str) -> Tensor:
    """Rows [K, D] scaled to length 1, float32 on the host; those of length 1 or 0 stay.

    Raises:
        ValueError, TypeError: as `checked_rows`.
    """
    rows = checked_rows(copied(centroids, name), name)
    # What was scaled before is not scaled again, which would move its last bits.
    off = (torch.linalg.vector_norm(rows.double(), dim=1, keepdim=True) - 1).abs()
    return torch.where(off <= _ROUNDING, rows, unit_rows(rows)).float()


def rows_of(pool: Source, name: str) -> Tensor:
    """All rows of a pool that is small enough for memory, [L, D], on the host."""
    parts = gathered(pool, lambda x: as_tensor(x, name).cpu().clone())
    return torch.cat([part for _, part in parts])


def copied(x: Any, name: str) -> Tensor:
    """An array as a tensor on the host that is its own.

    Raises:
        TypeError: it is no array; the message names `name`.
        OSError: it is mapped, and its file was cut short.
    """
    with guarded(memory_of(x, name)) as guard:
        copy = as_tensor(x, name).to("cpu", copy=True)
    if guard.broken:
        raise OSError(f"{name}: the rows vanished: a mapped file that was cut short?")
    return copy


def checked_rows(rows: Tensor, name: str) -> Tensor:
    """The rows [K, D] of a tensor on the host.

    Raises:
        ValueError, TypeError: no such rows; the message names `name`, and a row that is not finite.
    """
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"{name}: wanted [rows, columns], got shape {tuple(rows.shape)}")
    check_dtype(rows, name)
    broken = (~rows.isfinite().all(1)).nonzero()[:, 0]
    if len(broken):
        raise ValueError(f"{name}: row {int(broken[0])} has NaN or an infinite value")
    return rows


def digest(x: Tensor) -> str:
    """What tells a matrix on the host from others."""
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()[:32]


def _scored(of: CentroidDistance, x: Any, op: Op, options: ScoringOptions) -> list[Any]:
    """The tensors that an op computes from an array, as arrays of its kind."""
    scorer = Scorer(of, options)
    found = scorer.score(x, op)
    if scorer.invalid:
        _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, len(found[0]))
    return [scorer.to_caller_kind(column) for column in found]
