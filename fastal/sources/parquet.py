"""A Parquet file, decoded batch by batch (extra `arrow`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow_columns import empty_batch, first_shape, groups_of, matrix_of, taken
from fastal.sources.arrow_schema import Layout, Shape, pyarrow_for
from fastal.sources.location import Location
from fastal.sources.reader import Columns, naming_file_in_errors

# Read buffers per column, and of all columns together: row groups may be larger than memory.
_BUFFER_BYTES, _BUFFERS_BYTES = 1 << 20, 32 << 20
_BATCH_BYTES = 8 << 20  # of decoded rows per batch; decoding takes several times as much
_SHAPE_ROWS, _LABEL_ROWS = 1 << 8, 1 << 16  # per batch, when searching for a list, or for labels


class ParquetFile:
    """Rows of a Parquet file; see `Reader` and `Layout`."""

    in_place = False

    def __init__(self, file: Location, columns: Columns) -> None:
        self.file = file
        self._columns = columns
        pyarrow_for(file)
        with self._opened() as parquet:
            metadata = parquet.metadata
            counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            if min([*counts, 0]) < 0 or sum(counts) != metadata.num_rows:
                raise ValueError(f"{metadata.num_rows} rows, and row groups of {counts} rows")
            self._starts = [0, *accumulate(counts)]
            self.n_rows = self._starts[-1]
            layout = Layout(file, parquet.schema_arrow, columns)
            self.kinds = layout.kinds
            self.names = None if layout.matrix is None else tuple(layout.matrix)
            self.row_shape = layout.row_shape
            if self.row_shape is None and self.names:  # the first list determines it
                self.row_shape = _first_shape(parquet, self.names[0], layout)
            self.row_bytes = layout.bytes_of(self.row_shape)
            if layout.is_ragged and self.names and self.n_rows:
                n_values = sum(
                    _leaf(parquet, self.names[0], i).num_values for i in range(len(counts))
                )
                self.row_bytes = max(1, n_values * layout.item_bytes // self.n_rows)

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened(len(self.names or "-")) as parquet:
            layout = Layout(self.file, parquet.schema_arrow, self._columns, self.row_shape)
            if parquet.metadata.num_rows != self.n_rows:
                raise ValueError(f"{self.file}: changed while it was being read")
            if start >= self.n_rows:
                empty = empty_batch(parquet.schema_arrow)
                yield start, matrix_of(empty, layout), groups_of(empty, layout)
                return
            rows = min(rows, max(1, _BATCH_BYTES // max(1, self.row_bytes)))
            group = int(np.searchsorted(self._starts, start, "right")) - 1
            row = self._starts[group]
            wanted = range(group, parquet.metadata.num_row_groups)
            for batch in parquet.iter_batches(rows, row_groups=wanted, columns=layout.names):
                skipped = max(0, start - row)
                row += len(batch)
                if skipped < len(batch):
                    kept = batch.slice(skipped)
                    yield row - len(kept), matrix_of(kept, layout), groups_of(kept, layout)
            if row != self.n_rows:
                raise ValueError(
                    f"{self.file}: {row:,} rows, where its footer says {self.n_rows:,}"
                )

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`. Only the row groups that hold the rows are read."""
        groups = np.searchsorted(self._starts, rows, "right") - 1
        with self._opened() as parquet:

            def batches(group: int) -> Iterator[tuple[int, Any]]:
                row = self._starts[group]
                for batch in parquet.iter_batches(_LABEL_ROWS, row_groups=[group], columns=[name]):
                    yield row, batch
                    row += len(batch)

            return taken(name, rows, chain.from_iterable(map(batches, np.unique(groups).tolist())))

    @contextmanager
    def _opened(self, n_columns: int = 1) -> Iterator[Any]:
        import pyarrow.parquet

        with naming_file_in_errors(self.file), self.file.open() as binary:
            yield pyarrow.parquet.ParquetFile(
                binary,
                buffer_size=min(_BUFFER_BYTES, max(1, _BUFFERS_BYTES // n_columns)),
                pre_buffer=False,
                page_checksum_verification=True,
            )


def _first_shape(parquet: Any, name: str, layout: Layout) -> Shape | None:
    """The shape of the first list of a column. Batches are small: one row may be enough."""
    for i in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(i)
        n_bytes = max(1, _leaf(parquet, name, i).num_values * layout.item_bytes)
        rows = max(1, min(_SHAPE_ROWS, group.num_rows * _BATCH_BYTES // n_bytes))
        batches = parquet.iter_batches(rows, row_groups=[i], columns=[name])
        if (shape := first_shape(batches, layout)) is not None:
            return shape
    return None


def _leaf(parquet: Any, name: str, i: int) -> Any:
    """What the footer says of the values of a column in row group i."""
    paths = [parquet.schema.column(i).path for i in range(len(parquet.schema))]
    leaf = next(i for i, path in enumerate(paths) if f"{path}.".startswith(f"{name}."))
    return parquet.metadata.row_group(i).column(leaf)
