"""An Arrow IPC file or stream (.arrow, .feather), mapped (extra `arrow`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow import Layout, column_values, empty_batch, pyarrow_for
from fastal.sources.location import Location
from fastal.sources.reader import Columns, naming


class ArrowFile:
    """Rows of an Arrow IPC file or stream; see `Reader` and `Layout`."""

    def __init__(self, file: Location, columns: Columns) -> None:
        self.file = file
        self.in_place = False  # batches are what they were written as, often small
        self._columns = columns
        pyarrow_for(file)
        with self._opened() as (schema, batches):
            layout = Layout(file, schema, columns)
            self.n_rows, n_classes = 0, layout.n_classes
            for batch in batches:
                if n_classes is None and len(batch):  # lists: the first row says it
                    n_classes = layout.matrix_of(_checked(batch.slice(0, 1), layout)).shape[1]
                self.n_rows += len(batch)
            self.row_shape: tuple[int, ...] | None = None if n_classes is None else (n_classes,)
            self.row_bytes = (n_classes or 0) * layout.item_bytes

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened() as (schema, batches):
            layout = Layout(self.file, schema, self._columns)
            row = 0
            for batch in batches:
                for first in range(max(0, start - row), len(batch), rows):
                    part = _checked(batch.slice(first, rows), layout)
                    yield row + first, layout.matrix_of(part), layout.groups_of(part)
                row += len(batch)
            if not row:
                empty = empty_batch(schema)
                yield 0, layout.matrix_of(empty), layout.groups_of(empty)
            if row != self.n_rows:
                raise ValueError(f"{self.file}: changed while it was being read")

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`."""
        found = []
        with self._opened() as (_, batches):
            row = 0
            for batch in batches:
                here = rows[(rows >= row) & (rows < row + len(batch))] - row
                if len(here):
                    column = batch.column(batch.schema.get_field_index(name))
                    column.validate(full=True)
                    found.append(column_values(column.take(here)))
                row += len(batch)
        return np.concatenate(found)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        import pyarrow as pa

        with naming(self.file), self._mapped() as mapped:
            try:
                file = pa.ipc.open_file(mapped)
            except pa.ArrowInvalid:  # a stream, then
                mapped.seek(0)
                stream = pa.ipc.open_stream(mapped)
                yield stream.schema, iter(stream)
                return
            yield file.schema, (file.get_batch(i) for i in range(file.num_record_batches))

    def _mapped(self) -> Any:
        import pyarrow as pa

        return self.file.open() if self.file.is_remote else pa.memory_map(str(self.file))


def _checked(batch: Any, layout: Layout) -> Any:
    """The columns of a batch that are looked at, found to hold together: files may lie."""
    batch = batch.select(layout.names)
    batch.validate(full=True)
    return batch
