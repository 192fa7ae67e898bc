"""Files as one pool, one after the other, whatever their formats."""

import logging
import math
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.groups import Groups
from fastal.sources import labels
from fastal.sources.agreement import names_differ, with_same_names, with_same_shape
from fastal.sources.bad_files import BadFiles
from fastal.sources.closed_reader import ClosedReader
from fastal.sources.expand import PathLike, expand
from fastal.sources.formats import READERS, check_ragged, reader_for
from fastal.sources.location import ZARR, Location
from fastal.sources.prefetch import prefetched
from fastal.sources.reader import (
    ChecksumError,
    Columns,
    FileChangedError,
    Reader,
    naming_file_in_errors,
)
from fastal.sources.source import Chunk, Skipped, Source

_log = logging.getLogger("fastal")


class Files:
    """Files with rows of one shape as one pool; see `Source`.

    Rows are numbered across the files, in the order of the files' paths. A file that cannot be
    opened has no rows.

    Args:
        paths: files, folders, globs, manifests, URLs.
        columns: which columns to read of each file.
        on_bad_file: "raise" or "skip"; see `fastal.open_pool`.

    Raises:
        FileNotFoundError: one of the paths names nothing.
        ValueError: a file is named twice; or the files disagree, see `agreement`.
        TypeError, OSError: a file cannot be read.

    Attributes:
        columns: the argument, completed by the columns that a manifest names.
        files: a reader for each file that is read.
        starts: the number of each file's first row, then the number of rows of the pool.
        names: the array or the columns that are read, in the order of the first file with names;
            empty if no file has names.
        named_in_order: whether the paths were given in path order.
        beside: a pool of the same rows, see `open_pool`; None: there is none.
    """

    beside: Source | None = None

    def __init__(
        self,
        paths: Sequence[PathLike],
        columns: Columns = Columns(),  # noqa: B008 (a tuple)
        on_bad_file: str = "raise",
    ) -> None:
        self._bad = BadFiles(on_bad_file)
        self.files: Sequence[Reader]
        self._paths = paths
        found, misplaced = expand(paths, READERS)
        self.columns = columns._replace(
            ids=columns.ids or found.id_column, groups=columns.groups or found.group_column
        )
        self._named = found
        _check_unique(found.files)
        self._stamps: dict[str, list[Any]] = {}  # by `Location.key`
        # Tables may have thousands of columns: equal tuples of their names are held once.
        self._same_names: dict[Any, Any] = {}
        readers = [self._open(*pair) for pair in zip(found.files, found.rows, strict=True)]
        opened = [reader for reader in readers if reader is not None]
        _check_links(opened)
        self.files = self._agreeing(opened)
        self.names = next((reader.names for reader in self.files if reader.names), ())
        self._as_text = set(filter(self._has_mixed_kinds, self.columns.label_columns))
        self.starts = [0, *accumulate(file.n_rows for file in self.files)]
        self.n_rows = self.starts[-1]
        self.row_bytes = max(file.row_bytes for file in self.files)
        self.on_gpu = False
        self.in_place = all(file.in_place for file in self.files)
        self.named_in_order = misplaced is None
        if misplaced is not None:
            _log.warning(
                "rows are numbered in the order of the files' paths, and not as they were named: "
                "%s comes after %s", *misplaced,
            )  # fmt: skip

    @property
    def skipped(self) -> list[Skipped]:
        """See `Source`. A resumed run sets it to what the earlier run skipped."""
        return self._bad.skipped

    @skipped.setter
    def skipped(self, skipped: Sequence[Skipped]) -> None:
        self._bad.restore(skipped)

    @property
    def chunk_bounds(self) -> list[int]:
        """The rows where chunks begin anew whatever their size, and at the end the number of rows.

        No chunk spans two files.
        """
        return self.starts

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to read the pool: it opens the files that it reads."""
        return {**vars(self), "files": [ClosedReader(reader) for reader in self.files]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for reader in state["files"]:
            reader.open = self._reopened

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `Source.chunks`. No chunk spans two files; an empty pool is one empty chunk.

        While the caller works on a chunk, another thread reads the next one.
        """
        read = prefetched(self._read(rows, start, stop))
        try:
            for index, chunk in read:
                if chunk.start < self._end(index):
                    yield chunk
        finally:
            read.close()

    def reading(self, names: tuple[str, ...]) -> "Files":
        """Opens the same files again, to read these columns in this order."""
        columns = self.columns._replace(matrix=names)
        return Files(self._paths, columns, "skip" if self._bad.are_skipped else "raise")

    def locate(self, row: int) -> str:
        """See `Source.locate`."""
        index = self._index(row)
        return f"{self.files[index].file} row {row - self.starts[index]}"

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source.check`.

        If the file was cut short, the rest of it is skipped where bad files are. If it changed in
        another way, that is always an error: chunks that were read before may mix old and new rows.
        """
        index = self._index(start)
        file = self.files[index].file
        before = self._stamps[file.key]
        try:
            # `_read` checks the slow ones once, at their end.
            stamp = before if file.is_slow_to_stamp else file.stamp()
            if lost or stamp[0] < before[0]:
                raise OSError(f"{file}: cut short, or unreadable, while it was being read")
        except OSError as error:
            self._bad.report(file, start - self.starts[index], error)
            return False
        self._check_unchanged(file, stamp)
        return True

    def fingerprint(self) -> list[Any]:
        """See `Source.fingerprint`: the columns; what is skipped; each file's key and stamp."""
        files = [[file.file.key, *self._stamps[file.file.key]] for file in self.files]
        dtypes = sorted({file.file.dtype or "" for file in self.files})
        skipped = [left_out.file for left_out in self.skipped]
        return [[*self.columns, *dtypes], skipped, files]

    def ids(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """See `Source.ids`. Only the files that hold these rows are read."""
        return None if self.columns.ids is None else self._taken(self.columns.ids, rows)

    def carried(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See `Source.carried`. Only the files that hold these rows are read."""
        return {name: self._taken(name, rows) for name in self.columns.carried}

    def inputs(self) -> Iterator[Path]:
        """All local files and folders that the pool is read from, including skipped ones."""
        yield from self._named.read_from
        for file in self._named.files:
            yield from file.paths()

    def folders(self) -> Iterator[Path]:
        """Those of `inputs` that are folders."""
        return (f.path for f in self._named.files if f.suffix == ZARR and not f.is_remote)

    def _taken(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The labels of a column in these rows."""
        order = np.argsort(rows)
        ascending = rows[order]
        bounds = np.searchsorted(ascending, self.starts)
        parts = []
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            of_file = ascending[bounds[i] : bounds[i + 1]] - self.starts[i]
            in_path = self.files[i].file.partitions
            if name in self.columns.carried and name in in_path:
                parts.append(np.full(len(of_file), in_path[name], object))
            else:
                parts.append(self.files[i].take(name, of_file))
            self._check_stamp(i)  # the file may have changed since its predictions were read
        if name in self._as_text:
            parts = list(map(labels.as_text, parts))
        found = labels.joined(parts)
        return found[np.argsort(order)]

    def _read(
        self, rows: int, start: int, stop: int | None
    ) -> Generator[tuple[int, Chunk], None, None]:
        """Yields chunks, each with the index of its file."""
        for index, (file, offset) in enumerate(zip(self.files, self.starts, strict=False)):
            # Files without rows are passed over: even their dtype may be unknown. If no file has
            # rows, the last one gives the empty chunk.
            gives_empty_chunk = not self.n_rows and file is self.files[-1]
            if (not file.n_rows or offset + file.n_rows <= start) and not gives_empty_chunk:
                continue
            if stop is not None and offset >= stop:
                return
            row = max(0, start - offset)
            if offset + row >= self._end(index):
                continue
            in_path = self._groups_in_path(file.file)
            try:
                for first, x, groups in file.chunks(rows, row):
                    if offset + first >= self._end(index):
                        break
                    if in_path is not None:
                        groups = Groups(np.zeros(len(x), np.int64), in_path)
                    if self.columns.groups in self._as_text:
                        groups = labels.as_text(groups)
                    yield index, Chunk(offset + first, x, groups)
                    row = first + x.shape[0]
                    if stop is not None and offset + row >= stop:
                        break
            except Exception as error:
                # Rows that were yielded before may be wrong, and cannot be taken back.
                if isinstance(error, FileChangedError) or (
                    isinstance(error, ChecksumError) and row
                ):
                    raise
                self._check_not_replaced(index)
                self._bad.report(file.file, row, error)
            if file.file.is_slow_to_stamp:  # so `check` does not do it after every chunk
                self._check_stamp(index)

    def _has_mixed_kinds(self, name: str) -> bool:
        """Whether the files hold different kinds of labels in a column. If so, logs a warning."""
        nonempty = [file for file in reversed(self.files) if file.n_rows]
        kinds = {file.kinds.get(name, labels.TEXT): file.file for file in nonempty}
        if not labels.differ(kinds):
            return False
        of = " and ".join(f"{kind} in {file}" for kind, file in kinds.items() if kind is not None)
        _log.warning("%r holds %s: read as text in all files", name, of)
        return True

    def _check_stamp(self, index: int) -> None:
        file = self.files[index].file
        self._check_unchanged(file, file.stamp())

    def _check_not_replaced(self, index: int) -> None:
        """FileChangedError if a file that cannot be read has changed, unless it was cut short."""
        file = self.files[index].file
        if file.is_slow_to_stamp:
            return
        try:
            stamp = file.stamp()
        except (OSError, ValueError):  # it is gone, or no file any more
            return
        if stamp[0] >= self._stamps[file.key][0]:
            self._check_unchanged(file, stamp)

    def _check_unchanged(self, file: Location, stamp: list[Any]) -> None:
        before = self._stamps[file.key]
        if stamp != before:
            has_its_time = stamp[:2] == before[:2]
            or_else = ", or its mode, owner, name or hard links did" if has_its_time else ""
            raise FileChangedError(f"{file}: changed while it was being read{or_else}")

    def _open(
        self, file: Location, n_rows: int | None, columns: Columns | None = None
    ) -> Reader | None:
        """Opens a file; None if it is bad and bad files are skipped.

        Args:
            file: the file.
            n_rows: the rows that the manifest promises, None if it does not say.
            columns: which to read, instead of the pool's.
        """
        try:
            with naming_file_in_errors(file):
                file.check()
                stamp = file.stamp()  # before it is opened: later changes are noticed
                reader = self._reader_of(file, columns or self.columns)
                reader.names = self._same_names.setdefault(reader.names, reader.names)
                # A reader adds the further files that it found to the location.
                self._stamps[file.key] = file.stamp() if file.parts else stamp
                if 0 in (reader.row_shape or ()):  # a header could claim any number of such rows
                    raise ValueError(f"{file}: its rows of shape {reader.row_shape} hold no values")
                if n_rows not in (None, reader.n_rows):
                    raise ValueError(
                        f"{file}: {reader.n_rows} rows, where the manifest says {n_rows}"
                    )
        except Exception as error:
            self._bad.report(file, 0, error)
            return None
        return reader

    def _reader_of(self, file: Location, columns: Columns) -> Reader:
        """Opens a file to read these columns, except those whose values are in its path."""
        open_reader = reader_for(file)
        if self.columns.ragged:
            check_ragged(file)
        if self._groups_in_path(file) is not None:
            columns = columns._replace(groups=None)
        in_file = tuple(n for n in columns.carried if n not in file.partitions)
        return open_reader(file, columns._replace(carried=in_file))

    def _reopened(self, reader: ClosedReader) -> Reader:
        """Opens a file that another process has opened before.

        If it was cut short, it is bad. If it changed in another way, that is always an error, as in
        `check`.
        """
        file = reader.file
        before = self._stamps[file.key]
        stamp = before if file.is_slow_to_stamp else file.stamp()
        is_shorter = stamp[0] < before[0]
        if not is_shorter:
            self._check_unchanged(file, stamp)
        with naming_file_in_errors(file):
            columns = self.columns._replace(matrix=reader.names or self.columns.matrix)
            opened = self._reader_of(file, columns)
            opened.row_shape = opened.row_shape or reader.row_shape
            if (opened.n_rows, opened.row_shape) != (reader.n_rows, reader.row_shape):
                kind = ValueError if is_shorter else FileChangedError
                raise kind(f"{file}: changed while it was being read")
        return opened

    def _agreeing(self, readers: list[Reader]) -> list[Reader]:
        """The readers that agree on names and shapes; see `agreement`."""

        def reopen(file: Location, names: tuple[str, ...]) -> Reader | None:
            return self._open(file, None, self.columns._replace(matrix=names))

        def reject(file: Location, error: Exception) -> None:
            self._bad.report(file, 0, error)

        majority = self._bad.are_skipped
        agreeing = with_same_names(readers, majority=majority, reopen=reopen, reject=reject)
        if not agreeing:
            raise ValueError(f"pool: none of its files can be read: {self.skipped[0].reason}")
        return with_same_shape(agreeing, majority=majority, reject=reject)

    def _end(self, index: int) -> float:
        """The number of the first row from which on a file is skipped; infinity if it is not."""
        first = self._bad.first_skipped_row(self.files[index].file)
        return math.inf if first is None else self.starts[index] + first

    def _groups_in_path(self, file: Location) -> list[str | None] | None:
        """The one group of all rows of a file, if its path has it (see `Location.partitions`)."""
        name = self.columns.groups
        return [file.partitions[name]] if name and name in file.partitions else None

    def _index(self, row: int) -> int:
        """The index of the file that holds a row."""
        return min(bisect_right(self.starts, row), len(self.files)) - 1


def in_column_order_of(pool: Any, other: Any) -> Any:
    """The other pool, with its columns read in the order of the first pool's.

    Only pools of files with several columns have such an order; others are returned unchanged.

    Raises:
        ValueError: the columns of the two pools have different names.
    """
    if not (isinstance(pool, Files) and isinstance(other, Files)):
        return other
    if min(len(pool.names), len(other.names)) < 2 or pool.names == other.names:
        return other
    if {*pool.names} != {*other.names}:
        model = next(reader for reader in pool.files if reader.names)
        raise names_differ(next(reader for reader in other.files if reader.names), model)
    return other.reading(pool.names)


def _check_unique(files: Sequence[Location]) -> None:
    """ValueError if a file is named twice. `files` are in path order."""
    for file, other in pairwise(files):
        if file.key == other.key:
            raise ValueError(f"pool: {file} is named twice")


def _check_links(readers: Sequence[Reader]) -> None:
    """ValueError if two names lead to one file, whose rows would then count twice."""
    seen: dict[str, Reader] = {}
    for reader in readers:
        first = seen.setdefault(real := reader.file.real(), reader)
        if first is not reader and reader.n_rows:
            raise ValueError(
                f"pool: {first.file} and {reader.file} are two names of one file, by links to "
                f"{real}: name one of them"
            )
