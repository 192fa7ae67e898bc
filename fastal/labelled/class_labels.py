"""The labels of rows as numbers of classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.groups import as_groups
from fastal.base.row_numbers import RowNumbers

MISSING = -1


class WrongLabel(ValueError):  # noqa: N818  (a finding about an argument)
    """A label is no class of the rows, or contradicts its row.

    It is about an argument, so the pipeline does not add the file and row of the pool.
    """


def classes_of(labels: Any, numbers: RowNumbers, n_classes: int) -> NDArray[np.int64]:
    """The class of each row, [n] int64; `MISSING` for rows whose label is None.

    Args:
        labels: labels of n rows, as for `as_groups`.
        numbers: the numbers of these rows, for errors.
        n_classes: how many classes the rows have.

    Raises:
        WrongLabel: a label is not an integer from 0 to `n_classes` - 1, and not None.
        ValueError, TypeError: there are no labels, not n of them, or they are floats.
    """
    if labels is None:
        raise WrongLabel("labels: wanted a label for each row, got None")
    codes, values = as_groups(labels, len(numbers), "labels")
    classes = np.full(len(values), MISSING, np.int64)
    for code, value in enumerate(values):
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < n_classes:
            row = numbers.at(np.flatnonzero(codes == code)[:1])[0]
            raise WrongLabel(
                f"labels: row {row} has label {value!r}; wanted an integer from 0 to "
                f"{n_classes - 1}, as the rows have {n_classes} classes, or None for no label"
            )
        classes[code] = value
    found: NDArray[np.int64] = classes[codes]
    return found
