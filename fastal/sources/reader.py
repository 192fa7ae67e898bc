"""What a format has to offer: one file as rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import memory_of
from fastal.base.guard import guarded
from fastal.sources.location import Location


class Columns(NamedTuple):
    """What to read of files that hold more than one array or column; empty: what there is.

    Attributes:
        matrix: the array or column of vectors, or several columns (or patterns), one a class.
        ids: the column of ids.
        groups: the column of groups.
        dtype: what a column of plain bytes holds.
    """

    matrix: tuple[str, ...] = ()
    ids: str | None = None
    groups: str | None = None
    dtype: str | None = None

    @property
    def beside(self) -> list[str]:
        """The columns beside the matrix."""
        return [name for name in (self.ids, self.groups) if name is not None]


class Damaged(ValueError):  # noqa: N818  (a finding about a file)
    """Rows of a file are not what its checksum says: perhaps also some that were given before."""


class Reader(Protocol):
    """One file of rows. Every error that it raises names the file.

    Attributes:
        file: where it is.
        names: of the array or the columns that are read, in their order; empty where the format
            has none. None: nothing in the file tells which they are.
        n_rows: how many rows it has.
        row_shape: the shape of a row. None: nothing in the file tells, since all its rows are
            missing; whoever knows the shape sets it before they are read.
        row_bytes: how many a row has; 0 where `row_shape` is None.
        in_place: see `Source.in_place`.
    """

    file: Location
    names: tuple[str, ...] | None
    n_rows: int
    row_shape: tuple[int, ...] | None
    row_bytes: int
    in_place: bool
    kinds: dict[str, str | None]  # of the columns of ids and groups; see `labels`

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """First row, array [n, ...] and group labels (None: not asked for), from row `start` on.

        A file without rows is one empty chunk, so that it is checked as well.
        """

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The values of a column in these rows, which ascend."""


@contextmanager
def naming(file: Location) -> Iterator[None]:
    """Has every error of the block name the file, in one line, whatever library it comes from."""
    try:
        yield
    except ImportError:  # not the file's fault
        raise
    except Exception as error:
        says = str(error)
        is_ours = isinstance(error, (OSError, TypeError, ValueError))
        if is_ours and str(file) in says and "\n" not in says:
            raise
        reason = " ".join(says.split()) or type(error).__name__
        if isinstance(error, TypeError):
            raise TypeError(f"{file}: {reason}") from error
        raise ValueError(f"{file}: no complete {file.suffix} file: {reason}") from error


def optional(file: Location, package: str, extra: str) -> Any:
    """A package of an extra; ModuleNotFoundError with what to install where it is missing."""
    try:
        return import_module(package)
    except ImportError:
        raise ModuleNotFoundError(
            f"{file}: reading it takes {package}: pip install 'fastal[{extra}]'", name=package
        ) from None


@contextmanager
def watched(memory: Any, name: str) -> Iterator[Callable[[], None]]:
    """A guard over mapped memory: the function raises a ValueError if a page of it was lost."""
    with guarded(memory_of(memory, name)) as guard:

        def stands() -> None:
            if guard.broken:
                raise ValueError("cut short, or unreadable, while it was being read")

        yield stands
