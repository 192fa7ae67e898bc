"""The scores of all rows of a pool, written to a file by a reducer."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.output.csv_lines import csv_lines
from fastal.output.resumable import WrittenPrefix
from fastal.scoring.scorer import Confirm, Scorer

Table = NDArray[Any]  # a structured array [n] with a float32 field per score
_FILL_ROWS = 1 << 16  # missing rows per write


class Sink(Protocol):
    """A file that scores are written to."""

    def write(self, start: int, table: Table) -> None:
        """Writes the scores of rows start, start + 1, ..."""

    def finish(self) -> None:
        """Completes the file. Rows that were not written have NaN."""

    def state_dict(self) -> dict[str, Any]:
        """The state to continue from. All rows so far are on disk on return."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state; ValueError if the file does not hold the scores of that state."""


class Written(NamedTuple):
    """What was written.

    Attributes:
        rows: the number of rows.
        invalid: how many of them are invalid; their scores are NaN.
    """

    rows: int
    invalid: int


class ScoreWriter:
    """Writes the scores of each row as they come; O(chunk) memory.

    Args:
        sink: where they go: `NpySink` or `CsvSink`.
        by: the measures to write.
        kind, on_invalid, backend: as for `fastal.Selector`.
    """

    def __init__(
        self,
        sink: Sink,
        by: Sequence[str] = UNCERTAINTY_SCORES,
        *,
        kind: str = "logits",
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        self._sink = sink
        self._by = tuple(by)
        self._scorer = Scorer(self._by, kind=kind, on_invalid=on_invalid, backend=backend)
        self._rows = 0

    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Scores and writes rows start, start + 1, ... (None: where the last chunk ended).

        `confirm` is called before anything of the chunk is written, and may raise.
        """
        first, scores = self._scorer(chunk, start, confirm=confirm)
        table = np.empty(len(scores[0]), table_dtype(self._by))
        for name, column in zip(self._by, scores, strict=True):
            table[name] = column.cpu().numpy()
        self._sink.write(first, table)
        self._rows += len(table)

    def merge(self, other: "ScoreWriter") -> None:
        """Takes in the counts of a writer of other rows, to the same file."""
        self._scorer.merge(other._scorer)
        self._rows += other._rows

    def state_dict(self) -> dict[str, Any]:
        """The counts, and how far the file is written: the scores themselves are in it."""
        return {
            "scorer": self._scorer.state_dict(),
            "rows": self._rows,
            "sink": self._sink.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError where by or kind differ."""
        self._scorer.load_state_dict(state["scorer"])
        self._sink.load_state_dict(state["sink"])
        self._rows = state["rows"]

    def result(self) -> Written:
        """Completes the file. Returns how much was written."""
        self._sink.finish()
        return Written(self._rows, self._scorer.invalid)

    @property
    def backend_used(self) -> str | None:
        """The backend that scored the last chunk."""
        return self._scorer.backend_used


def table_dtype(measures: Sequence[str]) -> np.dtype[Any]:
    """The dtype of a table of scores: a float32 field per measure."""
    return np.dtype([(name, "<f4") for name in measures])


class _FileSink(ABC):
    """A file of scores. Rows that were passed over have NaN.

    Nothing is written before the first scores: the file may hold those of an earlier run, which
    `load_state_dict` checks.
    """

    def __init__(self, file: BinaryIO, n_rows: int, measures: Sequence[str], header: bytes) -> None:
        self._file = file
        self._n_rows = n_rows
        self._dtype = table_dtype(measures)
        self._header = header
        self._has_header = False
        self._next = 0  # all rows before this one are in the file
        self._written = WrittenPrefix(file, "scores")

    def write(self, start: int, table: Table) -> None:
        """See `Sink.write`."""
        if not self._has_header:
            self._file.write(self._header)
            self._has_header = True
        for first in range(self._next, start, _FILL_ROWS):
            self._put(first, _missing(min(_FILL_ROWS, start - first), self._dtype))
        self._put(start, table)
        self._next = max(self._next, start + len(table))

    def finish(self) -> None:
        """See `Sink.finish`."""
        self.write(self._n_rows, np.empty(0, self._dtype))

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
    """

    def __init__(self, file: BinaryIO, n_rows: int, measures: Sequence[str]) -> None:
        header = io.BytesIO()
        of = {"descr": table_dtype(measures).descr, "fortran_order": False, "shape": (n_rows,)}
        np.lib.format.write_array_header_1_0(header, of)
        super().__init__(file, n_rows, measures, header.getvalue())
        self._first_byte = header.tell()

    def _put(self, start: int, table: Table) -> None:
        first_byte = self._first_byte + start * table.itemsize
        self._written.changed_from(first_byte)
        self._file.seek(first_byte)
        self._file.write(table.tobytes())

    def _end(self) -> int:
        return self._first_byte + self._next * self._dtype.itemsize


class CsvSink(_FileSink):
    """Scores as CSV text with a header line: the row, then a column per measure.

    Rows are in the order in which their chunks came.
    """

    def __init__(self, file: BinaryIO, n_rows: int, measures: Sequence[str]) -> None:
        super().__init__(file, n_rows, measures, ",".join(("row", *measures)).encode() + b"\n")

    def _put(self, start: int, table: Table) -> None:
        rows = np.arange(start, start + len(table))
        self._file.writelines(csv_lines(rows, *(table[name] for name in table.dtype.names or ())))

    def _end(self) -> int:
        return self._file.tell()


def _missing(n: int, dtype: np.dtype[Any]) -> Table:
    table = np.empty(n, dtype)
    for name in dtype.names or ():
        table[name] = np.nan
    return table
