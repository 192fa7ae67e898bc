"""The values of all rows of a pool as a Parquet file, written as they come (extra `arrow`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from fastal.output.score_files import Table, missing
from fastal.sources.row_ids import RowIds

_GROUP_ROWS = 1 << 17  # per row group: a chunk may have few rows


class ParquetSink:
    """A Parquet file with a column per field, written chunk by chunk in row order; see `Sink`.

    It cannot be continued, since readers need its end.

    Args:
        n_rows: the number of rows of the pool.
        dtype: see `Sink`.
        ids: reads the ids of the rows; None: there is no column of ids.
    """

    def __init__(self, n_rows: int, dtype: np.dtype[Any], ids: RowIds | None = None) -> None:
        self.dtype = dtype
        self._n_rows = n_rows
        self._ids = ids
        self._next = 0
        self._held: list[Any] = []

    @contextmanager
    def opened(self, file: BinaryIO) -> Iterator[None]:
        """See `Sink.opened`."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        names = self.dtype.names or ()
        fields = [("row", pa.int64())]
        if self._ids is not None:
            fields.append(("id", pa.int64() if self._ids.are_integers else pa.string()))
        fields += [(name, pa.from_numpy_dtype(self.dtype[name])) for name in names]
        self._schema = pa.schema(fields)
        with ParquetWriter(file, self._schema) as self._writer:
            yield

    def write(self, start: int, table: Table) -> None:
        """See `Sink.write`."""
        for first in range(self._next, start, _GROUP_ROWS):
            self._put(first, missing(min(_GROUP_ROWS, start - first), self.dtype))
        self._put(start, table)
        self._next = start + len(table)

    def finish(self) -> None:
        """See `Sink.finish`."""
        self.write(self._n_rows, np.empty(0, self.dtype))
        self._flush()

    def state_dict(self) -> dict[str, Any]:
        """Refused: see the class."""
        raise ValueError("out: a Parquet file cannot be continued")

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Refused: see the class."""
        raise ValueError("out: a Parquet file cannot be continued")

    def _put(self, start: int, table: Table) -> None:
        import pyarrow as pa

        columns = [np.arange(start, start + len(table))]
        if self._ids is not None:
            columns.append(self._ids.of(start, len(table)))
        columns += [table[name] for name in table.dtype.names or ()]
        try:
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, self._schema, strict=True)
            ]
        except OverflowError as error:
            raise ValueError(f"out: ids beyond 2^63 - 1 need a .csv file: {error}") from error
        self._held.append(pa.table(arrays, schema=self._schema))
        if sum(map(len, self._held)) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held:
            self._writer.write_table(pa.concat_tables(self._held).combine_chunks())
        self._held = []
