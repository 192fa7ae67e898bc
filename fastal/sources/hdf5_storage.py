"""What an HDF5 file holds of its datasets, and which further files hold the rest.

libhdf5 reads as the fill value whatever it does not find: chunks that were never allocated, sources
of a virtual dataset that are missing or that it cannot open, the end of a raw file. It follows a
virtual dataset that is made of itself until its stack overflows. So all of it is checked here,
before a row is read.
"""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.sources.location import Location

_MOST_LINKS = 16  # as libhdf5 has it
_MOST_HELD = 16  # source files that are open at a time, where they are checked one by one
_SPARE = 4  # descriptors: libhdf5 takes one at a time, other threads may take some
_MOST_PIECES = 1 << 13  # of a virtual dataset; libhdf5 takes time that grows with their square

_Key = tuple[Path, int]  # a dataset: its file, and where in it


class Mapped(NamedTuple):
    """Rows of a virtual dataset, and the HDF5 files that they come from, through all levels."""

    first: int
    last: int
    files: frozenset[Path]


class Storage:
    """Finds out whether all of a dataset is stored.

    Where the fill value is NaN, parts may be missing: such rows are invalid, and reported as that.
    Rows that the writer left out of a chunk that it did write, or of a contiguous dataset, cannot
    be told from others.

    Args:
        file: the HDF5 file. If it is behind a URL, no further files are read.

    Attributes:
        files: the further files that hold the datasets checked so far.
    """

    def __init__(self, file: Location) -> None:
        self._file = file
        self._path = Path(file.name)
        self.files: set[Path] = set()
        self._held = HeldFiles()
        self._virtual: dict[_Key, frozenset[Path]] = {}  # checked; the files of each
        self._chunks: dict[_Key, NDArray[np.int64] | None] = {}  # where they are; None: everywhere

    def check(self, dataset: Any) -> list[Mapped]:
        """Raises a ValueError or OSError where a part of a dataset is not stored.

        Returns:
            What a virtual dataset is made of; of others, nothing.
        """
        with self._held:
            if dataset.is_virtual:
                return self._check_virtual(dataset, self._path, ())
            self._check_stored(dataset, self._path, None)
            return []

    def _check_virtual(self, dataset: Any, path: Path, above: tuple[_Key, ...]) -> list[Mapped]:
        from h5py import h5s

        key = _key(dataset, path)
        if key in above:
            raise ValueError(f"{self._named(dataset, path)} is a virtual dataset made of itself")
        sources = [
            s for s in dataset.virtual_sources() if s.vspace.get_select_type() != h5s.SEL_NONE
        ]
        try:
            missing = dataset.size - _n_mapped(dataset, sources)
        except ValueError as error:
            raise ValueError(f"{self._named(dataset, path)}: {error}") from error
        if missing and not _is_nan(dataset.fillvalue):
            raise ValueError(
                f"{self._named(dataset, path)}: {missing:,} of {dataset.size:,} values of this "
                "virtual dataset have no source"
            )
        found = []
        for source in sources:
            files = self._check_source(dataset, path, source, (*above, key))
            if files is not None:
                low, high = source.vspace.get_select_bounds()
                found.append(Mapped(low[0], high[0], files))
            if not above and len(self._held.files) > _MOST_HELD:
                self._held.close()
        self._virtual[key] = frozenset().union(*(mapped.files for mapped in found))
        return found

    def _check_source(
        self, dataset: Any, path: Path, source: Any, above: tuple[_Key, ...]
    ) -> frozenset[Path] | None:
        """The files that one source is read from; None: it is missing, which may be."""
        from h5py import Dataset, h5s

        name, file_name = (n.replace("%%", "%") for n in (source.dset_name, source.file_name))
        says = f"{self._named(dataset, path)}: its source {name} in {file_name}"
        file, held, files = dataset.file, None, {path}
        if file_name != ".":
            file, path = self._open(file_name, path, "HDF5_VDS_PREFIX", files)
        if file is not None:
            held, path = self._follow(file, path, name, files)
        if not isinstance(held, Dataset):
            if _is_nan(dataset.fillvalue):
                return None
            raise ValueError(f"{says}: no such {'file' if file is None else 'dataset'}")
        box = None
        if source.src_space.get_select_type() == h5s.SEL_ALL:
            is_there = held.size == source.vspace.get_select_npoints()
        else:
            box = np.array(source.src_space.get_select_bounds())
            is_there = len(held.shape) == len(box[0]) and (box[1] < held.shape).all()
        if not is_there:
            raise ValueError(f"{says}: it has shape {held.shape}, which is not what is taken of it")
        files.discard(self._path)
        self.files |= files
        if not held.is_virtual:
            self._check_stored(held, path, box)
            return frozenset(files)
        if (key := _key(held, path)) not in self._virtual:
            self._check_virtual(held, path, above)
        return self._virtual[key] | files

    def _follow(
        self, node: Any, path: Path, name: str, files: set[Path], links: int = _MOST_LINKS
    ) -> tuple[Any, Path]:
        """The object of this name and its file, through links and `files`; None: there is none."""
        import h5py

        for part in name.split("/"):
            if part in ("", "."):
                continue
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                return None, path
            if isinstance(link, h5py.HardLink):
                node = node[part]
                continue
            if not links:
                raise ValueError(f"{path}: {name} is a link that leads to itself")
            if isinstance(link, h5py.ExternalLink):
                node, path = self._open(link.filename, path, "HDF5_EXT_PREFIX", files)
            elif link.path.startswith("/"):
                node = node.file
            node, path = self._follow(node, path, link.path, files, links - 1)
        return node, path

    def _open(self, name: str, of: Path, variable: str, files: set[Path]) -> tuple[Any, Path]:
        """The file that another one names, found as libhdf5 does; None: there is none."""
        if self._file.is_remote:
            raise ValueError(f"{self._file}: a part of it is in {name}, which is not read of URLs")
        for path in _candidates(name, of, variable):
            if path.exists():
                files.add(path)
                return self._held.open(path), path
        return None, of

    def _named(self, dataset: Any, path: Path) -> str:
        return f"{self._file if path == self._path else path}: {dataset.name}"

    def _check_stored(self, dataset: Any, path: Path, box: Any) -> None:
        """ValueError where values of a dataset, or of a box of it (its corners), are not there."""
        if not dataset.size:
            return
        if dataset.external:
            if self._file.is_remote:
                raise ValueError(f"{self._file}: {dataset.name} has external storage")
            self.files.update(_external(dataset, path))
        elif not _is_nan(dataset.fillvalue):
            found, wanted = self._count_chunks(dataset, path, box)
            if found < wanted:
                raise ValueError(
                    f"{self._named(dataset, path)}: {wanted - found:,} of {wanted:,} chunks were "
                    "never written"
                )

    def _count_chunks(self, dataset: Any, path: Path, box: Any) -> tuple[int, int]:
        """How many chunks are stored, and how many should be."""
        if not dataset.chunks:
            return int(dataset.id.get_storage_size() > 0), 1
        chunk = np.array(dataset.chunks)
        if (key := _key(dataset, path)) not in self._chunks:
            found = dataset.id.get_num_chunks()
            wanted = math.prod(
                math.ceil(n / m) for n, m in zip(dataset.shape, chunk.tolist(), strict=True)
            )
            if box is None:
                return found, wanted
            self._chunks[key] = None if found == wanted else _chunks(dataset)
        if (chunks := self._chunks[key]) is None:
            return 1, 1
        first, last = box // chunk
        is_inside = (chunks // chunk >= first) & (chunks // chunk <= last)
        return int(is_inside.all(1).sum()), math.prod((last - first + 1).tolist())


class HeldFiles:
    """HDF5 files that stay open until it is closed."""

    def __init__(self) -> None:
        self.files: dict[Path, Any] = {}

    def __enter__(self) -> "HeldFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self, path: Path) -> Any:
        """A file, opened once; a ValueError if it is none that could be read."""
        import h5py

        if path not in self.files:
            if not path.is_file():
                raise ValueError(f"{path}: not a regular file")
            self.files[path] = h5py.File(path, "r", locking=False)
        return self.files[path]

    def check_room(self) -> None:
        """OSError where libhdf5 may not open them once more, which it does for a moment."""
        with ExitStack() as stack:
            for _ in range(_SPARE):
                stack.enter_context(Path(os.devnull).open())

    def close(self) -> None:
        """Closes all of them."""
        while self.files:
            self.files.popitem()[1].close()


def _key(dataset: Any, path: Path) -> _Key:
    import h5py

    return path.resolve(), h5py.h5o.get_info(dataset.id).addr


def _is_nan(fill: Any) -> bool:
    return isinstance(fill, np.floating) and bool(np.isnan(fill))


def _candidates(name: str, of: Path, variable: str) -> Iterator[Path]:
    """Where libhdf5 looks for a file that another one names, in this order."""
    prefixes = os.environ.get(variable, "")
    if "${ORIGIN}" in prefixes:  # libhdf5 takes this from the environment that it started in
        raise ValueError(f"{variable}: wanted folders, got {prefixes!r}")
    path = Path(name)
    if path.is_absolute():
        yield path
        path = Path(path.name)
    folders = filter(None, prefixes.split(os.pathsep))
    for folder in (*map(Path, folders), of.parent, Path(), of.resolve().parent):
        yield folder / path


def _n_mapped(dataset: Any, sources: list[Any]) -> int:
    """How many values of a virtual dataset have a source, whether that is there or not."""
    from h5py import h5s

    n_pieces = sum(
        _n_pieces(space) for source in sources for space in (source.vspace, source.src_space)
    )
    if n_pieces > 2 * _MOST_PIECES:
        raise ValueError(
            f"this virtual dataset has over {_MOST_PIECES:,} pieces, too many for libhdf5"
        )
    union = None
    for space in (source.vspace for source in sources):
        if space.get_select_type() == h5s.SEL_ALL:
            return int(dataset.size)
        if union is None:
            union = space.copy()
        else:
            for start, stride, count, block in _boxes(space):
                union.select_hyperslab(start, count, stride, block, h5s.SELECT_OR)
    if union is None:
        return 0
    if any(last >= n for last, n in zip(union.get_select_bounds()[1], dataset.shape, strict=True)):
        raise ValueError("this virtual dataset has sources beyond its end")
    return int(union.get_select_npoints())


def _boxes(space: Any) -> Iterator[tuple[tuple[int, ...], ...]]:
    """What a selection consists of, each of one start, stride, count and block along the axes."""
    if space.is_regular_hyperslab():
        yield space.get_regular_hyperslab()
        return
    for low, high in space.get_select_hyper_blocklist():
        ones = (1,) * len(low)
        yield tuple(map(int, low)), ones, ones, tuple(map(int, high - low + 1))


def _n_pieces(space: Any) -> int:
    """How many boxes a selection consists of, apart from its first one."""
    from h5py import h5s

    if space.get_select_type() != h5s.SEL_HYPERSLABS:
        return 0
    if not space.is_regular_hyperslab():
        return int(space.get_select_hyper_nblocks()) - 1
    _, strides, counts, blocks = space.get_regular_hyperslab()
    if h5s.UNLIMITED in (*counts, *blocks):
        raise ValueError(
            "this virtual dataset grows with its sources, so a missing one cannot be told; "
            "give it a fixed size, or name its sources as the pool"
        )
    sizes = zip(strides, counts, blocks, strict=True)
    return int(math.prod(count for stride, count, block in sizes if stride != block)) - 1


def _chunks(dataset: Any) -> NDArray[np.int64]:
    """Where the chunks of a dataset begin that are stored."""
    found: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda chunk: found.append(chunk.chunk_offset))
    return np.array(found, np.int64).reshape(-1, len(dataset.shape))


def _external(dataset: Any, of: Path) -> list[Path]:
    """The raw files that hold a dataset; a ValueError where they do not.

    Any file can be read as numbers, so these must be in the folder of the HDF5 file or below.
    """
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(of.parent))
    wanted = dataset.size * dataset.id.get_type().get_size()
    found = []
    for name, offset, n_bytes in dataset.external:
        path = Path(prefix, name)
        says = f"the external storage of {dataset.name}, {path}"
        if not path.exists():
            raise ValueError(
                f"{says}: no such file; it is looked for in the working folder, or in that of the "
                "HDF5 file with HDF5_EXTFILE_PREFIX='${ORIGIN}'"
            )
        if not path.is_file() or not path.resolve().is_relative_to(of.resolve().parent):
            raise ValueError(f"{says}: wanted a regular file in the folder of the HDF5 file")
        n_bytes = min(wanted, n_bytes)
        if path.stat().st_size < offset + n_bytes:
            raise ValueError(f"{says}: it is shorter than what it should hold")
        wanted -= n_bytes
        found.append(path)
    if wanted:
        raise ValueError(f"the external storage of {dataset.name} lacks {wanted:,} bytes")
    return found
