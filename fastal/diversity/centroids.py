"""Cosine similarity of embeddings to centroids: of arrays in memory, and as a measure."""

import hashlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal import ops
from fastal.base.arrays import as_tensor, converter_for, memory_of
from fastal.ops.reference import unit_rows
from fastal.pipeline.drive import gathered
from fastal.scoring.measure import Blank
from fastal.scoring.scorer import Chunk, Confirm, Scorer, check_dtype, watching
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
    found = _of_array(of, x, of.nearest, on_invalid, backend)
    return Nearest(*map(converter_for(x), found))


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
    (found,) = _of_array(of, x, lambda *rows: (of.similarities(*rows),), on_invalid, backend)
    return converter_for(x)(found)


class FiniteRows:
    """Rows whose direction is what counts; of those that are finite, none is worth more."""

    kind = "embeddings"
    invalid = "has NaN or an infinite value"
    offers: tuple[str, ...] = ("triton", "torch")
    width: int | None = None

    def scores(self, x: Tensor, backend: str) -> Tensor:  # noqa: ARG002
        """0 for every row that is finite."""
        least, most = x.aminmax(dim=1)
        return (0 * least + 0 * most).float()

    def arguments(self) -> dict[str, Any]:
        """There are none."""
        return {}


class CentroidDistance(FiniteRows):
    """Centroids [K, D] of length 1; as a measure, the distance 1 - similarity to the nearest.

    Args:
        centroids: [K, D] array, K >= 1, D >= 1, finite; of any length, or zeros.
        fast: as for `nearest_centroid`.
        name: the argument they came in, for errors.

    Attributes:
        units: [K, D] float32 on the host, each of length 1, or zeros.
    """

    def __init__(self, centroids: Any, *, fast: bool = False, name: str = "centroids") -> None:
        self.units = units_of(centroids, name)
        self.width = self.units.shape[1]
        self.fast = fast
        self.blank = Blank(1.0, 1.0, 0.0)

    def nearest(self, x: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        """`fastal.ops.reference.nearest` by a backend that `fastal.ops.choose` gave."""
        return ops.nearest(x, self.units.to(x.device), self.fast, backend=backend)

    def similarities(self, x: Tensor, backend: str) -> Tensor:
        """`fastal.ops.reference.similarities` by such a backend."""
        return ops.similarities(x, self.units.to(x.device), self.fast, backend=backend)

    def assigned(
        self, rows: Chunk, scorer: Scorer, confirm: Confirm | None
    ) -> tuple[Tensor, Tensor]:
        """What `nearest` gives for rows that a scorer has checked, which then counts them."""
        cluster, similarity = self.nearest(rows.x, rows.backend)
        scorer.count(rows, int(similarity.isnan().sum()), lambda: similarity, confirm)
        return cluster, similarity

    def scores(self, x: Tensor, backend: str) -> Tensor:
        """The distance to the nearest centroid, from 0 to 2: larger = farther from all."""
        return 1 - self.nearest(x, backend)[1]

    def arguments(self) -> dict[str, Any]:
        """The centroids' digest, and `fast`."""
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
    with ops.guarded(memory_of(x, name)) as guard:
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


@watching
def _of_array(
    of: CentroidDistance,
    x: Any,
    op: Callable[[Tensor, str], tuple[Tensor, ...]],
    on_invalid: str,
    backend: str,
    *,
    confirm: Confirm | None = None,
) -> tuple[Tensor, ...]:
    """What an op, which gives NaN for invalid rows in its last tensor, gives for an array."""
    scorer = Scorer(of, on_invalid=on_invalid, backend=backend)
    rows = scorer.checked(x, 0)
    found = op(rows.x, rows.backend)
    of_rows = found[-1] if found[-1].ndim == 1 else found[-1][:, 0]
    scorer.count(rows, int(of_rows.isnan().sum()), lambda: of_rows, confirm)
    if scorer.invalid:
        _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, len(rows.x))
    return found
