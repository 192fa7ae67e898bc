"""The values by which rows are kept: given, in a file, or of a column that the pool carries."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.argument_values import KEEP, VALUE_SUFFIXES
from fastal.base.checks import check_choice
from fastal.base.errors import prefixing_errors
from fastal.diversity.keep_order import LISTS, NamedValues
from fastal.pipeline.given_groups import labels_of_rows
from fastal.sources import Source
from fastal.sources.label_files import LabelTable, read_values
from fastal.sources.labels import joined

# Of all carried columns together, since they are read together: texts may be long.
_BLOCK = 1 << 18


def values_of(pool: Source, keep: Any) -> Any:
    """What `KeepOrder` takes for the `keep` of a pool: values instead of the name of a column.

    Args:
        pool: the pool.
        keep: as for `deduplicate`.

    Raises:
        TypeError: the column or the file has other values than numbers.
        ValueError: `keep` is text and names nothing, or there is not one value for each row.
        OSError: the file cannot be read.
    """
    n_rows = pool.n_rows
    names = pool.carried(np.empty(0, np.int64))
    path = value_file(pool, keep)
    if path is not None:
        with prefixing_errors("keep"):
            table = _table(path)
            return NamedValues(labels_of_rows(pool, table, path, "keep"), str(path))
    if isinstance(keep, str) and keep not in KEEP:
        more = ", a column that the pool carries, or a .parquet, .csv or .npy file of values"
        check_choice("keep", keep, (*KEEP, *names), more)
        assert n_rows is not None  # of every pool that carries columns
        return NamedValues(_column(pool, keep, n_rows), f"the column {keep!r}")
    shape = [len(keep)] if isinstance(keep, LISTS) else getattr(keep, "shape", [])
    if n_rows is not None and len(shape) == 1 and shape[0] != n_rows:
        raise ValueError(
            f"keep: wanted a value for each of the {n_rows:,} rows of the pool, got {shape[0]:,}"
        )
    return keep


def value_file(pool: Source, keep: Any) -> Path | None:
    """The file of values that `keep` names; None if `keep` is anything else."""
    if isinstance(keep, str):
        names = (*KEEP, *pool.carried(np.empty(0, np.int64)))
        return Path(keep) if keep not in names and Path(keep).suffix in VALUE_SUFFIXES else None
    return Path(keep) if isinstance(keep, os.PathLike) else None


def _table(path: Path) -> LabelTable:
    """What a file of values holds. Errors of the system name `keep` too."""
    try:
        return read_values(path)
    except OSError as error:
        raise type(error)(f"keep: {error}") from error


def _column(pool: Source, name: str, n_rows: int) -> NDArray[Any]:
    """The values of a carried column, [N]."""
    parts = []
    for start in range(0, n_rows, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n_rows))
        values = pool.carried(rows)[name]
        if values.dtype.kind not in "biuf":
            first = next(place for place, v in enumerate(values) if not _is_number(v))
            raise TypeError(
                f"keep: row {rows[first]} has {values[first]!r} in the column {name!r}; wanted a "
                "number for each row"
            )
        parts.append(values)
    is_same = len({part.dtype for part in parts}) == 1
    return np.concatenate(parts) if is_same else joined(parts)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
