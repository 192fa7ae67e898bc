"""The scores, or other values, of all rows of a pool, written to a file by a reducer."""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.checks import check_same
from fastal.base.reducer import Pending, RowStart
from fastal.output.csv_lines import csv_lines
from fastal.output.resumable import WrittenPrefix
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.sources.row_ids import RowIds

Table = NDArray[Any]  # a structured array [n] with a field per score or other value
_FILL_ROWS = 1 << 16  # missing rows per write


class Sink(Protocol):
    """A file that scores are written to.

    Attributes:
        dtype: the fields of a table: a field of floats has NaN for missing rows, one of integers
            has -1.
    """

    dtype: np.dtype[Any]

    def opened(self, file: BinaryIO) -> AbstractContextManager[None]:
        """A context in which scores are written to a file."""

    def write(self, start: int, table: Table) -> None:
        """Writes the scores of rows start, start + 1, ..."""

    def finish(self) -> None:
        """Completes the file. Rows that were not written have NaN or -1."""

    def state_dict(self) -> dict[str, Any]:
        """The state to continue from. All rows so far are on disk on return."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state; ValueError if the file does not hold the scores of that state."""


class Written(NamedTuple):
    """What was written.

    Attributes:
        rows: the number of rows.
        invalid: how many of them are invalid; their scores are NaN, their clusters -1.
    """

    rows: int
    invalid: int


class ScoreWriter(ScoringReducer[Written]):
    """Writes the scores of each row as chunks come; O(chunk) memory.

    Args:
        sink: where the scores go.
        measure: its scores are written, one column for each name.
        options: how the measure is applied.
    """

    reads_gaps = False

    def __init__(self, sink: Sink, measure: Measure, options: ScoringOptions) -> None:
        super().__init__(measure, options)
        self._sink = sink
        self._rows = 0

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Scores rows; see `Reducer.look`. Nothing is written before the chunk is committed."""
        rows = self._prepare(chunk, start)
        columns, n_invalid = self.columns(rows)
        table = np.empty(len(rows.numbers), self._sink.dtype)
        for name, column in zip(table.dtype.names or (), columns, strict=True):
            table[name] = column.cpu().numpy()

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: columns[-1])
            self._sink.write(rows.start, table)
            self._rows += len(table)

        return Pending(commit)

    def columns(self, rows: Rows) -> tuple[list[Tensor], int]:
        """What is written of the rows, a tensor [n] for each field, and how many are invalid.

        The last tensor is one of floats, NaN for invalid rows.
        """
        return self._scorer.scores(rows)

    def part(self) -> "ScoreWriter":
        """A writer that has read no rows and keeps the scores in memory; see `merge`."""
        part = self._unread()
        part._sink, part._rows = KeptTables(self._sink.dtype), 0
        return part

    def merge(self, other: "ScoreWriter") -> None:
        """Writes what a part has scored.

        Text files have the rows in the order of merging. Parquet files need parts in row order.
        """
        self._check_mergeable(other)
        if not isinstance(other._sink, KeptTables):
            raise TypeError("merge: wanted a part of this writer, got a writer with its own file")
        self._scorer.merge(other._scorer)
        for start, table in other._sink.tables:
            self._sink.write(start, table)
        self._rows += other._rows

    def result(self) -> Written:
        """How much was written; rows that are missing are filled in."""
        self._sink.finish()
        return Written(self._rows, self.invalid)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues the file; ValueError if the arguments differ, or, named, the file does."""
        check_same(self.identity(), state["identity"], "the state")
        self._restore(state)

    def _state(self) -> dict[str, Any]:
        """The counts, and how far the file is written: the scores themselves are in it."""
        return {**super()._state(), "rows": self._rows, "sink": self._sink.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._sink.load_state_dict(state["sink"])
        self._rows = state["rows"]


def table_dtype(measures: Sequence[str]) -> np.dtype[Any]:
    """The dtype of a table of scores: a float32 field per measure."""
    return np.dtype([(name, "<f4") for name in measures])


class KeptTables:
    """Scores in memory, until another process writes them; see `Sink`.

    Args:
        dtype: see `Sink`.

    Attributes:
        tables: pairs of a first row and the scores from that row on.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.tables: list[tuple[int, Table]] = []

    def opened(self, file: BinaryIO) -> AbstractContextManager[None]:  # noqa: ARG002
        """See `Sink.opened`; there is nothing to open."""
        return nullcontext()

    def write(self, start: int, table: Table) -> None:
        """See `Sink.write`."""
        self.tables.append((start, table))

    def finish(self) -> None:
        """See `Sink.finish`; there is nothing to complete."""

    def state_dict(self) -> dict[str, Any]:
        """See `Sink.state_dict`."""
        return {"tables": self.tables}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sink.load_state_dict`."""
        self.tables = list(state["tables"])


class _FileSink(ABC):
    """A file of scores. Rows that were passed over have NaN or -1.

    Nothing is written before the first scores: the file may hold those of an earlier run, which
    `load_state_dict` checks.
    """

    def __init__(self, n_rows: int, dtype: np.dtype[Any], what: str, header: bytes) -> None:
        self.dtype = dtype
        self._n_rows = n_rows
        self._what = what
        self._header = header
        self._has_header = False
        self._next = 0  # all rows before this one are in the file

    @contextmanager
    def opened(self, file: BinaryIO) -> Iterator[None]:
        """See `Sink.opened`."""
        self._file = file
        self._written = WrittenPrefix(file, self._what)
        yield

    def write(self, start: int, table: Table) -> None:
        """See `Sink.write`."""
        if not self._has_header:
            self._file.write(self._header)
            self._has_header = True
        for first in range(self._next, start, _FILL_ROWS):
            self._put(first, missing(min(_FILL_ROWS, start - first), self.dtype))
        self._put(start, table)
        self._next = max(self._next, start + len(table))

    def finish(self) -> None:
        """See `Sink.finish`."""
        self.write(self._n_rows, np.empty(0, self.dtype))

    def state_dict(self) -> dict[str, Any]:
        """See `Sink.state_dict`."""
        n_bytes = self._end()
        return {"next": self._next, "bytes": n_bytes, "sha256": self._written.to_disk(n_bytes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sink.load_state_dict`."""
        self._written.check(state["bytes"], state["sha256"])
        self._file.truncate()
        self._next, self._has_header = state["next"], True

    @abstractmethod
    def _put(self, start: int, table: Table) -> None:
        """Writes the scores of rows start, start + 1, ..."""

    @abstractmethod
    def _end(self) -> int:
        """The number of bytes of the file up to the last row so far."""


class NpySink(_FileSink):
    """Scores as a .npy file: a structured array [n_rows], read by np.load(path)["margin"].

    Each row is written to its own place, so chunks may come in any order.

    Args:
        n_rows: the number of rows of the pool.
        dtype: see `Sink`.
        what: what the file holds, for messages.
    """

    def __init__(self, n_rows: int, dtype: np.dtype[Any], what: str = "scores") -> None:
        header = io.BytesIO()
        of = {"descr": dtype.descr, "fortran_order": False, "shape": (n_rows,)}
        np.lib.format.write_array_header_1_0(header, of)
        super().__init__(n_rows, dtype, what, header.getvalue())
        self._first_byte = header.tell()

    def _put(self, start: int, table: Table) -> None:
        first_byte = self._first_byte + start * table.itemsize
        self._written.changed_from(first_byte)
        self._file.seek(first_byte)
        self._file.write(table.tobytes())

    def _end(self) -> int:
        return self._first_byte + self._next * self.dtype.itemsize


class CsvSink(_FileSink):
    """Scores as CSV text with a header line: the row, its id, then a column per field.

    Rows are in the order in which their chunks came.

    Args:
        n_rows: as for `NpySink`.
        dtype: as for `NpySink`.
        what: as for `NpySink`.
        ids: reads the ids of the rows; None: there is no column of ids.
    """

    def __init__(
        self, n_rows: int, dtype: np.dtype[Any], what: str = "scores", ids: RowIds | None = None
    ) -> None:
        names = "row", *(("id",) if ids else ()), *(dtype.names or ())
        super().__init__(n_rows, dtype, what, ",".join(names).encode() + b"\n")
        self._ids = ids

    def _put(self, start: int, table: Table) -> None:
        columns = [np.arange(start, start + len(table))]
        if self._ids is not None:
            columns.append(self._ids.of(start, len(table)))
        columns += [table[name] for name in table.dtype.names or ()]
        self._file.writelines(csv_lines(*columns))

    def _end(self) -> int:
        return self._file.tell()


def missing(n: int, dtype: np.dtype[Any]) -> Table:
    """A table of rows that are missing: NaN, or -1 in fields of integers."""
    table = np.empty(n, dtype)
    for name in dtype.names or ():
        table[name] = np.nan if dtype[name].kind == "f" else -1
    return table
