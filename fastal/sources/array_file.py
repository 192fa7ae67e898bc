"""What the formats share whose files hold arrays by name, of which slices can be read."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.sources import labels
from fastal.sources.location import Location
from fastal.sources.readahead import ReadAhead
from fastal.sources.reader import Columns, as_numpy, guarded_memory, naming_file_in_errors
from fastal.sources.text import first_names

_log = logging.getLogger("fastal")
# NumPy has no bfloat16: such arrays are read as their bits, with a mark in the dtype.
BFLOAT16 = np.dtype("<u2", metadata={"stands for": "bfloat16"})
_LABEL_ROWS = 1 << 16  # rows of labels per read, where reading a single row would be as slow
_MOST_BYTES = 1 << 27  # per read, however large the stored blocks are; two reads are in memory
_LEAST_LABEL_BYTES = 64


class LazyArrays(Mapping[str, Any]):
    """Arrays that are opened when they are asked for, so that a broken one spoils no other."""

    def __init__(self, arrays: Mapping[str, Callable[[], Any]]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Any:
        return self._arrays[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class ArrayFile(ABC):
    """A file of arrays by name; see `Reader`. A format defines `_arrays`.

    The file is open only while it is read, since a pool may have more files than a process may
    have open.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: the dtype is not numeric. Pickled objects are never loaded.
        ValueError: the file is not of the format, is cut short, or lacks an array to be read.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        self.file = file
        self._columns = columns
        with naming_file_in_errors(file), self._arrays() as arrays:
            name = self._matrix_name(arrays)
            self.names: tuple[str, ...] | None = (name,) if name else ()
            matrix = arrays[name]
            if not len(matrix.shape):
                raise ValueError(f"{file}: wanted [rows, ...], got a single number")
            self.n_rows, *shape = map(int, matrix.shape)
            self.row_shape: tuple[int, ...] | None = tuple(shape)
            self._check_stored(matrix)
            as_tensor(_as_rows(matrix[:0]), str(file))
            self.dtype = matrix.dtype
            self.in_place = _is_in_place(matrix)
            self.row_bytes = math.prod(shape) * matrix.dtype.itemsize
            if not _block_and_step(matrix, 1, self.row_bytes)[0]:
                _log.warning(
                    "%s: a row crosses many large chunks, so each chunk is read several times, "
                    "which is slow; store chunks of fewer rows and all columns, or use fastal "
                    "convert once",
                    file,
                )
            self.kinds: dict[str, str | None] = {}
            for name in columns.label_columns:
                if tuple(arrays[_existing(arrays, name, file)].shape) != (self.n_rows,):
                    raise ValueError(
                        f"{file}: {name!r} has shape {tuple(arrays[name].shape)}, wanted one value "
                        f"for each of {self.n_rows} rows"
                    )
                self._check_stored(arrays[name])
                if self.n_rows:  # the dtype of an array without rows is a library's choice
                    self.kinds[name] = labels.kind_of_array(
                        f"{file}: {name!r}", arrays[name].dtype, columns.purpose_of(name)
                    )

    @abstractmethod
    def _arrays(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Opens the file. Its arrays have a shape, a dtype and slices along the rows."""

    def _check_stored(self, array: Any) -> None:  # noqa: B027 (most formats store all of it)
        """ValueError if a part of an array is not stored: its library would make up values."""

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with ExitStack() as stack:
            stack.enter_context(naming_file_in_errors(self.file))
            arrays = stack.enter_context(self._arrays())
            matrix = self._matrix(arrays)
            found = (*map(int, matrix.shape), matrix.dtype)
            if found != (self.n_rows, *(self.row_shape or ()), self.dtype):
                raise ValueError(f"{self.file}: changed while it was being read")
            groups = None if self._columns.groups is None else arrays[self._columns.groups]
            fetch = stack.enter_context(ReadAhead.for_array(matrix))
            for part in self._reads(matrix, groups, rows, start):
                fetch(part)
                x = _as_rows(matrix[part])
                of_rows = (
                    None if groups is None else self._labels(self._columns.groups, groups[part])
                )
                for first in range(0, max(1, len(x)), rows):
                    few = slice(first, first + rows)
                    yield part.start + first, x[few], None if of_rows is None else of_rows[few]

    def _reads(self, matrix: Any, groups: Any, rows: int, start: int) -> Iterator[slice]:
        """The rows of each read: whole blocks of an array that is stored in blocks.

        So each block is read once. If the rows of a block are too many for one read, a read has
        fewer rows, and each block is read several times.
        """
        row_bytes = self.row_bytes + (0 if groups is None else _label_bytes(groups))
        block, step = (1, rows) if self.in_place else _block_and_step(matrix, rows, row_bytes)
        while True:
            stop = min(start - start % max(1, block) + step, self.n_rows)
            yield slice(start, stop)
            if stop >= self.n_rows:
                return
            start = stop

    def holds(self, name: str) -> bool:
        """Whether the file has an array of this name."""
        with naming_file_in_errors(self.file), self._arrays() as arrays:
            return name in arrays

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`."""
        with naming_file_in_errors(self.file), self._arrays() as arrays:
            values = arrays[name]
            if isinstance(values, torch.Tensor):  # torch cannot index all unsigned integers
                values = values.numpy()
            if isinstance(values, np.ndarray):  # perhaps a map
                with guarded_memory(values, name) as check_intact:
                    found = self._labels(name, values[rows])
                    check_intact()
                    return found
            _, step = _block_and_step(values, _LABEL_ROWS, _label_bytes(values))
            blocks = rows // step
            return np.concatenate(
                [
                    self._labels(name, values[block * step : (block + 1) * step])[
                        rows[blocks == block] - block * step
                    ]
                    for block in np.unique(blocks).tolist()
                ]
            )

    def _labels(self, name: str | None, stored: Any) -> NDArray[Any]:
        return labels.of_array(f"{self.file}: {name!r}", stored)

    def _matrix(self, arrays: Mapping[str, Any]) -> Any:
        return arrays[self._matrix_name(arrays)]

    def _matrix_name(self, arrays: Mapping[str, Any]) -> str:
        """The name of the predictions: the one asked for; else the only array, or only matrix."""
        if len(self._columns.matrix) > 1:
            raise ValueError(
                f"{self.file}: column: wanted one name, since a {self.file.suffix} file holds "
                f"arrays; got {', '.join(self._columns.matrix)}"
            )
        if self._columns.matrix:
            return _existing(arrays, self._columns.matrix[0], self.file)
        names = [name for name in arrays if name not in self._columns.label_columns]
        if len(names) > 1:
            names = [name for name in names if _is_of_vectors(arrays, name)]
        if len(names) != 1:
            held = first_names([*arrays]) or "no array"
            raise ValueError(f"{self.file}: column: wanted the name of one array; it holds {held}")
        return names[0]


def _is_of_vectors(arrays: Mapping[str, Any], name: str) -> bool:
    try:
        return len(arrays[name].shape) > 1
    except TypeError:  # Python objects, which are never loaded
        return False


def _existing(arrays: Mapping[str, Any], name: str, file: Location) -> str:
    """The name, if there is such an array; else a ValueError."""
    if name not in arrays:
        held = first_names([*filter(None, arrays)]) or "no array with a name"
        raise ValueError(f"{file}: no array {name!r}; it holds {held}")
    return name


def _block_and_step(array: Any, rows: int, row_bytes: int) -> tuple[int, int]:
    """Rows per block of an array, and rows per read: whole blocks, at least `rows` in all.

    A block is a shard, or a chunk if a shard is too large for one read. If a chunk is too large as
    well, the rows per block are 0 and a read is as large as reads may be; chunks are then read
    several times.
    """
    most = max(1, _MOST_BYTES // max(1, row_bytes))
    stored = filter(None, (getattr(array, name, None) for name in ("shards", "chunks")))
    blocks = [max(1, min(shape[0], array.shape[0])) for shape in stored] or [1]
    block = next((n for n in blocks if n <= most), 0)
    return block, min(max(block, rows - rows % block), most) if block else most


def _label_bytes(labels: Any) -> int:
    """The memory per label: text of fixed length takes four times as much once decoded."""
    return max(_LEAST_LABEL_BYTES, 4 * int(labels.dtype.itemsize))


def _is_in_place(matrix: Any) -> bool:
    """Whether slices of an array are views that can be computed with, not copies."""
    is_mapped = isinstance(matrix, np.ndarray) and matrix.flags.aligned and matrix.dtype.isnative
    return is_mapped or isinstance(matrix, torch.Tensor)


def _as_rows(x: Any) -> Any:
    """A slice of a matrix as NumPy array; as tensor if its numbers are bfloat16."""
    if isinstance(x, np.ndarray) and (x.dtype.metadata or {}) == BFLOAT16.metadata:
        with guarded_memory(x, "pool") as check_intact:  # a map that is unaligned is copied here
            bits = as_tensor(x, "pool")
            check_intact()
        return bits.view(torch.bfloat16)
    return as_numpy(x) if isinstance(x, torch.Tensor) else x
