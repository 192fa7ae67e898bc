"""Formats whose files hold arrays that can be sliced: what they have in common."""

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
from fastal.sources.reader import Columns, naming, watched

_log = logging.getLogger("fastal")
# NumPy has no such type: the bits, and a mark that travels with them.
BFLOAT16 = np.dtype("<u2", metadata={"stands for": "bfloat16"})
_TAKEN_ROWS = 1 << 16  # of a column, read in one go where single rows would each be as slow
_MOST_BYTES = 1 << 27  # read in one go, whatever the blocks are; two of these are held at a time
_LEAST_LABEL_BYTES = 64


class LazyArrays(Mapping[str, Any]):
    """Arrays that are made when they are asked for: a broken one does no harm to the others."""

    def __init__(self, arrays: Mapping[str, Callable[[], Any]]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Any:
        return self._arrays[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class ArrayFile(ABC):
    """A file of arrays by name, open only while it is read: pools have many files.

    Raises:
        FileNotFoundError: no such file.
        TypeError: the dtype is not numeric; pickled objects are never loaded.
        ValueError: not a file of the format, cut short, or without the arrays asked for.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        self.file = file
        self._columns = columns
        with naming(file), self._arrays() as arrays:
            name = self._name(arrays)
            self.names: tuple[str, ...] | None = (name,) if name else ()
            matrix = arrays[name]
            if not len(matrix.shape):
                raise ValueError(f"{file}: wanted [rows, ...], got a single number")
            self.n_rows, *shape = map(int, matrix.shape)
            self.row_shape: tuple[int, ...] | None = tuple(shape)
            self._check(matrix)
            as_tensor(_as_rows(matrix[:0]), str(file))
            self.dtype = matrix.dtype
            self.in_place = _is_in_place(matrix)
            self.row_bytes = math.prod(shape) * matrix.dtype.itemsize
            if not _step(matrix, 1, self.row_bytes)[0]:
                _log.warning(
                    "%s: a row crosses many large chunks, so each is read several times, which is "
                    "slow; store chunks of fewer rows and all columns, or use fastal convert once",
                    file,
                )
            self.kinds: dict[str, str | None] = {}
            for name in columns.beside:
                if tuple(arrays[_held(arrays, name, file)].shape) != (self.n_rows,):
                    raise ValueError(
                        f"{file}: {name!r} has shape {tuple(arrays[name].shape)}, wanted one value "
                        f"for each of {self.n_rows} rows"
                    )
                self._check(arrays[name])
                if self.n_rows:  # without rows, libraries choose a dtype
                    self.kinds[name] = labels.kind_of_array(
                        f"{file}: {name!r}", arrays[name].dtype, are_groups=name != columns.ids
                    )

    @abstractmethod
    def _arrays(self) -> AbstractContextManager[Mapping[str, Any]]:
        """The arrays of the file, each with a shape, a dtype and slices."""

    def _check(self, array: Any) -> None:  # noqa: B027 (most formats have nothing to check)
        """ValueError where a part of it is not stored, which would be made up when it is read."""

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with ExitStack() as stack:
            stack.enter_context(naming(self.file))
            arrays = stack.enter_context(self._arrays())
            matrix = self._matrix(arrays)
            found = (*map(int, matrix.shape), matrix.dtype)
            if found != (self.n_rows, *(self.row_shape or ()), self.dtype):
                raise ValueError(f"{self.file}: changed while it was being read")
            groups = None if self._columns.groups is None else arrays[self._columns.groups]
            fetch = stack.enter_context(ReadAhead.of(matrix))
            for part in self._parts(matrix, groups, rows, start):
                fetch(part)
                x = _as_rows(matrix[part])
                of_rows = (
                    None if groups is None else self._labels(self._columns.groups, groups[part])
                )
                for first in range(0, max(1, len(x)), rows):
                    few = slice(first, first + rows)
                    yield part.start + first, x[few], None if of_rows is None else of_rows[few]

    def _parts(self, matrix: Any, groups: Any, rows: int, start: int) -> Iterator[slice]:
        """The rows to read in one go: whole blocks of what is stored in blocks, each read once.

        Where rows of blocks are too large for that, less of them: each is then read several times.
        """
        row_bytes = self.row_bytes + (0 if groups is None else _label_bytes(groups))
        block, step = (1, rows) if self.in_place else _step(matrix, rows, row_bytes)
        while True:
            stop = min(start - start % max(1, block) + step, self.n_rows)
            yield slice(start, stop)
            if stop >= self.n_rows:
                return
            start = stop

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`."""
        with naming(self.file), self._arrays() as arrays:
            values = arrays[name]
            if isinstance(values, torch.Tensor):  # whose unsigned integers cannot all be picked
                values = values.numpy()
            if isinstance(values, np.ndarray):  # mapped, as it may be
                with watched(values, name) as stands:
                    found = self._labels(name, values[rows])
                    stands()
                    return found
            _, step = _step(values, _TAKEN_ROWS, _label_bytes(values))
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
        return arrays[self._name(arrays)]

    def _name(self, arrays: Mapping[str, Any]) -> str:
        """The name of the array of rows: the one that was asked for, or the only one of vectors."""
        if len(self._columns.matrix) > 1:
            raise ValueError(
                f"{self.file}: columns: a {self.file.suffix} file has arrays, name one"
            )
        if self._columns.matrix:
            return _held(arrays, self._columns.matrix[0], self.file)
        names = [name for name in arrays if name not in self._columns.beside]
        if len(names) > 1:  # the one of vectors
            names = [name for name in names if _is_of_vectors(arrays, name)]
        if len(names) != 1:
            held = ", ".join(arrays) or "no array"
            raise ValueError(f"{self.file}: column: wanted the name of one array; it holds {held}")
        return names[0]


def _is_of_vectors(arrays: Mapping[str, Any], name: str) -> bool:
    try:
        return len(arrays[name].shape) > 1
    except TypeError:  # Python objects, which are never loaded
        return False


def _held(arrays: Mapping[str, Any], name: str, file: Location) -> str:
    """The name of an array; ValueError where there is none of it."""
    if name not in arrays:
        held = ", ".join(filter(None, arrays)) or "no array with a name"
        raise ValueError(f"{file}: no array {name!r}; it holds {held}")
    return name


def _step(array: Any, rows: int, row_bytes: int) -> tuple[int, int]:
    """Rows of a block of an array, and rows to read in one go: whole blocks, at least `rows`.

    A block is a shard, or a chunk if rows of shards are too large. If rows of chunks are as well,
    a block has no rows, and as many are read as memory is meant for: chunks are read repeatedly.
    """
    most = max(1, _MOST_BYTES // max(1, row_bytes))
    stored = filter(None, (getattr(array, name, None) for name in ("shards", "chunks")))
    blocks = [max(1, min(shape[0], array.shape[0])) for shape in stored] or [1]
    block = next((n for n in blocks if n <= most), 0)
    return block, min(max(block, rows - rows % block), most) if block else most


def _label_bytes(labels: Any) -> int:
    """What a label counts for: text that is fixed in length grows when it is decoded."""
    return max(_LEAST_LABEL_BYTES, 4 * int(labels.dtype.itemsize))


def _is_in_place(matrix: Any) -> bool:
    """Whether its slices can be computed with where they are."""
    is_mapped = isinstance(matrix, np.ndarray) and matrix.flags.aligned and matrix.dtype.isnative
    return is_mapped or isinstance(matrix, torch.Tensor)


def _as_rows(x: Any) -> Any:
    """A slice of a matrix as what it stands for."""
    if isinstance(x, np.ndarray) and (x.dtype.metadata or {}) == BFLOAT16.metadata:
        with watched(x, "pool") as stands:  # mapped, as it may be: unaligned, it is copied
            bits = as_tensor(x, "pool")
            stands()
        return bits.view(torch.bfloat16)
    if isinstance(x, torch.Tensor) and x.dtype != torch.bfloat16:
        return x.numpy()  # files give NumPy arrays, but of what NumPy lacks
    return x
