"""Which of several duplicates is kept: the order in which the rows of a cluster are compared."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.argument_values import KEEP
from fastal.base.arrays import as_tensor, is_array
from fastal.base.checks import check_choice, checked_seed
from fastal.base.memory_guard import guarded_arrays
from fastal.base.row_numbers import RowNumbers, row_numbers
from fastal.base.row_random import uniform
from fastal.sources.labels import as_integers

LISTS = (list, tuple, range)  # what may hold values, besides arrays


@dataclass(frozen=True)
class NamedValues:
    """Values [N] with the name of the file or column that they are from, for errors."""

    values: NDArray[Any]
    name: str


class MissingValue(ValueError):  # noqa: N818  (a finding about an argument and the pool)
    """A row of the pool has no value in `keep`.

    It is about an argument, so the pipeline does not add the file and row of the pool.
    """


class KeepOrder:
    """The order in which the rows of a cluster are compared with those before them.

    The first of several duplicates is therefore kept.

    Args:
        keep: one of `KEEP`; or values [N] or `NamedValues`, of which larger ones come first.
        seed: the seed of "random".

    Attributes:
        needs_similarity: whether the order depends on the similarity of rows to their centroid.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.
    """

    def __init__(self, keep: Any, seed: int) -> None:
        self._seed = checked_seed(seed)
        self._name, self._values = None, None
        self._where = ""  # for errors about values
        if isinstance(keep, NamedValues):
            keep, self._where = keep.values, f" in {keep.name}"
        if isinstance(keep, str):
            check_choice("keep", keep, KEEP, ", or a value for each row")
            self._name = keep
        else:
            self._values = _checked_values(keep)
        self.needs_similarity = self._name in ("nearest", "farthest")

    def check(self, numbers: RowNumbers, is_read: NDArray[np.bool_]) -> None:
        """MissingValue if a row of a chunk has none.

        Args:
            numbers: the rows of the chunk.
            is_read: [n], whether a row is compared; other rows may have NaN.
        """
        values = self._values
        if values is None:
            return
        if numbers.stop > len(values):
            raise MissingValue(
                f"keep: wanted a value for each row of the pool, got {len(values):,} values"
                f"{self._where} for at least {numbers.stop:,} rows"
            )
        rows = numbers.at(np.flatnonzero(is_read))
        missing = rows[np.isnan(values[rows])]
        if len(missing):
            raise MissingValue(
                f"keep: row {missing[0]} of the pool has the value NaN{self._where}; wanted a "
                "number"
            )

    def places(
        self, rows: NDArray[np.int64], similarity: NDArray[np.float32] | None
    ) -> NDArray[np.int64]:
        """The places of rows in the order in which they are compared, [m]; ties keep their order.

        Args:
            rows: [m] row numbers, ascending.
            similarity: [m], to their centroid; None unless `needs_similarity`.
        """
        if self._values is not None:
            return _descending(self._values[rows])
        if similarity is not None:
            return (_descending if self._name == "nearest" else _ascending)(similarity)
        if self._name == "random":
            return _ascending(uniform(self._seed, row_numbers(rows, len(rows))))
        return np.arange(len(rows))

    def identity(self) -> dict[str, Any]:
        """The name with the seed that it uses, or a digest of the values."""
        if self._values is not None:
            digest = hashlib.sha256(self._values.tobytes()).hexdigest()[:16]
            return {"keep": f"{len(self._values)} values, {digest}"}
        return {"keep": self._name, **({"seed": self._seed} if self._name == "random" else {})}


def _ascending(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.argsort(values, kind="stable")


def _descending(values: NDArray[Any]) -> NDArray[np.int64]:
    # From the end and back, so that ties keep their order. Some integers cannot be negated.
    return len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]


def _checked_values(keep: Any) -> NDArray[Any]:
    """A copy of the values [N], numbers or bools."""
    if not (is_array(keep) or isinstance(keep, LISTS)):
        raise TypeError(
            f"keep: wanted one of {', '.join(KEEP)}, or a value for each row, got "
            f"{type(keep).__name__}"
        )
    with guarded_arrays(keep) as guards:
        try:
            values = np.array(_as_numpy(keep))
        except ValueError as error:  # a list of lists of different lengths
            raise ValueError(f"keep: wanted a number for each row, [rows]: {error}") from error
        guards.check("keep")
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise TypeError(
            f"keep: wanted a number for each row, [rows], got {values.dtype} of shape "
            f"{values.shape}"
        )
    return values


def _as_numpy(keep: Any) -> Any:
    if not is_array(keep):
        integers = as_integers(keep)  # NumPy makes floats of integers that need uint64
        return keep if integers is None else integers
    if isinstance(keep, np.ma.MaskedArray):
        raise TypeError("keep: wanted a number for each row, got a masked array; fill it first")
    if isinstance(keep, np.ndarray):
        return keep
    values = as_tensor(keep, "keep").cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
