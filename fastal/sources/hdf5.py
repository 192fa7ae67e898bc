"""An HDF5 file, whose datasets are read slice by slice (extra `hdf5`)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.array_file import ArrayFile
from fastal.sources.hdf5_files import OpenFiles
from fastal.sources.hdf5_storage import Mapped, Storage
from fastal.sources.location import Location
from fastal.sources.reader import Columns, import_optional

_MOST_OPEN = 64  # sources of a virtual dataset that are open at a time
_LEAST_VERSION = (3, 12)  # earlier versions of h5py may read values in other files as zeros
_DEEPEST = 1000  # levels of groups, since names grow with the depth


class Hdf5File(ArrayFile):
    """The datasets of an HDF5 file, by their paths in it; see `ArrayFile`.

    All values that are read must be stored, in this file or in further ones; see `Storage`.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        self._mapped: dict[str, list[Mapped]] = {}
        super().__init__(file, columns)

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        h5py = import_optional(self.file, "h5py", "hdf5")
        if h5py.version.version_tuple[:2] < _LEAST_VERSION:
            raise ImportError(
                f"{self.file}: reading it takes h5py 3.12, this is {h5py.__version__}: "
                "pip install --upgrade 'fastal[hdf5]'"
            )
        with ExitStack() as stack:
            is_remote = self.file.is_remote
            binary = stack.enter_context(self.file.open()) if is_remote else self.file.path
            file = stack.enter_context(h5py.File(binary, "r", locking=None if is_remote else False))
            yield {
                name: _Array(dataset, self._mapped.get(dataset.name, ()))
                for name, dataset in _datasets(file)
            }

    def _check_stored(self, array: Any) -> None:
        storage = Storage(self.file)
        self._mapped[array.name] = storage.check(array.dataset)
        self.file.parts = sorted({*self.file.parts, *storage.files})


class _Array:
    """A dataset with slices along the rows; text is read as str.

    Args:
        dataset: the dataset of h5py.
        mapped: the sources of a virtual dataset.
    """

    def __init__(self, dataset: Any, mapped: Sequence[Mapped]) -> None:
        import h5py

        self._file, self.name = dataset.file, dataset.name
        self.shape, self.chunks = dataset.shape, dataset.chunks
        self._is_text = h5py.check_string_dtype(dataset.dtype) is not None
        self.dtype = np.dtype(object) if self._is_text else dataset.dtype
        self._mapped = mapped
        # As long as a virtual dataset is open, libhdf5 keeps all its sources open, 500 KB each.
        self._kept = None if dataset.is_virtual else dataset

    @property
    def dataset(self) -> Any:
        """The dataset of h5py, opened again if it is virtual."""
        return self._file[self.name] if self._kept is None else self._kept

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Rows as an array of their own."""
        start, stop, _ = rows.indices(self.shape[0])
        if start >= stop:  # of a dataset of many sources, libhdf5 2.0 cannot read zero rows
            return np.empty((0, *self.shape[1:]), self.dtype)
        files = set[Path]().union(
            *(m.files for m in self._mapped if m.first < stop and m.last >= start)
        )
        if len(files) > _MOST_OPEN and stop - start > 1:
            middle = (start + stop) // 2
            return np.concatenate([self[start:middle], self[middle:stop]])
        with OpenFiles() as sources:
            # If libhdf5 cannot open a source, for example because no descriptor is left, it reads
            # zeros. Opening the sources here gives an error instead.
            for path in files:
                sources.open(path)
            if files:
                sources.check_descriptors()
            dataset = self.dataset
            found: NDArray[Any] = (dataset.asstr("utf-8") if self._is_text else dataset)[rows]
            return found


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """The datasets of a file and their names, each once: hard links may form loops."""
    import h5py

    seen = {h5py.h5o.get_info(file.id).addr}
    groups = [("", file, iter(file))]
    while groups:
        prefix, group, names = groups[-1]
        name = next(names, None)
        if name is None:
            groups.pop()
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        place = h5py.h5o.get_info(item.id).addr
        if place in seen:
            continue
        seen.add(place)
        if isinstance(item, h5py.Group):
            if len(groups) == _DEEPEST:
                raise ValueError(f"it has groups nested more than {_DEEPEST:,} deep")
            groups.append((f"{prefix}{name}/", item, iter(item)))
        elif isinstance(item, h5py.Dataset) and item.shape is not None:
            yield prefix + name, item
