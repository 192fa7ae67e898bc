"""All scores of a pool as a reducer: its result is a file."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.outputs import csv_lines
from fastal.scorer import Scorer
from fastal.scores import MEASURES

Table = NDArray[Any]  # structured, a float32 field a measure
Sink = Callable[[int, Table], None]


class Written(NamedTuple):
    """What was written: rows, and how many of them are invalid (their scores are NaN)."""

    rows: int
    invalid: int


class ScoreWriter:
    """Writes the scores of each row as they come; O(chunk) memory.

    Args:
        sink: takes the number of a first row and the scores of the rows from there on: `npy_sink`,
            where rows end up in their places, or `csv_sink`, in the order of their chunks.
        by: the measures to write.
        kind, on_invalid, backend: as for `fastal.Selector`.
    """

    def __init__(
        self,
        sink: Sink,
        by: Sequence[str] = MEASURES,
        *,
        kind: str = "logits",
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        self._sink = sink
        self._by = tuple(by)
        self._scorer = Scorer(by, kind=kind, on_invalid=on_invalid, backend=backend)
        self._rows = 0

    def update(self, chunk: Any, start: int | None = None) -> None:
        """Scores and writes rows start, start + 1, ... (None: where the last chunk ended)."""
        first, scores = self._scorer(chunk, start)
        table = np.empty(len(scores[0]), table_dtype(self._by))
        for name, column in zip(self._by, scores, strict=True):
            table[name] = column.cpu().numpy()
        self._sink(first, table)
        self._rows += len(table)

    def merge(self, other: "ScoreWriter") -> None:
        """Takes in the counts of a writer of other rows, to the same file."""
        self._scorer.merge(other._scorer)
        self._rows += other._rows

    def state_dict(self) -> dict[str, Any]:
        """The counts; the scores themselves are in the file."""
        return {"scorer": self._scorer.state_dict(), "rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError where by or kind differ."""
        self._scorer.load_state_dict(state["scorer"])
        self._rows = state["rows"]

    def result(self) -> Written:
        """How much was written."""
        return Written(self._rows, self._scorer.invalid)

    @property
    def backend_used(self) -> str | None:
        """The backend that scored the last chunk."""
        return self._scorer.backend_used


def table_dtype(measures: Sequence[str]) -> np.dtype[Any]:
    """A float32 field a measure."""
    return np.dtype([(name, "<f4") for name in measures])


def npy_sink(file: BinaryIO, n_rows: int, measures: Sequence[str]) -> Sink:
    """A sink into a .npy file: a structured array [n_rows], np.load(path)["margin"] and so on."""
    header = {"descr": table_dtype(measures).descr, "fortran_order": False, "shape": (n_rows,)}
    np.lib.format.write_array_header_1_0(file, header)
    first_byte = file.tell()

    def write(start: int, table: Table) -> None:
        file.seek(first_byte + start * table.itemsize)
        file.write(table.tobytes())

    return write


def csv_sink(file: BinaryIO, measures: Sequence[str]) -> Sink:
    """A sink into CSV text with a header line: row, then a column a measure."""
    file.write(",".join(("row", *measures)).encode() + b"\n")

    def write(start: int, table: Table) -> None:
        rows = np.arange(start, start + len(table))
        file.writelines(csv_lines(rows, *(table[name] for name in measures)))

    return write
