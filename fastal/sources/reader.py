"""The protocol of a format: one file as rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import memory_of
from fastal.base.memory_guard import guarded
from fastal.sources.labels import CARRIED, GROUPS, IDS
from fastal.sources.location import Location


class Columns(NamedTuple):
    """Which arrays or columns of a file to read. If a field is empty, the file must have one only.

    Attributes:
        matrix: the array or column of vectors, or several columns (or patterns), one per class.
        ids: the column of ids.
        groups: the column of groups.
        dtype: the dtype of the numbers in a column of plain bytes.
        carried: the columns that the picks carry.
        ragged: whether rows are lists of lists with lengths of their own, as `Items`.
    """

    matrix: tuple[str, ...] = ()
    ids: str | None = None
    groups: str | None = None
    dtype: str | None = None
    carried: tuple[str, ...] = ()
    ragged: bool = False

    @property
    def of_picks(self) -> list[str]:
        """The names of the columns of labels that picks have, of those named here."""
        names = {"id": self.ids, "group": self.groups}
        return [*self.carried, *(name for name, column in names.items() if column)]

    @property
    def label_columns(self) -> list[str]:
        """The names of the columns of ids and groups, and of those that are carried."""
        names = dict.fromkeys((self.ids, self.groups, *self.carried))
        return [name for name in names if name is not None]

    def purpose_of(self, name: str) -> str:
        """What a column of labels is read for; of several purposes, the one that takes fewest."""
        return IDS if name == self.ids else GROUPS if name == self.groups else CARRIED


class ChecksumError(ValueError):
    """The rows of a file do not match its checksum. Rows that were read earlier may be wrong too.

    The checksum is known to be wrong only after its last byte is read.
    """


class FileChangedError(ValueError):
    """A file is not what it was when the pool was opened.

    That is an error even where bad files are skipped: rows that were read may be old and new ones.
    """


class Reader(Protocol):
    """One file of rows. Every error that a reader raises names the file.

    Attributes:
        file: the location of the file.
        names: the array or the columns that are read, in the order of the file. Empty if the format
            has no names. None if the file does not determine which columns to read.
        n_rows: the number of rows.
        row_shape: the shape of a row; of ragged items, of their rows. None if all rows are missing,
            so that the file does not determine the shape; the pool then sets it before the rows
            are read.
        row_bytes: bytes per row, of ragged items the mean; 0 if `row_shape` is None.
        in_place: see `Source.in_place`.
        kinds: the kind of label in each column of labels; see `labels`.
    """

    file: Location
    names: tuple[str, ...] | None
    n_rows: int
    row_shape: tuple[int, ...] | None
    row_bytes: int
    in_place: bool
    kinds: dict[str, str | None]

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """Yields first row, array [n, ...] and group labels, from row `start` on.

        The labels are None if no groups are read. A file without rows yields one empty chunk, so
        that its dtype and shape are checked as well.
        """

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The values of a column in these rows. `rows` is in ascending order."""


@contextmanager
def naming_file_in_errors(file: Location) -> Iterator[None]:
    """Every error raised in the block becomes one line that names the file.

    A TypeError stays a TypeError. An ImportError passes unchanged: the file is not its cause.
    Errors of other types, which come from the libraries that read the formats, become ValueErrors.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        message = str(error)
        is_ours = isinstance(error, (OSError, TypeError, ValueError))
        if is_ours and str(file) in message and "\n" not in message:
            raise
        reason = " ".join(message.split()) or type(error).__name__
        if isinstance(error, TypeError):
            raise TypeError(f"{file}: {reason}") from error
        raise ValueError(f"{file}: no complete {file.suffix} file: {reason}") from error


def import_optional(file: Location, package: str, extra: str) -> Any:
    """Imports a package of an extra.

    Raises:
        ModuleNotFoundError: the package is not installed; the message says how to install it.
    """
    try:
        return import_module(package)
    except ImportError:
        raise ModuleNotFoundError(
            f"{file}: reading it takes {package}: pip install 'fastal[{extra}]'", name=package
        ) from None


@contextmanager
def guarded_memory(memory: Any, name: str) -> Iterator[Callable[[], None]]:
    """Guards mapped memory. Yields a function that raises a ValueError if a page of it was lost."""
    with guarded(memory_of(memory, name)) as guard:

        def check_intact() -> None:
            if guard.broken:
                raise ValueError("cut short, or unreadable, while it was being read")

        yield check_intact


def as_numpy(tensor: torch.Tensor) -> Any:
    """The tensor as a NumPy array; a bfloat16 tensor unchanged, since NumPy has no such dtype."""
    return tensor if tensor.dtype == torch.bfloat16 else tensor.numpy()
