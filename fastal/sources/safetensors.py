"""A .safetensors file, whose tensors are mapped.

The format is: eight bytes with the length of a JSON header, the header, the data. It is read here
and not by the library, which copies slices. The library also allows headers of 100 MB, which can
take gigabytes of memory once parsed; the files of pools hold few tensors.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.archive import check_length, unique_keys
from fastal.sources.array_file import BFLOAT16, ArrayFile, LazyArrays
from fastal.sources.location import Location

_DTYPES: dict[str, Any] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16, "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


class SafetensorsFile(ArrayFile):
    """The tensors of a .safetensors file; see `ArrayFile`."""

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        with self.file.open() as file:
            size = file.seek(0, 2)
            file.seek(0)
            n_header = int.from_bytes(file.read(8), "little")
            if not 2 <= n_header <= size - 8:
                raise ValueError(f"it says that its header has {n_header:,} of its {size:,} bytes")
            check_length(f"{self.file}: its header", n_header)
            header = json.loads(file.read(n_header), object_pairs_hook=unique_keys)
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
        header.pop("__metadata__", None)
        data = 8 + n_header
        _check_spans([tensor["data_offsets"] for tensor in header.values()], size - data)
        tensors = {
            name: partial(_mapped, self.file, data, **tensor) for name, tensor in header.items()
        }
        yield LazyArrays(tensors)


def _check_spans(spans: Sequence[tuple[int, int]], n_bytes: int) -> None:
    """ValueError unless the tensors follow each other without a gap up to the end of the file."""
    last = 0
    for begin, end in sorted(spans):
        if begin != last or end < begin:
            raise ValueError(
                f"a tensor is at bytes {begin} to {end}, but the one before it ends at {last}"
            )
        last = end
    if last != n_bytes:
        raise ValueError(f"its tensors have {last:,} bytes, {n_bytes:,} are there")


def _mapped(
    file: Location,
    data: int,
    *,
    dtype: str,
    shape: Sequence[int],
    data_offsets: Sequence[int],
) -> NDArray[Any]:
    """Maps a tensor. `data` is the byte where the data begin, to which the offsets are relative."""
    if dtype not in _DTYPES:
        raise TypeError(f"wanted numbers that torch and NumPy have, got dtype {dtype}")
    kind: np.dtype[Any] = np.dtype(_DTYPES[dtype])
    begin, end = data_offsets
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise ValueError(f"no tensor can have shape {shape}")
    if end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError(f"bytes {begin:,} to {end:,} cannot be {dtype} of shape {shape}")
    if begin == end:  # no bytes can be mapped
        return np.empty(shape, kind)
    return np.memmap(file.path, kind, "r", data + begin, tuple(shape))
