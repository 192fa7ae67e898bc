"""A Parquet file, decoded batch by batch (extra `arrow`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow import Layout, empty_batch, first_width, pyarrow_for, taken
from fastal.sources.location import Location
from fastal.sources.reader import Columns, naming

_BUFFER_BYTES = 1 << 20  # read of a column in one go: row groups may be larger than memory

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
            n_classes = layout.n_classes
            if n_classes is None and self.n_rows:  # lists: the first says it
                batches = parquet.iter_batches(_FEW_ROWS, columns=layout.matrix)
                n_classes = first_width(layout, batches)
            self._n_classes = n_classes
            self.row_shape: tuple[int, ...] | None = None if n_classes is None else (n_classes,)
            self.row_bytes = (n_classes or 0) * layout.item_bytes

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened() as parquet:
            layout = Layout(self.file, parquet.schema_arrow, self._columns, self._n_classes)
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
    def _opened(self) -> Iterator[Any]:
        import pyarrow.parquet

        with naming(self.file), self.file.open() as binary:
            yield pyarrow.parquet.ParquetFile(
                binary, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            )
