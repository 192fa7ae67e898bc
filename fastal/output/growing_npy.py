"""A .npy file that grows row by row, and whose writing can be resumed."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.output.atomic import to_disk
from fastal.output.resumable import WrittenPrefix
from fastal.sources.labels import as_integers


class GrowingNpy:
    """A .npy file of rows that are appended; bfloat16 numbers are stored as their bits.

    Args:
        path: the file to make; an existing one is replaced.
        x: rows [n, ...] that give the dtype and the shape of a row. They are not written.

    Attributes:
        dtype: the name of the rows' dtype, such as "float32".
        groups: the group labels of the rows, which the caller appends.
        file: the file, open for writing and reading.
    """

    def __init__(self, path: Path, x: torch.Tensor) -> None:
        self.dtype = dtype_name(x)
        self._shape = tuple(x.shape[1:])
        self._spans: list[list[int]] = []  # in the pool: first row, and row after the last
        self.groups: list[Any] = []
        self.file = new_file(path)
        self._write_header()
        self._first_byte = self.file.tell()
        self._written = WrittenPrefix(self.file, "rows", self._first_byte)

    @classmethod
    def restored(cls, path: Path, state: dict[str, Any]) -> "GrowingNpy":
        """Opens a file again, to continue from what `state_dict` returned.

        Raises:
            ValueError: the file does not hold the rows of this state.
        """
        shard = cls.__new__(cls)
        shard.dtype, shard._shape = state["dtype"], tuple(state["shape"])
        shard._spans, shard.groups = [list(span) for span in state["spans"]], list(state["groups"])
        if not path.is_file() or path.is_symlink() or path.stat().st_nlink > 1:
            raise ValueError(f"{path}: is gone, or a link to another file")
        shard.file = path.open("r+b")
        try:
            shard._first_byte = state["first"]
            shard._written = WrittenPrefix(shard.file, "rows", shard._first_byte)
            shard._written.check(state["bytes"], state["sha256"])
            shard.file.truncate()
        except BaseException:
            shard.file.close()
            raise
        return shard

    @property
    def n_rows(self) -> int:
        """The number of rows so far."""
        return sum(stop - start for start, stop in self._spans)

    def rows(self) -> NDArray[np.int64]:
        """The numbers of the rows in the pool."""
        return np.concatenate([np.arange(*span) for span in [[0, 0], *self._spans]])

    def fits(self, x: torch.Tensor) -> bool:
        """Whether rows have the dtype and shape of those in the file."""
        return (self.dtype, self._shape) == (dtype_name(x), x.shape[1:])

    def append(self, x: torch.Tensor, start: int) -> None:
        """Writes rows, whose numbers in the pool are start, start + 1, ..."""
        self.file.write(_bits(x).contiguous().numpy().tobytes())
        if self._spans and self._spans[-1][1] == start:
            self._spans[-1][1] += len(x)
        else:
            self._spans.append([start, start + len(x)])

    def state_dict(self) -> dict[str, Any]:
        """The state to continue from. All rows so far are on disk on return."""
        n_bytes = self.file.tell()
        return {
            "dtype": self.dtype, "shape": self._shape, "spans": self._spans,
            "groups": self.groups, "first": self._first_byte, "bytes": n_bytes,
            "sha256": self._written.to_disk(n_bytes),
        }  # fmt: skip

    def close(self) -> None:
        """Writes the number of rows into the header, and closes the file, on disk."""
        self.file.seek(0)
        self._write_header()  # its length is the same: NumPy pads it for longer shapes
        to_disk(self.file)
        self.file.close()

    def _write_header(self) -> None:
        dtype = _bits(torch.empty(0, dtype=getattr(torch, self.dtype), device="cpu")).numpy().dtype
        header = {"descr": dtype.str, "fortran_order": False, "shape": (self.n_rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self.file, header)


def save_labels(path: Path, values: Any, column: str) -> None:
    """Writes ids or groups [n] as a .npy file of integers, bools or UTF-8 bytes, on disk.

    Args:
        path: the file to make; an existing one is replaced.
        values: integers, bools or text.
        column: their name, for messages.

    Raises:
        ValueError: some are missing, or cannot be stored without pickling.
    """
    with new_file(path) as file:
        np.save(file, _storable(values, column))
        to_disk(file)


def new_file(path: Path) -> BinaryIO:
    """A new file. An existing one, which a killed run wrote after its last state, is removed."""
    path.unlink(missing_ok=True)
    return path.open("x+b")


def dtype_name(x: torch.Tensor) -> str:
    """The name of a tensor's dtype, such as "float32"."""
    return str(x.dtype).removeprefix("torch.")


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.uint16) if x.dtype == torch.bfloat16 else x


def _storable(labels: Any, column: str) -> NDArray[Any]:
    values: NDArray[Any] = np.asarray(labels)
    if values.dtype.kind in "biu":
        return values
    plain = values.tolist()
    if (integers := as_integers(plain)) is not None:
        return integers
    if all(type(value) is bool for value in plain):
        return np.array(plain)
    if None in plain:
        raise ValueError(f"{column}: some are missing, and .npy has no missing values: fill them")
    for value in plain:
        if not isinstance(value, str):
            raise ValueError(f"{column}: wanted integers of 64 bits or text, got {value!r}")
        if value.endswith("\0"):  # NumPy takes it for padding
            raise ValueError(f"{column}: {value!r} ends in a null character: .npy cannot keep it")
    return np.asarray(np.char.encode(np.array(plain, np.str_), "utf-8"))
