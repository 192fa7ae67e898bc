"""An HDF5 file: its datasets, read slice by slice (extra `hdf5`)."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import ceil, prod
from typing import Any

from fastal.sources.array_file import ArrayFile
from fastal.sources.reader import optional


class Hdf5File(ArrayFile):
    """Datasets of an HDF5 file, named by their paths in it; see `ArrayFile`."""

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        h5py = optional(self.file, "h5py", "hdf5")
        with ExitStack() as stack:
            is_remote = self.file.is_remote
            binary = stack.enter_context(self.file.open()) if is_remote else self.file.path
            file = stack.enter_context(h5py.File(binary, "r", locking=None if is_remote else False))
            datasets = {}

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and item.shape is not None:
                    is_text = h5py.check_string_dtype(item.dtype) is not None
                    datasets[name] = item.asstr("utf-8") if is_text else item

            file.visititems(visit)
            yield datasets

    def _check(self, matrix: Any) -> None:
        if matrix.is_virtual or matrix.external or not matrix.size:
            return
        if matrix.chunks:
            found = matrix.id.get_num_chunks()
            wanted = prod(ceil(n / m) for n, m in zip(matrix.shape, matrix.chunks, strict=True))
        else:
            found, wanted = int(matrix.id.get_storage_size() > 0), 1
        if found < wanted:  # they would be read as zeros: rows that look uncertain
            raise ValueError(f"{wanted - found:,} of {wanted:,} chunks were never written")
