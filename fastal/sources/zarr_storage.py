"""Whether all chunks of a zarr array are stored: zarr reads missing ones as the fill value."""

import math
import operator
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.location import Location
from fastal.sources.walk import walk

_CHUNK = re.compile(r"(?:c[/.])?(\d+(?:[/.]\d+)*)")  # keys of chunks: c/0/0, 0.0 or 0/0
_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
_MOST_METADATA = 16 << 20  # bytes; once parsed, metadata takes many times as much memory
_NOWHERE = np.uint64(2**64 - 1)  # in a shard's index, the place of a chunk that is not stored
_MOST_OVERHEAD = 1 << 20  # the most bytes of a chunk or shard beyond twice its decoded size
_BATCH = 256  # indices of shards that are requested together
_CHECKSUM = 4  # bytes of an index; zarr verifies it when it reads a chunk


class Storage:
    """Checks whether all chunks of an array are stored, including the chunks in shards.

    Unless `write_empty_chunks` is set, zarr does not write chunks that hold only the fill value.
    They look like lost chunks, so they are refused too. If the fill value is NaN, chunks may be
    missing: their rows are invalid, and reported as such. Rows that an array was resized to, in a
    chunk that is stored, look like all others, so they are not found.

    Args:
        file: the folder, or its URL.

    Raises:
        ValueError: a file in it is not regular, or metadata is too long.
    """

    def __init__(self, file: Location) -> None:
        self._file = file
        self._sizes = dict(_remote_sizes(file) if file.is_remote else _local_sizes(file.path))
        for key, size in self._sizes.items():
            if key.rpartition("/")[2] in _METADATA and size > _MOST_METADATA:
                raise ValueError(
                    f"{file}: {key} has {size:,} bytes, wanted metadata of at most "
                    f"{_MOST_METADATA:,} bytes"
                )

    def check(self, array: Any) -> None:
        """ValueError if a chunk of an array is not stored."""
        if not array.size:
            return
        codec = _sharding(array.metadata)
        grid = _grid(array.shape, array.shards or array.chunks)
        keys = self._stored_keys(array, grid)
        self._check_sizes(array, keys.values())
        if array.fill_value != array.fill_value:  # NaN
            return
        wanted = math.prod(grid)
        if len(keys) < wanted:
            first = _place(next(i for i in count() if i not in keys), grid)
            first_key = array.metadata.encode_chunk_key(first)
            raise self._missing(array, wanted - len(keys), wanted, first_key)
        if codec is not None:
            self._check_shards(array, codec, {key: _place(i, grid) for i, key in keys.items()})

    def _stored_keys(self, array: Any, grid: Sequence[int]) -> dict[int, str]:
        """The keys of the array's chunks or shards that are stored, by number in C order."""
        prefix = f"{array.path}/" if array.path else ""
        keys = {}
        for key in self._sizes:
            if key.startswith(prefix) and (match := _CHUNK.fullmatch(key, len(prefix))):
                place = tuple(map(int, re.split("[/.]", match[1])))
                is_inside = len(place) == len(grid) and all(map(operator.lt, place, grid))
                if is_inside and prefix + array.metadata.encode_chunk_key(place) == key:
                    keys[_number(place, grid)] = key
        return keys

    def _check_sizes(self, array: Any, keys: Iterable[str]) -> None:
        """ValueError if a chunk or shard is empty, or much longer than its decoded numbers."""
        most = 2 * math.prod(array.shards or array.chunks) * array.dtype.itemsize + _MOST_OVERHEAD
        for key in keys:
            size = self._sizes[key]
            if not size or (array.dtype.kind in "biuf" and size > most):
                raise ValueError(f"{self._file}: {key} has {size:,} bytes, which is no chunk")

    def _check_shards(self, array: Any, codec: Any, keys: dict[str, tuple[int, ...]]) -> None:
        """ValueError if a chunk in a shard is not stored, or lies beyond the end of the shard."""
        shape = tuple(n // m for n, m in zip(array.shards, array.chunks, strict=True))
        grid = _grid(array.shape, array.chunks)
        lost, first = 0, ""
        for key, index in zip(keys, self._indices(codec, shape, list(keys)), strict=True):
            # The last shards may have chunks outside the array, which are not stored.
            places = zip(grid, keys[key], shape, strict=True)
            inside = tuple(slice(n - place * m) for n, place, m in places)
            start, n_bytes = np.moveaxis(index[inside], -1, 0)
            is_there = start != _NOWHERE
            room = np.uint64(self._sizes[key]) - np.minimum(start, np.uint64(self._sizes[key]))
            if (is_there & ((n_bytes == 0) | (n_bytes > room))).any():
                raise ValueError(f"{self._file}: {key} is cut short, or damaged")
            if not is_there.all():
                lost, first = lost + int((~is_there).sum()), first or key
        if lost:
            raise self._missing(array, lost, math.prod(grid), f"in {first}")

    def _missing(self, array: Any, lost: int, wanted: int, first: str) -> ValueError:
        name = f" of {array.path!r}" if array.path else ""
        return ValueError(
            f"{self._file}: {lost:,} of {wanted:,} chunks{name} are missing (the first: {first}). "
            f"zarr does not write chunks that hold only {array.fill_value}: to have them written, "
            "set array.write_empty_chunks in zarr.config, open the array and assign a[:] = a[:]"
        )

    def _indices(
        self, codec: Any, shape: tuple[int, ...], keys: list[str]
    ) -> Iterator[NDArray[np.uint64]]:
        """The index of each shard: the offset and the length [..., 2] of each of its chunks."""
        dtype = np.dtype("<u8" if codec.index_codecs[0].endian.value == "little" else ">u8")
        n_index = 2 * math.prod(shape) * dtype.itemsize
        n_bytes = n_index + _CHECKSUM * (len(codec.index_codecs) - 1)
        for key in keys:
            if self._sizes[key] < n_bytes:
                raise ValueError(f"{self._file}: {key} is cut short")
        is_first = codec.index_location.value == "start"
        for batch in (keys[i : i + _BATCH] for i in range(0, len(keys), _BATCH)):
            starts = [0 if is_first else self._sizes[key] - n_bytes for key in batch]
            for found in _read(self._file, batch, starts, n_index):
                yield np.frombuffer(found, dtype).reshape(*shape, 2)


def _local_sizes(root: Path) -> Iterator[tuple[str, int]]:
    """The keys of all files of a folder, and their sizes; broken links are passed over."""
    for folder, _, names in walk(root):
        prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 (pathlib is slow for many files)
            try:
                status = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                if os.path.islink(path):  # noqa: PTH114
                    continue
                raise
            if not S_ISREG(status.st_mode):
                raise ValueError(f"{path}: not a regular file")
            yield prefix + name, status.st_size


def _remote_sizes(file: Location) -> Iterator[tuple[str, int]]:
    """The keys of all files behind a URL, and their sizes."""
    fs, path = file.remote
    for name, info in fs.find(path, detail=True).items():
        if info["type"] == "other":
            raise ValueError(f"{file}: {name} is not a regular file")
        yield name.removeprefix(path.rstrip("/") + "/"), info["size"]


def _read(file: Location, keys: list[str], starts: list[int], n_bytes: int) -> Iterator[bytes]:
    """The next `n_bytes` bytes of each of these files, from the byte in `starts` on."""
    if file.is_remote:
        fs, path = file.remote
        names = [f"{path}/{key}" for key in keys]
        yield from fs.cat_ranges(
            names, starts, [start + n_bytes for start in starts], on_error="raise"
        )
        return
    for key, start in zip(keys, starts, strict=True):
        with (file.path / key).open("rb") as held:
            held.seek(start)
            yield held.read(n_bytes)


def _sharding(metadata: Any) -> Any:
    """The codec that puts chunks into shards; None if the array has no shards."""
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

    codecs = getattr(metadata, "codecs", ())  # version 2 has no shards
    codec = next((codec for codec in codecs if isinstance(codec, ShardingCodec)), None)
    if codec is None:
        return None
    is_plain = len(codecs) == 1 and not any(isinstance(c, ShardingCodec) for c in codec.codecs)
    index = [type(c) for c in codec.index_codecs]
    if not is_plain or index not in ([BytesCodec], [BytesCodec, Crc32cCodec]):
        raise ValueError(
            "its shards are encoded as a whole or hold shards: neither can be checked, so neither "
            "is read"
        )
    return codec


def _grid(shape: Sequence[int], chunks: Sequence[int]) -> tuple[int, ...]:
    """The number of chunks along each axis."""
    return tuple(-(-n // m) for n, m in zip(shape, chunks, strict=True))


def _number(place: Sequence[int], grid: Sequence[int]) -> int:
    """The number of a chunk in C order, from its place along each axis."""
    number = 0
    for i, n in zip(place, grid, strict=True):
        number = number * n + i
    return number


def _place(number: int, grid: Sequence[int]) -> tuple[int, ...]:
    """The place of a chunk along each axis, from its number in C order."""
    place = []
    for n in reversed(grid):
        number, i = divmod(number, n)
        place.append(i)
    return tuple(reversed(place))
