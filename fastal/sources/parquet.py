"""A Parquet file, decoded batch by batch (extra `arrow`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow import Layout, column_values, empty_batch, pyarrow_for
from fastal.sources.location import Location
from fastal.sources.reader import Columns, naming

_BUFFER_BYTES = 1 << 20  # read of a column in one go: row groups may be larger than memory


class ParquetFile:
    """Rows of a Parquet file; see `Reader` and `Layout`."""

    in_place = False

    def __init__(self, file: Location, columns: Columns) -> None:
        self.file = file
        self._columns = columns
        pyarrow_for(file)
        with self._opened() as parquet:
            groups = parquet.metadata
            counts = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
            self._starts = [0, *accumulate(counts)]
            self.n_rows = self._starts[-1]
            layout = Layout(file, parquet.schema_arrow, columns)
            n_classes = layout.n_classes
            if n_classes is None and self.n_rows:  # lists: the first row says it
                first = next(parquet.iter_batches(1, columns=layout.names))
                n_classes = layout.matrix_of(first).shape[1]
            self.row_shape: tuple[int, ...] | None = None if n_classes is None else (n_classes,)
            self.row_bytes = (n_classes or 0) * layout.item_bytes

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened() as parquet:
            layout = Layout(self.file, parquet.schema_arrow, self._columns)
            if parquet.metadata.num_rows != self.n_rows:
                raise ValueError(f"{self.file}: changed while it was being read")
            if start >= self.n_rows:
                empty = empty_batch(parquet.schema_arrow)
                yield start, layout.matrix_of(empty), layout.groups_of(empty)
                return
            group = int(np.searchsorted(self._starts, start, "right")) - 1
            row = self._starts[group]
            wanted = range(group, parquet.metadata.num_row_groups)
            for batch in parquet.iter_batches(rows, row_groups=wanted, columns=layout.names):
                skipped = max(0, start - row)
                row += len(batch)
                if skipped < len(batch):
                    kept = batch.slice(skipped)
                    yield row - len(kept), layout.matrix_of(kept), layout.groups_of(kept)

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`; reads the column in the row groups that the rows are in."""
        found = []
        with self._opened() as parquet:
            of = np.searchsorted(self._starts, rows, "right") - 1
            for group in np.unique(of):
                column = parquet.read_row_group(int(group), columns=[name]).column(0)
                found.append(column_values(column.take(rows[of == group] - self._starts[group])))
        return np.concatenate(found)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import pyarrow.parquet

        with naming(self.file), self.file.open() as binary:
            yield pyarrow.parquet.ParquetFile(
                binary, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            )
