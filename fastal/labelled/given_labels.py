"""The classes that the rows of a pool were labelled with."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import is_array
from fastal.base.errors import prefixing_errors
from fastal.base.groups import as_groups
from fastal.base.row_numbers import RowNumbers
from fastal.pipeline.given_groups import labels_of_rows
from fastal.sources import Source
from fastal.sources.beside import check_in_order
from fastal.sources.grouped import Grouped
from fastal.sources.label_files import CLASS_COLUMNS, read_labels
from fastal.sources.labels import as_column

UNLABELLED = -1
_INTEGER = re.compile("-?[0-9]+").fullmatch


def with_labels(pool: Source, labels: Any) -> Source:
    """A pool whose rows have labels, in the chunks' groups.

    Args:
        pool: the pool.
        labels: [N] integers, or None for a row without a label, as an array or a list; or a
            .parquet, .csv or .npy file with a column `label`, `cluster` or `group` (the first of
            these that it has). The rows of a file are matched by id if file and pool have ids, else
            by row number. An empty field of a .csv file is None.

    Raises:
        TypeError: labels are neither integers nor None; the message begins with `labels`.
        ValueError: there is not one label for each row.
        OSError: the file cannot be read.
    """
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
        TypeError: a label is neither an integer nor None.
        ValueError: there are not n labels, or one is no class.
    """
    if labels is None:
        raise ValueError("labels: wanted a label or None for each row, got None")
    codes, values = as_groups(labels, len(numbers), "labels")
    classes = np.full(len(values), UNLABELLED, np.int64)
    for code, value in enumerate(values):
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < n_classes:
            row = numbers.at(np.flatnonzero(codes == code)[:1])[0]
            raise (ValueError if type(value) is int else TypeError)(
                f"labels: wanted integers from 0 to {n_classes - 1}, or None for a row without a "
                f"label; row {row} has {value!r}"
            )
        classes[code] = value
    found: NDArray[np.int64] = classes[codes]
    return found


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
    wanted = "labels: wanted an integer for each row, or None for a row without a label, got "
    if column.ndim != 1 or column.dtype.kind not in "iuO":
        raise TypeError(f"{wanted}{column.dtype} of shape {column.shape}")
    if column.dtype == object:
        for row, label in enumerate(column.tolist()):
            if label is not None and type(label) is not int:
                raise TypeError(f"{wanted}{label!r} for row {row}")
    return column
