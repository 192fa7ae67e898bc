"""Whether all of an HDF5 dataset is stored, and in which further files.

libhdf5 reads everything that it does not find as the fill value: chunks that were never allocated,
sources of a virtual dataset that are missing or cannot be opened, the end of a raw file. If a
virtual dataset is made of itself, libhdf5 follows it until its stack overflows. So the storage is
checked here, before a row is read.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.sources.hdf5_files import OpenFiles, candidates, external_files
from fastal.sources.location import Location

_MOST_LINKS = 16  # libhdf5's own limit
_MOST_OPEN = 16  # source files that are open at a time while they are checked
_MOST_PIECES = 1 << 13  # of a virtual dataset: libhdf5's time grows with the square of the number

_Key = tuple[Path, int]  # a dataset: its file, and its address in the file


class Mapped(NamedTuple):
    """A source of a virtual dataset.

    Attributes:
        first: its first row in the virtual dataset.
        last: its last row there.
        files: the HDF5 files that hold the rows, including the sources of its sources.
    """

    first: int
    last: int
    files: frozenset[Path]


class Storage:
    """Checks whether all of a dataset is stored.

    If the fill value is NaN, parts may be missing: their rows are invalid, and reported as such.
    Not every missing row is found: within a chunk that was written, or in a contiguous dataset,
    rows that the writer left out look like all others.

    Args:
        file: the HDF5 file. If it is behind a URL, further files are refused.

    Attributes:
        files: the further files that hold the datasets checked so far.
    """

    def __init__(self, file: Location) -> None:
        self._file = file
        self._path = Path(file.name)
        self.files: set[Path] = set()
        self._open_files = OpenFiles()
        self._virtual: dict[_Key, frozenset[Path]] = {}  # the files of each that was checked
        self._chunks: dict[_Key, NDArray[np.int64] | None] = {}  # see `_count_chunks`

    def check(self, dataset: Any) -> list[Mapped]:
        """Checks a dataset.

        Returns:
            The sources of a virtual dataset; of others, an empty list.

        Raises:
            ValueError, OSError: a part of it is not stored.
        """
        with self._open_files:
            if dataset.is_virtual:
                return self._check_virtual(dataset, self._path, ())
            self._check_stored(dataset, self._path, None)
            return []

    def _check_virtual(self, dataset: Any, path: Path, parents: tuple[_Key, ...]) -> list[Mapped]:
        """Checks a virtual dataset. `parents` are those that it is a source of, at any level."""
        from h5py import h5s

        key = _key(dataset, path)
        if key in parents:
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
            files = self._check_source(dataset, path, source, (*parents, key))
            if files is not None:
                low, high = source.vspace.get_select_bounds()
                found.append(Mapped(low[0], high[0], files))
            if not parents and len(self._open_files.files) > _MOST_OPEN:
                self._open_files.close()
        self._virtual[key] = frozenset().union(*(mapped.files for mapped in found))
        return found

    def _check_source(
        self, dataset: Any, path: Path, source: Any, parents: tuple[_Key, ...]
    ) -> frozenset[Path] | None:
        """The files that a source is read from; None if it is missing and may be (NaN)."""
        from h5py import Dataset, h5s

        name, file_name = (n.replace("%%", "%") for n in (source.dset_name, source.file_name))
        described = f"{self._named(dataset, path)}: its source {name} in {file_name}"
        file, held, files = dataset.file, None, {path}
        if file_name != ".":
            file, path = self._open(file_name, path, "HDF5_VDS_PREFIX", files)
        if file is not None:
            held, path = self._follow(file, path, name, files)
        if not isinstance(held, Dataset):
            if _is_nan(dataset.fillvalue):
                return None
            raise ValueError(f"{described}: no such {'file' if file is None else 'dataset'}")
        box = None
        if source.src_space.get_select_type() == h5s.SEL_ALL:
            is_there = held.size == source.vspace.get_select_npoints()
        else:
            box = np.array(source.src_space.get_select_bounds())
            is_there = len(held.shape) == len(box[0]) and (box[1] < held.shape).all()
        if not is_there:
            raise ValueError(
                f"{described}: its shape {held.shape} does not have the part that is mapped"
            )
        files.discard(self._path)
        self.files |= files
        if not held.is_virtual:
            self._check_stored(held, path, box)
            return frozenset(files)
        if (key := _key(held, path)) not in self._virtual:
            self._check_virtual(held, path, parents)
        return self._virtual[key] | files

    def _follow(
        self, node: Any, path: Path, name: str, files: set[Path], links: int = _MOST_LINKS
    ) -> tuple[Any, Path]:
        """The object of a name, or None if there is none, and the path of its file.

        Links are followed. The files that they lead to are added to `files`.
        """
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
                raise ValueError(
                    f"{path}: {name} is behind more than {_MOST_LINKS} links, which may be a ring"
                )
            if isinstance(link, h5py.ExternalLink):
                node, path = self._open(link.filename, path, "HDF5_EXT_PREFIX", files)
            elif link.path.startswith("/"):
                node = node.file
            node, path = self._follow(node, path, link.path, files, links - 1)
        return node, path

    def _open(self, name: str, of: Path, variable: str, files: set[Path]) -> tuple[Any, Path]:
        """The file that another one names, found as libhdf5 does, or None; and its path."""
        if self._file.is_remote:
            raise ValueError(
                f"{self._file}: a part of it is in {name}: of a URL, further files are not read"
            )
        for path in candidates(name, of, variable):
            if path.exists():
                files.add(path)
                return self._open_files.open(path), path
        return None, of

    def _named(self, dataset: Any, path: Path) -> str:
        return f"{self._file if path == self._path else path}: {dataset.name}"

    def _check_stored(self, dataset: Any, path: Path, box: Any) -> None:
        """ValueError if values of a dataset, or of a box given by its corners, are not stored."""
        if not dataset.size:
            return
        if dataset.external:
            if self._file.is_remote:
                raise ValueError(f"{self._file}: {dataset.name} has external storage")
            self.files.update(external_files(dataset, path))
        elif not _is_nan(dataset.fillvalue):
            found, wanted = self._count_chunks(dataset, path, box)
            if found < wanted:
                raise ValueError(
                    f"{self._named(dataset, path)}: {wanted - found:,} of {wanted:,} chunks were "
                    "never written"
                )

    def _count_chunks(self, dataset: Any, path: Path, box: Any) -> tuple[int, int]:
        """The number of chunks in a box that are stored, and the number that should be.

        The places of a dataset's chunks are remembered; as None if all of them are stored.
        """
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


def _key(dataset: Any, path: Path) -> _Key:
    import h5py

    return path.resolve(), h5py.h5o.get_info(dataset.id).addr


def _is_nan(fill: Any) -> bool:
    return isinstance(fill, np.floating) and bool(np.isnan(fill))


def _n_mapped(dataset: Any, sources: list[Any]) -> int:
    """The number of values of a virtual dataset that have a source, which may be missing."""
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
    """The boxes that a selection consists of: start, stride, count and block along the axes."""
    if space.is_regular_hyperslab():
        yield space.get_regular_hyperslab()
        return
    for low, high in space.get_select_hyper_blocklist():
        ones = (1,) * len(low)
        yield tuple(map(int, low)), ones, ones, tuple(map(int, high - low + 1))


def _n_pieces(space: Any) -> int:
    """The number of boxes that a selection consists of, less one."""
    from h5py import h5s

    if space.get_select_type() != h5s.SEL_HYPERSLABS:
        return 0
    if not space.is_regular_hyperslab():
        return int(space.get_select_hyper_nblocks()) - 1
    _, strides, counts, blocks = space.get_regular_hyperslab()
    if h5s.UNLIMITED in (*counts, *blocks):
        raise ValueError(
            "this virtual dataset grows with its sources, so a missing one would go unnoticed; "
            "give it a fixed size, or name its sources as the pool"
        )
    sizes = zip(strides, counts, blocks, strict=True)
    return int(math.prod(count for stride, count, block in sizes if stride != block)) - 1


def _chunks(dataset: Any) -> NDArray[np.int64]:
    """The places [n, dimensions] where the stored chunks of a dataset begin."""
    found: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda chunk: found.append(chunk.chunk_offset))
    return np.array(found, np.int64).reshape(-1, len(dataset.shape))
