"""A zarr array or group, version 3 or 2: read slice by slice (extra `zarr`)."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any

from fastal.sources.array_file import ArrayFile
from fastal.sources.reader import optional

_CHUNK = re.compile(r"(?:c[/.])?(\d+)(?:[/.]\d+)*")  # what one is stored as: c/0/0, 0.0 or 0/0


class ZarrFile(ArrayFile):
    """Arrays of a .zarr folder; see `ArrayFile`."""

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        zarr = optional(self.file, "zarr", "zarr")
        held = zarr.open(str(self.file), mode="r")
        arrays = {"": held} if isinstance(held, zarr.Array) else dict(held.arrays())
        for array in arrays.values():
            _check_codecs(array.metadata)
        yield arrays

    def _check(self, matrix: Any) -> None:
        """Chunks of the fill value alone need not be stored; where a row has none, it is lost."""
        if not matrix.size or matrix.fill_value != matrix.fill_value:  # NaN: rows that are missing
            return
        found = {int(row) for row in _stored_rows(matrix)}
        wanted = ceil(matrix.shape[0] / (matrix.shards or matrix.chunks)[0])
        if len(found) < wanted:  # they would be read as zeros: rows that look uncertain
            raise ValueError(f"the chunks of {wanted - len(found):,} of {wanted:,} are missing")


def _stored_rows(array: Any) -> Iterator[str]:
    """Where along the rows the chunks are that are stored."""
    from zarr.core.sync import sync

    prefix = f"{array.path}/" if array.path else ""

    async def keys() -> list[str]:
        return [key async for key in array.store.list_prefix(prefix)]

    for key in sync(keys()):
        if found := _CHUNK.fullmatch(key.removeprefix(prefix)):
            yield found[1]


def _check_codecs(metadata: Any) -> None:
    """ValueError where chunks are pickles, which older versions of numcodecs load."""
    codecs = (*(getattr(metadata, "filters", None) or ()), getattr(metadata, "compressor", None))
    if any(getattr(codec, "codec_id", None) == "pickle" for codec in codecs):
        raise ValueError("its chunks are pickles, which may hold code")
