"""Files as one pool, one after the other, whatever their formats."""

import errno
import logging
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastal.base.groups import Groups
from fastal.sources import labels
from fastal.sources.arrow_ipc import ArrowFile
from fastal.sources.expand import PathLike, expand
from fastal.sources.hdf5 import Hdf5File
from fastal.sources.location import ZARR, Location
from fastal.sources.npy import NpyFile
from fastal.sources.npz import NpzFile
from fastal.sources.parquet import ParquetFile
from fastal.sources.prefetch import prefetched
from fastal.sources.reader import Columns, Damaged, Reader, naming
from fastal.sources.safetensors import SafetensorsFile
from fastal.sources.source import Chunk, Skipped
from fastal.sources.torch_file import TorchFile
from fastal.sources.zarr import ZarrFile

_log = logging.getLogger("fastal")

# One reader a format, by suffix.
_READERS: dict[str, Callable[[Location, Columns], Reader]] = {
    ".npy": NpyFile,
    ".npz": NpzFile,
    ".safetensors": SafetensorsFile,
    ".parquet": ParquetFile,
    ".arrow": ArrowFile,
    ".feather": ArrowFile,
    ".pt": TorchFile,
    ".h5": Hdf5File,
    ".hdf5": Hdf5File,
    ZARR: ZarrFile,
}

T = TypeVar("T")

# Errors that are not a file's: too many open files, no memory.
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Files:
    """Files with rows of one shape as one pool; rows are numbered across them in path order.

    Args:
        paths: files, folders, globs, manifests, URLs.
        columns: what to read of each.
        on_bad_file: "raise", or "skip" to leave out files that cannot be read, are cut short, or
            have rows of another shape than most; the rows of a file that cannot be opened get no
            numbers.

    Raises:
        FileNotFoundError: nothing is there under one of the paths.
        ValueError: a file is named twice, or its rows have another shape than the first file's, or
            its columns other names.

    Attributes:
        names: of the array or the columns that are read, in the order of the first file that has
            names; empty where none has.
    """

    def __init__(
        self,
        paths: Sequence[PathLike],
        columns: Columns = Columns(),  # noqa: B008 (a tuple)
        on_bad_file: str = "raise",
    ) -> None:
        if on_bad_file not in ("raise", "skip"):
            raise ValueError(f"on_bad_file: wanted raise or skip, got {on_bad_file!r}")
        self._paths = paths
        self._skips = on_bad_file == "skip"
        self._skipped: dict[str, Skipped] = {}  # by file
        self._giving_up = Lock()  # the reader's thread may, and the one that looks at chunks
        found, misplaced = expand(paths, _READERS)
        self.columns = columns._replace(
            ids=columns.ids or found.id_column, groups=columns.groups or found.group_column
        )
        self._named = found
        _check_once(found.files)
        self._stamps: dict[str, list[Any]] = {}  # by the files' keys
        self._same_names: dict[Any, Any] = {}  # of many columns, held once for all files
        readers = [self._open(*pair) for pair in zip(found.files, found.rows, strict=True)]
        opened = [reader for reader in readers if reader is not None]
        _check_links(opened)
        self.files = self._alike(self._named_alike(opened))
        self.names = next((reader.names for reader in self.files if reader.names), ())
        self._as_text = set(filter(self._is_mixed, self.columns.beside))
        # The number of each file's first row, and of the row after the last.
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
        """See `Source`; to be set by a run that goes on."""
        return list(self._skipped.values())

    @skipped.setter
    def skipped(self, skipped: Sequence[Skipped]) -> None:
        self._skipped = {left_out.file: left_out for left_out in skipped}

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:
        """See `Source.chunks`; the next is read while one is worked on, and none spans two files.

        An empty pool is one empty chunk.
        """
        read = prefetched(self._read(rows, start))
        try:
            for index, chunk in read:
                if chunk.start < self._end(index):
                    yield chunk
        finally:
            read.close()

    def reading(self, names: tuple[str, ...]) -> "Files":
        """The same files, of which these columns are read, in this order."""
        columns = self.columns._replace(matrix=names)
        return Files(self._paths, columns, "skip" if self._skips else "raise")

    def locate(self, row: int) -> str:
        """See `Source.locate`."""
        index = self._index(row)
        return f"{self.files[index].file} row {row - self.starts[index]}"

    def check(self, start: int, *, lost: bool) -> bool:
        """See `Source.check`: the rest of a file that was cut short is skipped, where bad ones are.

        One that changed in another way is never skipped: some of its rows may have been neither
        what they were nor what they are.
        """
        index = self._index(start)
        file = self.files[index]
        before = self._stamps[file.file.key]
        try:
            stamp = before if file.file.is_slow_to_stamp else file.file.stamp()
            if lost or stamp[0] < before[0]:
                raise OSError(f"{file.file}: cut short, or unreadable, while it was being read")
        except OSError as error:
            self._give_up(file.file, start - self.starts[index], error)
            return False
        self._check_same(file.file, stamp)
        return True

    def fingerprint(self) -> list[Any]:
        """See `Source.fingerprint`: what is read, and names, sizes and times of the files."""
        files = [[file.file.key, *self._stamps[file.file.key]] for file in self.files]
        dtypes = sorted({file.file.dtype or "" for file in self.files})
        return [[*self.columns, *dtypes], [*self._skipped], files]

    def ids(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """See `Source.ids`; read of the files that the rows are in."""
        if self.columns.ids is None:
            return None
        order = np.argsort(rows)
        ascending = rows[order]
        bounds = np.searchsorted(ascending, self.starts)
        found = np.empty(len(rows), object)
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            part = slice(bounds[i], bounds[i + 1])
            found[order[part]] = self.files[i].take(
                self.columns.ids, ascending[part] - self.starts[i]
            )
            self._check_stamp(i)  # it may have changed since its rows were looked at
        if self.columns.ids in self._as_text:
            return cast("NDArray[Any]", labels.as_text(found))
        integers = labels.as_integers(found.tolist())
        return found if integers is None else integers

    def inputs(self) -> Iterator[Path]:
        """All files and folders on this machine that the pool is read from, skipped ones too."""
        yield from self._named.read_from
        for file in self._named.files:
            yield from file.paths()

    def folders(self) -> Iterator[Path]:
        """Those of `inputs` that are folders."""
        return (f.path for f in self._named.files if f.suffix == ZARR and not f.is_remote)

    def _read(self, rows: int, start: int) -> Generator[tuple[int, Chunk], None, None]:
        for index, (file, offset) in enumerate(zip(self.files, self.starts, strict=False)):
            is_last_hope = not self.n_rows and file is self.files[-1]
            # Of empty ones among others, not even the shape can always be told.
            if (not file.n_rows or offset + file.n_rows <= start) and not is_last_hope:
                continue
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
            except Exception as error:
                if isinstance(error, Damaged) and row:  # rows before it may be wrong, and count
                    raise
                self._give_up(file.file, row, error)
            if file.file.is_slow_to_stamp:  # not looked at after every chunk
                self._check_stamp(index)

    def _is_mixed(self, name: str) -> bool:
        """Whether files differ in what a column holds, which is said."""
        held = [file for file in reversed(self.files) if file.n_rows]
        kinds = {file.kinds.get(name, labels.TEXT): file.file for file in held}
        if not labels.differ(kinds):
            return False
        of = " and ".join(f"{kind} in {file}" for kind, file in kinds.items() if kind is not None)
        _log.warning("%r holds %s: taken as text in all files", name, of)
        return True

    def _check_stamp(self, index: int) -> None:
        file = self.files[index].file
        self._check_same(file, file.stamp())

    def _check_same(self, file: Location, stamp: list[Any]) -> None:
        before = self._stamps[file.key]
        if stamp != before:
            has_its_time = stamp[:2] == before[:2]
            or_else = ", or its mode, owner, name or hard links did" if has_its_time else ""
            raise ValueError(f"{file}: changed while it was being read{or_else}")

    def _open(
        self, file: Location, n_rows: int | None, columns: Columns | None = None
    ) -> Reader | None:
        try:
            with naming(file):
                file.check()
                if file.suffix not in _READERS:
                    of_url = f", or a glob: {file}/**/*.parquet" if file.is_remote else ""
                    raise ValueError(f"{file}: wanted a file of {', '.join(_READERS)}{of_url}")
                stamp = file.stamp()  # first: what changes later is noticed
                columns = columns or self.columns
                if self._groups_in_path(file) is not None:
                    columns = columns._replace(groups=None)
                reader = _READERS[file.suffix](file, columns)
                reader.names = self._same_names.setdefault(reader.names, reader.names)
                self._stamps[file.key] = file.stamp() if file.parts else stamp
                if 0 in (reader.row_shape or ()):  # any number of rows may be claimed
                    raise ValueError(f"{file}: its rows of shape {reader.row_shape} hold no values")
                if n_rows not in (None, reader.n_rows):
                    raise ValueError(
                        f"{file}: {reader.n_rows} rows, where the manifest says {n_rows}"
                    )
        except Exception as error:
            self._give_up(file, 0, error)
            return None
        return reader

    def _named_alike(self, readers: list[Reader]) -> list[Reader]:
        """Those that read the names of the first one or, where bad files are skipped, of most.

        They read them in its order.
        """
        names = Counter(frozenset(reader.names) for reader in readers if reader.names)
        if not names:
            return readers
        wanted = self._wanted(names)
        model = next(r for r in readers if frozenset(r.names or ()) == wanted)
        of_model = self.columns._replace(matrix=model.names or ())
        alike: list[Reader] = []
        for reader in readers:
            if reader.names in (model.names, ()):
                alike.append(reader)
            elif reader.names is None or {*reader.names} == {*of_model.matrix}:
                again = self._open(reader.file, None, of_model)
                alike += [] if again is None else [again]
            else:
                self._give_up(reader.file, 0, _other_names(reader, model))
        return alike

    def _wanted(self, found: "Counter[T]") -> T:
        """What the first file has or, where bad files are skipped, most of them; then the first."""
        return found.most_common(1)[0][0] if self._skips else next(iter(found))

    def _alike(self, readers: list[Reader]) -> list[Reader]:
        """Those with rows of the first one's shape or, where bad files are skipped, of most."""
        if not readers:
            raise ValueError(f"pool: none of its files can be read: {self.skipped[0].reason}")
        shapes = Counter(r.row_shape for r in readers if r.row_shape is not None)
        if not shapes:
            missing = next((reader for reader in readers if reader.n_rows), None)
            if missing is not None:
                of = repr(missing.names[0]) if missing.names else "its columns"
                raise ValueError(f"{missing.file}: no row of {of} has values")
            raise ValueError(f"{readers[0].file}: no rows, and nothing that tells their shape")
        shape = self._wanted(shapes)
        model = next(r for r in readers if r.row_shape == shape)
        alike = []
        for reader in readers:
            if reader.row_shape in (shape, None):
                reader.row_shape = shape
                alike.append(reader)
                continue
            error = ValueError(
                f"{reader.file}: rows of shape {reader.row_shape}, where those of {model.file} "
                f"are of shape {shape}"
            )
            self._give_up(reader.file, 0, error)
        return alike

    def _give_up(self, file: Location, from_row: int, error: Exception) -> None:
        """Skips the rest of a file, or raises what is wrong with it."""
        if not self._skips or isinstance(error, ImportError):
            raise error
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise error
        new = Skipped(str(file), from_row, " ".join(str(error).split()))
        with self._giving_up:
            held = self._skipped.setdefault(new.file, new)
            if from_row < held.from_row:
                self._skipped[new.file] = new

    def _end(self, index: int) -> float:
        """The row from which on a file is skipped, also by an earlier run."""
        skipped = self._skipped.get(str(self.files[index].file))
        return math.inf if skipped is None else self.starts[index] + skipped.from_row

    def _groups_in_path(self, file: Location) -> list[str | None] | None:
        """The group of all rows of a file where its folders say it (see `Location.partitions`)."""
        name = self.columns.groups
        return [file.partitions[name]] if name and name in file.partitions else None

    def _index(self, row: int) -> int:
        return min(bisect_right(self.starts, row), len(self.files)) - 1


def _check_once(files: Sequence[Location]) -> None:
    """ValueError where a file is named twice; they are in path order."""
    for file, other in pairwise(files):
        if file.key == other.key:
            raise ValueError(f"pool: {file} is named twice")


def _check_links(readers: Sequence[Reader]) -> None:
    """ValueError where the rows of one file would count twice, under two names."""
    seen: dict[str, Reader] = {}
    for reader in readers:
        first = seen.setdefault(real := reader.file.real(), reader)
        if first is not reader and reader.n_rows:
            raise ValueError(
                f"pool: {first.file} and {reader.file} are two names of one file, by links to "
                f"{real}: name one of them"
            )


def in_order_of(pool: Any, other: Any) -> Any:
    """What is read beside a pool; where both are files of several columns, in the pool's order.

    Raises:
        ValueError: their columns have other names.
    """
    if not (isinstance(pool, Files) and isinstance(other, Files)):
        return other
    if min(len(pool.names), len(other.names)) < 2 or pool.names == other.names:
        return other
    if {*pool.names} != {*other.names}:
        model = next(reader for reader in pool.files if reader.names)
        raise _other_names(next(reader for reader in other.files if reader.names), model)
    return other.reading(pool.names)


def _other_names(reader: Reader, model: Reader) -> ValueError:
    """Says what a file reads that another does not, and the other way round: of each, the first."""
    ours, theirs = reader.names or (), model.names or ()
    more = next((name for name in ours if name not in theirs), None)
    less = next((name for name in theirs if name not in ours), None)
    if len(ours) == len(theirs) == 1:
        return ValueError(
            f"{reader.file}: column: wanted the name of one: here it is {more!r}, "
            f"in {model.file} {less!r}"
        )
    lacks = "" if less is None else f" lacks {less!r}"
    has = "" if more is None else f" has {more!r}"
    return ValueError(
        f"{reader.file}: other columns than those of {model.file}:"
        f"{lacks}{' and' if lacks and has else ''}{has}"
    )
