"""Rows whose labels are known, and how a run splits them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.checks import checked_number
from fastal.simulation.fingerprint import digest
from fastal.sources.labels import as_column


@dataclass(frozen=True)
class Split:
    """The rows of one run.

    Attributes:
        x: the rows of the pool, whose labels the strategies buy.
        y: their labels.
        test_x: the rows that the model is scored on.
        test_y: their labels.
        initial: int64, the rows of the pool that are labelled from the start.
    """

    x: Any
    y: Any
    test_x: Any
    test_y: Any
    initial: NDArray[np.int64]


@dataclass(frozen=True)
class KnownData:
    """All rows with their labels, and which of them are held out.

    Attributes:
        x: the rows: an array, a table or a list.
        y: their labels, likewise.
        test: the share of the rows that is held out, or the test data (x, y).
        initial: how many rows are labelled from the start.

    Raises:
        ValueError, TypeError: the rows and labels do not fit, or there are too few of them.
    """

    x: Any
    y: Any
    test: Any
    initial: int

    def __post_init__(self) -> None:
        _check_pairs("x", self.x, "y", self.y)
        if self._has_own_test:
            _check_pairs("test[0]", self.test[0], "test[1]", self.test[1])
        elif isinstance(self.test, (tuple, list)):
            raise ValueError(f"test: wanted a share or (x, y), got {len(self.test)} values")
        elif not 0 < checked_number("test", self.test) < 1:
            raise ValueError(f"test: wanted a share above 0 and below 1, got {self.test}")

    @property
    def n_test(self) -> int:
        """How many rows of x are held out."""
        return 0 if self._has_own_test else max(1, round(self.test * n_rows(self.x)))

    def check_enough(self, wanted: int) -> None:
        """ValueError unless the pool has as many rows as a run labels."""
        n_pool = n_rows(self.x) - self.n_test
        if wanted > n_pool:
            held_out = f" after {self.n_test:,} are held out" if self.n_test else ""
            raise ValueError(
                f"rounds: initial + rounds * batch = {wanted:,} rows to label, but the pool has "
                f"{n_pool:,}{held_out}"
            )

    def split(self, seed: int) -> Split:
        """The rows of a run. Rows of the pool and of the test data keep their order."""
        order = np.random.default_rng(seed).permutation(n_rows(self.x))
        n_test = self.n_test
        pool = np.sort(order[n_test:])
        initial = np.searchsorted(pool, order[n_test : n_test + self.initial])
        if self._has_own_test:
            test_x, test_y = self.test
            return Split(self.x, self.y, test_x, test_y, initial)
        test = np.sort(order[:n_test])
        return Split(
            rows_of(self.x, pool), rows_of(self.y, pool), rows_of(self.x, test),
            rows_of(self.y, test), initial,
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """The data as a checkpoint identifies it; TypeError if it has no digest."""
        test = self.test
        if self._has_own_test:
            test = [digest(f"test[{i}]", part) for i, part in enumerate(test)]
        x, y = digest("x", self.x), digest("y", self.y)
        return {"x": x, "y": y, "test": test, "initial": self.initial}

    @property
    def _has_own_test(self) -> bool:
        return isinstance(self.test, (tuple, list)) and len(self.test) == 2


def n_rows(values: Any) -> int:
    """The number of rows of an array, a table or a list."""
    shape = getattr(values, "shape", None)  # sparse matrices have no length
    return len(values) if shape is None else int(shape[0])


def rows_of(values: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of an array, a table or a list, in the order given, as a copy."""
    if isinstance(values, (list, tuple)):
        return [values[row] for row in rows.tolist()]
    return values.iloc[rows] if hasattr(values, "iloc") else values[rows]


def class_numbers(name: str, y: Any) -> NDArray[np.int64]:
    """Labels as class numbers [N]; ValueError if they are anything else."""
    column = as_column(y)
    if column.ndim != 1 or column.dtype.kind not in "iub":
        raise ValueError(
            f"{name}: wanted class numbers [N] from 0 on for the metric accuracy, got "
            f"{column.dtype} of shape {column.shape}; np.unique(y, return_inverse=True)[1] makes "
            "such numbers of labels"
        )
    numbers = column.astype(np.int64)
    if len(numbers) and numbers.min() < 0:
        raise ValueError(f"{name}: wanted class numbers from 0 on, got {numbers.min()}")
    return numbers


def _check_pairs(x_name: str, x: Any, y_name: str, y: Any) -> None:
    for name, values in ((x_name, x), (y_name, y)):
        if isinstance(values, (str, bytes)) or not (
            hasattr(values, "shape") or hasattr(values, "__len__")
        ):
            got = type(values).__name__
            raise TypeError(f"{name}: wanted an array, a table or a list of rows, got {got}")
    if n_rows(x) != n_rows(y):
        raise ValueError(
            f"{y_name}: wanted a label for each of {n_rows(x):,} rows of {x_name}, got "
            f"{n_rows(y):,}"
        )
    if not n_rows(x):
        raise ValueError(f"{x_name}: wanted at least one row, got none")
