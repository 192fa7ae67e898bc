"""A zarr array or group, version 3 or 2, read slice by slice (extra `zarr`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastal.sources.array_file import ArrayFile
from fastal.sources.location import Location
from fastal.sources.reader import Columns, import_optional, naming_file_in_errors
from fastal.sources.zarr_storage import Storage


class ZarrFile(ArrayFile):
    """The arrays of a .zarr folder; see `ArrayFile`.

    Every chunk of an array that is read must be stored; see `Storage`.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        with naming_file_in_errors(file):
            # Made before zarr opens a file: it refuses pipes, which zarr would wait for.
            self._storage: Storage | None = Storage(file)
        super().__init__(file, columns)
        self._storage = None  # its list of files may be long

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        zarr = import_optional(self.file, "zarr", "zarr")
        held = zarr.open(str(self.file), mode="r")
        arrays = {"": held} if isinstance(held, zarr.Array) else dict(held.arrays())
        for array in arrays.values():
            _check_codecs(array.metadata)
        yield arrays

    def _check_stored(self, array: Any) -> None:
        if self._storage is not None:
            self._storage.check(array)


def _check_codecs(metadata: Any) -> None:
    """ValueError if chunks are pickles, which older versions of numcodecs load."""
    codecs = (*(getattr(metadata, "filters", None) or ()), getattr(metadata, "compressor", None))
    if any(getattr(codec, "codec_id", None) == "pickle" for codec in codecs):
        raise ValueError("its chunks are pickles, which may hold code")
