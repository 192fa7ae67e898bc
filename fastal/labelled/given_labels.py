"""The classes that the rows of a pool were labelled with."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import is_array
from fastal.base.errors import prefixing_errors
from fastal.base.groups import as_groups
from fastal.base.row_numbers import RowNumbers
from fastal.pipeline.given_groups import check_has_groups, labels_of_rows
from fastal.sources import Source
from fastal.sources.beside import check_in_order
from fastal.sources.grouped import Grouped
from fastal.sources.label_files import CLASS_COLUMNS, read_labels
from fastal.sources.labels import as_column

UNLABELLED = -1
_INTEGER = re.compile("-?[0-9]+").fullmatch


class WrongLabel(ValueError):  # noqa: N818  (a finding about an argument)
    """A label is no class of the rows, or contradicts its row.

    It is about an argument, so the pipeline does not add the file and row of the pool.
    """


def with_labels(pool: Source, labels: Any) -> Source:
    """A pool whose rows have labels, in the chunks' groups.

    Args:
        pool: the pool.
        labels: [N] integers, or None for a row without a label, as an array or a list; or a
            .parquet, .csv or .npy file with a column `label`, `cluster` or `group` (the first of
            these that it has). The rows of a file are matched by id if file and pool have ids, else
            by row number. An empty field of a .csv file is None. None in place of all labels: the
            pool's own groups.

    Raises:
        TypeError: labels are neither integers nor None; the message begins with `labels`.
        ValueError: there is not one label for each row.
        OSError: the file cannot be read.
    """
    if labels is None:
        check_has_groups(pool, "labels")
        return pool
    if isinstance(labels, (str, os.PathLike)):
        with prefixing_errors("labels"):
            column = _read(pool, Path(labels))
        return Grouped(pool, _checked(column), f"labels: {labels}")
    if not (is_array(labels) or isinstance(labels, (list, tuple))):
        raise TypeError(f"labels: wanted an array, a list or a file, got {type(labels).__name__}")
    check_in_order(pool, "labels")
    with prefixing_errors("labels"):
        column = as_column(labels)
    return Grouped(pool, _checked(column), "labels")


def classes_of(labels: Any, numbers: RowNumbers, n_classes: int) -> NDArray[np.int64]:
    """The labels of the rows of a chunk as classes, [n] int64; `UNLABELLED` for None.

    Args:
        labels: [n] integers or None; or `Groups`.
        numbers: the row numbers of the chunk.
        n_classes: how many classes there are.

    Raises:
        WrongLabel: a label is not an integer from 0 to `n_classes` - 1, and not None.
        ValueError, TypeError: there are no labels, not n of them, or they are floats.
    """
    if labels is None:
        raise WrongLabel("labels: wanted a label or None for each row, got None")
    codes, values = as_groups(labels, len(numbers), "labels")
    classes = np.full(len(values), UNLABELLED, np.int64)
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


def values_of_labels(x: Tensor, places: NDArray[np.int64], labels: NDArray[np.int64]) -> Tensor:
    """The value that each of some rows has for its label.

    Args:
        x: [N, C] rows.
        places: [n] int64, the rows.
        labels: [n] int64, their labels, from 0 to C - 1.

    Returns:
        [n], with the dtype and device of `x`.
    """
    return x[torch.from_numpy(places).to(x.device), torch.from_numpy(labels).to(x.device)]


def _read(pool: Source, path: Path) -> NDArray[Any]:
    table = read_labels(path, CLASS_COLUMNS)
    column = labels_of_rows(pool, table, path, "labels")
    if path.suffix != ".csv" or column.dtype != object:
        return column
    values = [int(text) if _INTEGER(text) else text or None for text in column.tolist()]
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _checked(column: NDArray[Any]) -> NDArray[Any]:
    wanted = "wanted an integer from 0 to the number of classes - 1, or None for no label"
    if column.ndim != 1 or column.dtype.kind not in "iuO":
        # Tables turn integers into floats where one is missing.
        hint = "; in a list, None may be among integers" if column.dtype.kind == "f" else ""
        raise TypeError(
            f"labels: {wanted}, one for each row; got {column.dtype}, shape {column.shape}{hint}"
        )
    if column.dtype == object:
        for row, label in enumerate(column.tolist()):
            if label is not None and type(label) is not int:
                raise TypeError(f"labels: row {row} has label {label!r}; {wanted}")
    return column
