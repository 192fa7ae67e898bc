"""Columns of a Dataset of Hugging Face as pools, and picks as datasets."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from datasets import Dataset
from numpy.typing import NDArray

import fastal

__all__ = ["open_dataset", "picked"]

_SMALL_BYTES = 1 << 20  # smaller parts of a column are copied into one
_ROWS = 1 << 10  # that are read at once to find a row that is not missing
_IDS = "integers or text"
_CARRIED = "integers, floats, bools or text"


def open_dataset(
    dataset: Any,
    column: str,
    *,
    id_column: str | None = None,
    carry: Sequence[str] | None = None,
    ragged: bool = False,
) -> Any:
    """Opens a column of a dataset as a pool, for `fastal.select` and every other strategy.

    Rows are numbered as in the dataset, also after `select`, `shuffle`, `filter` or `shard`. The
    format of the dataset (`with_format`) does not matter. Values are those that are stored: neither
    float16 nor float64 becomes float32. They are read in place if the parts of the column are at
    least 1 MiB large, else copied part by part. A dataset on disk stays there.

    Args:
        dataset: a `datasets.Dataset`.
        column: the predictions or embeddings: numbers, lists of numbers of one length, or
            lists of lists (`Array2D` and so on). Rows that are missing are invalid.
        id_column: integers or text. The picks then have ids.
        carry: columns that the picks carry: integers, floats, bools or text.
        ragged: each row is an item of several rows, a list of lists with a length of its own, such
            as the tokens of a sentence. See `aggregate` of `fastal.select`.

    Returns:
        A pool, see `fastal.open_pool`.

    Raises:
        TypeError: not a `Dataset`, such as a DatasetDict; or a column of another type.
        ValueError: there is no such column, or it has no values. While rows are read: lists of
            several lengths.

    Example:
        >>> from datasets import Dataset
        >>> import fastal
        >>> from fastal.adapters.datasets import open_dataset
        >>> dataset = Dataset.from_dict(
        ...     {"logits": [[9.0, 0.0], [0.1, 0.0], [0.0, 0.5]], "text": ["a", "b", "c"]}
        ... )
        >>> pool = open_dataset(dataset, "logits", carry=["text"])
        >>> fastal.select(pool, k=1)["text"].tolist()
        ['b']
    """
    if not isinstance(dataset, Dataset):
        held = ""
        if isinstance(dataset, dict):
            held = f"; wanted one of its splits: {', '.join(map(repr, dataset))}"
        raise TypeError(f"dataset: wanted a datasets.Dataset, got {type(dataset).__name__}{held}")
    if isinstance(carry, str):
        raise TypeError(f"carry: wanted a list of names, got {carry!r}")
    return _DatasetPool(dataset, column, id_column, tuple(carry or ()), ragged=bool(ragged))


def picked(dataset: Any, picks: fastal.Picks, score_column: str = "score") -> Any:
    """The picked rows of a dataset, best first, with their scores.

    Args:
        dataset: the `datasets.Dataset` whose rows were picked.
        picks: the picks.
        score_column: the name of the column of scores, float32.

    Returns:
        A `datasets.Dataset` with k rows, all columns of the dataset, and the scores.

    Raises:
        ValueError: the dataset has a column of this name, or not all of these rows.

    Example:
        >>> from datasets import Dataset
        >>> import fastal
        >>> from fastal.adapters.datasets import open_dataset, picked
        >>> dataset = Dataset.from_dict({"logits": [[9.0, 0.0], [0.1, 0.0], [0.0, 0.5]]})
        >>> picks = fastal.select(open_dataset(dataset, "logits"), k=2, by="ratio")
        >>> [round(score, 3) for score in picked(dataset, picks)["score"]]
        [0.905, 0.607]
    """
    rows, scores = picks["row"], picks["score"]
    if score_column in dataset.column_names:
        raise ValueError(f"score_column: the dataset has a column {score_column!r}; give another")
    if len(rows) and rows.max() >= len(dataset):
        raise ValueError(
            f"picks: row {rows.max()} is not in the dataset, which has {len(dataset):,} rows"
        )
    return dataset.select(rows.tolist()).add_column(score_column, scores)


class _DatasetPool:
    """A column of a dataset as a pool: the members of what `fastal.open_pool` returns."""

    in_place = False  # gathered rows are copied
    on_gpu = False
    beside = None

    def __init__(
        self,
        dataset: Any,
        column: str,
        id_column: str | None,
        carry: tuple[str, ...],
        *,
        ragged: bool,
    ) -> None:
        fastal.open_pool(np.empty((0, 1)), carry={name: [] for name in carry})  # checks the names
        self._column, self._id_column, self._carry, self._ragged = column, id_column, carry, ragged
        self.skipped: list[Any] = []
        self.n_rows = len(dataset)
        # Each column on its own: where rows are gathered, all columns of a dataset are copied.
        self._tables = {
            name: _as_tables(dataset, name, argument)
            for name, argument in [
                (column, "column"), (id_column, "id_column"), *((name, "carry") for name in carry)
            ]
            if name is not None
        }  # fmt: skip
        if id_column is not None:
            _check_labels(id_column, self._type(id_column), "id_column", _IDS)
        for name in carry:
            _check_labels(name, self._type(name), "carry", _CARRIED)
        values, self._depth = _values_of(column, self._type(column))
        if ragged and self._depth < 2:
            raise ValueError(
                f"ragged: wanted lists of lists, got {self._type(column)} in {column!r}"
            )
        self._shape = self._row_shape()
        self.row_bytes = max(1, math.prod(self._shape) * values.bit_width // 8)

    def chunks(self, rows: int, start: int = 0) -> Iterator[Any]:
        """The rows from `start` on, at most `rows` at once."""
        for first in range(start, max(1, self.n_rows), rows):
            table = self._tables[self._column][first : min(first + rows, self.n_rows)]
            for x in self._arrays(table.column(0)):
                # A pool of these rows alone has them in one chunk.
                (chunk,) = fastal.open_pool(x).chunks(max(1, len(x)))
                yield chunk._replace(start=first)
                first += len(x)

    def locate(self, row: int) -> str:  # noqa: ARG002
        """Empty: the row number says everything."""
        return ""

    def check(self, start: int, *, lost: bool) -> bool:
        """True; an OSError if a file of the dataset was cut short."""
        if lost:
            raise OSError(f"dataset: rows from {start} on vanished: was a file of it cut short?")
        return True

    def fingerprint(self) -> None:
        """None: a run cannot be resumed."""

    def ids(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """The ids of these rows."""
        return None if self._id_column is None else self._labels(self._id_column, rows)

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The carried columns of these rows."""
        return {name: self._labels(name, rows) for name in self._carry}

    def _type(self, name: str) -> pa.DataType:
        return self._tables[name][:0].schema.field(0).type

    def _row_shape(self) -> tuple[int, ...]:
        """The shape of the first row that is not missing; of an item, that of its rows."""
        for first in range(0, self.n_rows, _ROWS):
            rows = self._tables[self._column][first : first + _ROWS].column(0)
            for part in rows.chunks:
                shape = _first_shape(_stored(part))
                if shape is not None:
                    return shape[1:] if self._ragged else shape
        raise ValueError(
            f"column: wanted values in {self._column!r}, all rows of which are missing"
        )

    def _arrays(self, column: pa.ChunkedArray) -> Iterator[Any]:
        """The rows of a column, [n, ...] each, or items."""
        n_parts = max(1, column.num_chunks)
        if column.num_chunks != 1 and column.nbytes < _SMALL_BYTES * n_parts:
            parts = [column.combine_chunks()]
        else:
            parts = column.chunks
        for part in parts:
            stored = _stored(part)
            if not self._ragged:
                yield self._rows(stored, self._shape)
                continue
            lengths = pa.compute.list_value_length(stored).fill_null(0).to_numpy()
            yield fastal.items(self._rows(stored.flatten(), self._shape), lengths=lengths)

    def _rows(self, column: pa.Array, shape: tuple[int, ...]) -> NDArray[Any]:
        """The values [n, *shape] of a column of lists, nested or not; missing ones are NaN."""
        if not shape:
            values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
            return values
        lengths = pa.compute.list_value_length(column)
        present = lengths.is_valid().to_numpy(zero_copy_only=False)
        held = lengths.drop_null().to_numpy()
        if (held != shape[0]).any():
            hint = "; if each row is an item of several rows, give ragged=True"
            raise ValueError(
                f"column: lists of {shape[0]} and of {held[held != shape[0]][0]} values in "
                f"{self._column!r}{hint if self._depth > 1 and not self._ragged else ''}"
            )
        rows = self._rows(column.flatten(), shape[1:]).reshape(len(held), *shape)
        if present.all():
            return rows
        with_missing = np.full((len(column), *shape), np.nan, np.result_type(rows, np.float16))
        with_missing[present] = rows
        return with_missing

    def _labels(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A column of labels in these rows: of objects if one is missing or they are text."""
        are_consecutive = len(rows) and (np.diff(rows) == 1).all()
        where = slice(int(rows[0]), int(rows[-1]) + 1) if are_consecutive else rows.tolist()
        column = self._tables[name][where].column(0)
        if not column.null_count and not _is_text(column.type):
            return np.asarray(column.to_numpy())
        values = np.empty(len(column), object)
        values[:] = column.to_pylist()
        return values


def _as_tables(dataset: Any, name: str, argument: str) -> Any:
    """A column of a dataset, whose rows are then Arrow tables."""
    if name not in dataset.column_names:
        raise ValueError(
            f"{argument}: no column {name!r}; the dataset has {', '.join(dataset.column_names)}"
        )
    return dataset.select_columns([name]).with_format("arrow")


def _stored(column: pa.Array) -> pa.Array:
    """The lists of a column of `Array2D` and so on; other columns unchanged."""
    return getattr(column, "storage", column)


def _is_list(of: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of))


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of))


def _values_of(name: str, of: pa.DataType) -> tuple[pa.DataType, int]:
    """The type of the values in a column, and how many lists are around each of them."""
    found, depth = getattr(of, "storage_type", of), 0
    while _is_list(found):
        found, depth = found.value_type, depth + 1
    if not (pa.types.is_floating(found) or pa.types.is_integer(found)):
        raise TypeError(f"column: wanted numbers, or lists of numbers, got {of} in {name!r}")
    return found, depth


def _first_shape(column: pa.Array) -> tuple[int, ...] | None:
    """The shape of the first row of a column that is not missing; None: all are."""
    if not _is_list(column.type):
        return None if column.null_count == len(column) else ()
    for row in np.flatnonzero(column.is_valid()):
        inner = column.slice(row, 1).flatten()
        shape = _first_shape(inner)
        if shape is not None:
            return len(inner), *shape
    return None


def _check_labels(name: str, of: pa.DataType, argument: str, wanted: str) -> None:
    types = pa.types
    is_fit = types.is_integer(of) or _is_text(of)
    if argument == "carry":
        is_fit = is_fit or types.is_floating(of) or types.is_boolean(of)
    if not is_fit:
        raise TypeError(
            f"{argument}: wanted {wanted}, got {of} in {name!r}; cast it to one of these"
        )
