"""A Parquet file, decoded batch by batch (extra `arrow`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow import Layout, Shape, empty_batch, first_shape, pyarrow_for, taken
from fastal.sources.location import Location
from fastal.sources.reader import Columns, naming

# Read of a column in one go, and of all of them: row groups may be larger than memory.
_BUFFER_BYTES, _BUFFERS_BYTES = 1 << 20, 32 << 20
_BATCH_BYTES = 8 << 20  # decoded in one go, which takes several times as much
_FEW_ROWS, _MANY_ROWS = 1 << 8, 1 << 16  # to look for a list in, and to look for ids in


class ParquetFile:
    """Rows of a Parquet file; see `Reader` and `Layout`."""

    in_place = False

    def __init__(self, file: Location, columns: Columns) -> None:
        self.file = file
        self._columns = columns
        pyarrow_for(file)
        with self._opened() as parquet:
            said = parquet.metadata
            counts = [said.row_group(i).num_rows for i in range(said.num_row_groups)]
            if min([*counts, 0]) < 0 or sum(counts) != said.num_rows:
                raise ValueError(f"{said.num_rows} rows, and groups of {counts}")
            self._starts = [0, *accumulate(counts)]
            self.n_rows = self._starts[-1]
            layout = Layout(file, parquet.schema_arrow, columns)
            self.kinds = layout.kinds
            self.names = None if layout.matrix is None else tuple(layout.matrix)
            self.row_shape = layout.row_shape
            if self.row_shape is None and self.names:  # lists: the first says it
                self.row_shape = _first_shape(parquet, self.names[0], layout)
            self.row_bytes = layout.bytes_of(self.row_shape)

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened(len(self.names or "-")) as parquet:
            layout = Layout(self.file, parquet.schema_arrow, self._columns, self.row_shape)
            if parquet.metadata.num_rows != self.n_rows:
                raise ValueError(f"{self.file}: changed while it was being read")
            if start >= self.n_rows:
                empty = empty_batch(parquet.schema_arrow)
                yield start, layout.matrix_of(empty), layout.groups_of(empty)
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
                    yield row - len(kept), layout.matrix_of(kept), layout.groups_of(kept)
            if row != self.n_rows:
                raise ValueError(f"{self.file}: {row:,} rows, where it says {self.n_rows:,}")

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`; reads the column in the row groups that the rows are in."""
        of = np.searchsorted(self._starts, rows, "right") - 1
        with self._opened() as parquet:

            def batches(group: int) -> Iterator[tuple[int, Any]]:
                row = self._starts[group]
                for batch in parquet.iter_batches(_MANY_ROWS, row_groups=[group], columns=[name]):
                    yield row, batch
                    row += len(batch)

            return taken(name, rows, chain.from_iterable(map(batches, np.unique(of).tolist())))

    @contextmanager
    def _opened(self, n_columns: int = 1) -> Iterator[Any]:
        import pyarrow.parquet

        with naming(self.file), self.file.open() as binary:
            yield pyarrow.parquet.ParquetFile(
                binary,
                buffer_size=min(_BUFFER_BYTES, max(1, _BUFFERS_BYTES // n_columns)),
                pre_buffer=False,
                page_checksum_verification=True,
            )


def _first_shape(parquet: Any, name: str, layout: Layout) -> Shape | None:
    """The shape of the first list of a column, as few rows are decoded as their size allows."""
    paths = [parquet.schema.column(i).path for i in range(len(parquet.schema))]
    leaf = next(i for i, path in enumerate(paths) if f"{path}.".startswith(f"{name}."))
    for i in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(i)
        n_bytes = max(1, group.column(leaf).num_values * layout.item_bytes)
        rows = max(1, min(_FEW_ROWS, group.num_rows * _BATCH_BYTES // n_bytes))
        batches = parquet.iter_batches(rows, row_groups=[i], columns=[name])
        if (shape := first_shape(layout, batches)) is not None:
            return shape
    return None
