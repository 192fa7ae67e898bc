"""A zarr array or group, version 3 or 2: read slice by slice (extra `zarr`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastal.sources.array_file import ArrayFile
from fastal.sources.reader import needs


class ZarrFile(ArrayFile):
    """Arrays of a .zarr folder; see `ArrayFile`. A chunk that is not there is the fill value."""

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        try:
            import zarr
        except ImportError:
            raise needs(self.file, "zarr", "zarr") from None
        held = zarr.open(str(self.file), mode="r")
        yield {"": held} if isinstance(held, zarr.Array) else dict(held.arrays())
