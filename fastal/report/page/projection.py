"""Embeddings along their first two principal components."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.checks import check_matrix
from fastal.sources.chosen_rows import ChosenRows
from fastal.sources.source import Source

_SAMPLE = 2000  # rows that stand for the pool
_CHUNK_BYTES = 32 << 20
_LARGEST = 1e140  # the sum of the squares of a sample of such values is finite


@dataclass(frozen=True)
class Projection:
    """Rows of a pool in two dimensions.

    Attributes:
        sample: [m, 2], rows that were drawn at random.
        of_picks: [k, 2], the rows of all picks; NaN if the row is not finite or not marked.
        shares: the share of the sample's variance along each axis.
        n_rows: the number of rows of the pool.
    """

    sample: NDArray[np.float64]
    of_picks: NDArray[np.float64]
    shares: tuple[float, float]
    n_rows: int


def projected(embeddings: Source, rows: NDArray[np.int64], marked: NDArray[np.int64]) -> Projection:
    """Projects a random sample of a pool, and the marked picks. Other rows are not read.

    The components are those of the sample. The picks are projected chunk by chunk.

    Args:
        embeddings: [N, D].
        rows: [k], the row numbers of all picks.
        marked: [m], the places among the picks of those to project.

    Raises:
        ValueError: a row is picked that the pool does not have; the rows have another shape; fewer
            than two of the sample are finite; a value is beyond 1e140; or the number of rows is not
            known.
    """
    n_rows = embeddings.n_rows
    if n_rows is None:
        raise ValueError("wanted files or an array: the number of rows must be known")
    if len(rows) and rows.max() >= n_rows:
        raise ValueError(f"row {rows.max()} is picked, and the embeddings have {n_rows:,} rows")
    drawn = np.random.default_rng(0).choice(n_rows, min(n_rows, _SAMPLE), replace=False)
    sample = np.concatenate([*_read(embeddings, np.sort(drawn))])
    sample = sample[np.isfinite(sample).all(1)]
    if len(sample) < 2:
        raise ValueError(f"wanted two or more finite rows, got {len(sample)}")
    with np.errstate(over="ignore", invalid="ignore"):  # of values that are then refused
        mean = sample.mean(0)
        centred = sample - mean
    largest = np.abs(centred).max()
    if not largest < _LARGEST:
        raise ValueError(f"wanted values below {_LARGEST:g}, got some that differ by {largest:g}")
    directions, shares = _components(centred)
    of_picks = np.full((len(rows), 2), np.nan)
    if len(marked):
        wanted, places = np.unique(rows[marked], return_inverse=True)
        with np.errstate(over="ignore", invalid="ignore"):  # of rows that are not finite
            parts = [(x - mean) @ directions for x in _read(embeddings, wanted)]
        of_picks[marked] = np.concatenate(parts)[places]
    return Projection(centred @ directions, of_picks, shares, n_rows)


def _read(source: Source, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """These rows, in parts [n, D]; the row numbers ascend."""
    n_read = 0
    row_bytes = source.row_bytes or 1
    for chunk in ChosenRows(source, rows).chunks(max(1, _CHUNK_BYTES // row_bytes)):
        x = as_tensor(chunk.x, "embeddings")
        check_matrix(x, "embeddings", "dimensions")
        n_read += x.shape[0]
        yield x.double().cpu().numpy()
    if n_read != len(rows):
        raise ValueError(f"wanted {len(rows)} rows, could read {n_read}")


def _components(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The first two principal components [D, 2] of rows [n, D], and their shares of the variance.

    The largest coefficient of a component is positive, which fixes its sign.
    """
    n, dims = centred.shape
    total = float((centred**2).sum())
    if n < dims:  # the smaller of the two matrices with the same eigenvalues
        values, vectors = np.linalg.eigh(centred @ centred.T)
        directions = centred.T @ vectors[:, ::-1][:, :2]
        lengths = np.linalg.norm(directions, axis=0)
        directions /= np.where(lengths > 0, lengths, 1)
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        directions = vectors[:, ::-1][:, :2]
    if directions.shape[1] < 2:
        directions = np.column_stack([directions, np.zeros(dims)])
        values = np.array([0.0, *values])
    largest = np.abs(directions).argmax(0)
    signs = np.where(directions[largest, [0, 1]] < 0, -1.0, 1.0)
    first, second = (max(0.0, float(v)) / total if total else 0.0 for v in values[::-1][:2])
    return directions * signs, (first, second)
