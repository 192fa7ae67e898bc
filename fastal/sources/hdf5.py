"""An HDF5 file: its datasets, read slice by slice (extra `hdf5`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastal.sources.array_file import ArrayFile
from fastal.sources.reader import needs


class Hdf5File(ArrayFile):
    """Datasets of an HDF5 file, named by their paths in it; see `ArrayFile`."""

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        try:
            import h5py
        except ImportError:
            raise needs(self.file, "h5py", "hdf5") from None
        with self.file.open() as binary, h5py.File(binary, "r") as file:
            datasets = {}

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    is_text = h5py.check_string_dtype(item.dtype) is not None
                    datasets[name] = item.asstr() if is_text else item

            file.visititems(visit)
            yield datasets
