"""What a zarr folder holds of its arrays: zarr reads missing chunks as the fill value."""

import math
import operator
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.location import Location

_CHUNK = re.compile(r"(?:c[/.])?(\d+(?:[/.]\d+)*)")  # what one is stored as: c/0/0, 0.0 or 0/0
_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
_MOST_METADATA = 16 << 20  # bytes: parsed, it takes many times as much
_NOWHERE = np.uint64(2**64 - 1)  # where the index of a shard places a chunk that is not stored
_MOST_BESIDE = 1 << 20  # bytes of a chunk's or a shard's file beside twice its numbers
_AT_A_TIME = 256  # indices of shards that are asked for together
_CHECKSUM = 4  # bytes; zarr looks at it when it reads


class Storage:
    """The files of a zarr folder, of which only regular ones are let pass.

    Every chunk must be stored, within shards too. zarr leaves out chunks of the fill value alone
    unless `write_empty_chunks` is set, and these cannot be told from lost ones. Where the fill
    value is NaN, chunks may be missing: such rows are invalid, and reported as that. Rows that an
    array was grown by within a chunk that is stored cannot be told from others.

    Args:
        file: the folder, or its URL.

    Raises:
        ValueError: a file is no regular one, or metadata is too long.
    """

    def __init__(self, file: Location) -> None:
        self._file = file
        self._sizes = dict(_remote(file) if file.is_remote else _local(file.path))
        for key, size in self._sizes.items():
            if key.rpartition("/")[2] in _METADATA and size > _MOST_METADATA:
                raise ValueError(f"{file}: {key} has {size:,} bytes, wanted metadata")

    def check(self, array: Any) -> None:
        """ValueError where a chunk of an array is not stored."""
        if not array.size:
            return
        codec = _sharding(array.metadata)
        grid = _grid(array.shape, array.shards or array.chunks)
        keys = self._find(array, grid)
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

    def _find(self, array: Any, grid: Sequence[int]) -> dict[int, str]:
        """The keys of an array's chunks, or shards, that are stored; by number in C order."""
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
        """ValueError where a chunk, or shard, is empty, or much longer than its numbers."""
        most = 2 * math.prod(array.shards or array.chunks) * array.dtype.itemsize + _MOST_BESIDE
        for key in keys:
            size = self._sizes[key]
            if not size or (array.dtype.kind in "biuf" and size > most):
                raise ValueError(f"{self._file}: {key} has {size:,} bytes, which is no chunk")

    def _check_shards(self, array: Any, codec: Any, keys: dict[str, tuple[int, ...]]) -> None:
        """ValueError where a chunk within a shard is not stored, or not in what there is of it."""
        shape = tuple(n // m for n, m in zip(array.shards, array.chunks, strict=True))
        grid = _grid(array.shape, array.chunks)
        lost, first = 0, ""
        for key, index in zip(keys, self._indices(codec, shape, list(keys)), strict=True):
            # Of the last shards, chunks outside the array are not stored.
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
            f"Those of {array.fill_value} alone are left out by zarr: to have them written, set "
            "array.write_empty_chunks in zarr.config, open the array and assign a[:] = a[:]"
        )

    def _indices(
        self, codec: Any, shape: tuple[int, ...], keys: list[str]
    ) -> Iterator[NDArray[np.uint64]]:
        """What each shard says of its chunks: where they begin, and how many bytes they have."""
        dtype = np.dtype("<u8" if codec.index_codecs[0].endian.value == "little" else ">u8")
        n_index = 2 * math.prod(shape) * dtype.itemsize
        n_bytes = n_index + _CHECKSUM * (len(codec.index_codecs) - 1)
        for key in keys:
            if self._sizes[key] < n_bytes:
                raise ValueError(f"{self._file}: {key} is cut short")
        is_first = codec.index_location.value == "start"
        for few in (keys[i : i + _AT_A_TIME] for i in range(0, len(keys), _AT_A_TIME)):
            starts = [0 if is_first else self._sizes[key] - n_bytes for key in few]
            for found in _read(self._file, few, starts, n_index):
                yield np.frombuffer(found, dtype).reshape(*shape, 2)


def _local(root: Path) -> Iterator[tuple[str, int]]:
    """All files of a folder, by name in it, and their sizes; each folder once."""
    folders, seen = [(str(root), "")], set()
    while folders:
        folder, prefix = folders.pop()
        status = os.stat(folder)  # noqa: PTH116 (of many)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_file():
                    yield prefix + entry.name, entry.stat().st_size
                elif not entry.is_symlink() or os.path.exists(entry.path):  # noqa: PTH110
                    raise ValueError(f"{entry.path}: not a regular file")


def _remote(file: Location) -> Iterator[tuple[str, int]]:
    """All files behind a URL, by name there, and their sizes."""
    fs, path = file.remote
    for name, info in fs.find(path, detail=True).items():
        if info["type"] == "other":
            raise ValueError(f"{file}: {name} is not a regular file")
        yield name.removeprefix(path.rstrip("/") + "/"), info["size"]


def _read(file: Location, keys: list[str], starts: list[int], n_bytes: int) -> Iterator[bytes]:
    """As many bytes of each of these files, from a place in it on."""
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
    """The codec that puts chunks into shards; None: there is none."""
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

    codecs = getattr(metadata, "codecs", ())  # version 2 has none such
    codec = next((codec for codec in codecs if isinstance(codec, ShardingCodec)), None)
    if codec is None:
        return None
    is_plain = len(codecs) == 1 and not any(isinstance(c, ShardingCodec) for c in codec.codecs)
    index = [type(c) for c in codec.index_codecs]
    if not is_plain or index not in ([BytesCodec], [BytesCodec, Crc32cCodec]):
        raise ValueError("its shards are encoded as a whole, or hold shards, which is not read")
    return codec


def _grid(shape: Sequence[int], chunks: Sequence[int]) -> tuple[int, ...]:
    """How many chunks there are along each axis."""
    return tuple(-(-n // m) for n, m in zip(shape, chunks, strict=True))


def _number(place: Sequence[int], grid: Sequence[int]) -> int:
    number = 0
    for i, n in zip(place, grid, strict=True):
        number = number * n + i
    return number


def _place(number: int, grid: Sequence[int]) -> tuple[int, ...]:
    place = []
    for n in reversed(grid):
        number, i = divmod(number, n)
        place.append(i)
    return tuple(reversed(place))
