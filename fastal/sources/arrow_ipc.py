"""An Arrow IPC file or stream (.arrow, .feather), mapped (extra `arrow`)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow import Layout, empty_batch, first_width, pyarrow_for, taken
from fastal.sources.location import Location
from fastal.sources.reader import Columns, naming, watched

_END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream


class ArrowFile:
    """Rows of an Arrow IPC file or stream; see `Reader` and `Layout`."""

    in_place = False  # batches are what they were written as, often small

    def __init__(self, file: Location, columns: Columns) -> None:
        self.file = file
        self._columns = columns
        pyarrow_for(file)
        with self._opened() as (schema, batches, _):
            layout = Layout(file, schema, columns)
            self.kinds = layout.kinds
            self.n_rows = sum(map(len, batches))
        n_classes = layout.n_classes
        if n_classes is None and self.n_rows:  # lists: the first says it
            with self._opened() as (_, batches, _):
                n_classes = first_width(
                    layout, (_checked(batch, layout.matrix) for batch in batches)
                )
        self._n_classes = n_classes
        self.row_shape: tuple[int, ...] | None = None if n_classes is None else (n_classes,)
        self.row_bytes = (n_classes or 0) * layout.item_bytes

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened() as (schema, batches, stands):
            layout = Layout(self.file, schema, self._columns, self._n_classes)
            row = 0
            for batch in batches:
                for first in range(max(0, start - row), len(batch), rows):
                    part = _checked(batch.slice(first, rows), layout.names)
                    x, groups = layout.matrix_of(part), layout.groups_of(part)
                    stands()
                    yield row + first, x, groups
                row += len(batch)
            if not row:
                empty = empty_batch(schema)
                yield 0, layout.matrix_of(empty), layout.groups_of(empty)
            if row != self.n_rows:
                raise ValueError(f"{self.file}: changed while it was being read")

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`."""
        with self._opened() as (_, batches, stands):

            def numbered() -> Iterator[tuple[int, Any]]:
                row = 0
                for batch in batches:
                    yield row, batch
                    row += len(batch)

            found = taken(name, rows, numbered())
            stands()
            return found

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Iterator[Any], Callable[[], None]]]:
        """The schema, the record batches, and what raises if a page of them was lost so far.

        Batches are whole, since to read single columns copies them.
        """
        import pyarrow as pa

        with naming(self.file), self._mapped() as (mapped, stands):
            try:
                file = pa.ipc.open_file(mapped)
            except pa.ArrowInvalid:  # a stream, then
                mapped.seek(0)
                stream = pa.ipc.open_stream(mapped)
                yield stream.schema, _to_its_end(stream, mapped), stands
            else:
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
                yield file.schema, batches, stands

    @contextmanager
    def _mapped(self) -> Iterator[tuple[Any, Callable[[], None]]]:
        """The file, under a guard: batches are looked at before they become chunks."""
        import pyarrow as pa

        if self.file.is_remote:
            with self.file.open() as file:
                yield file, lambda: None
            return
        with pa.memory_map(str(self.file)) as mapped:
            memory = np.frombuffer(mapped.read_buffer(), np.uint8)
            mapped.seek(0)
            with watched(memory, str(self.file)) as stands:
                yield mapped, stands


def _to_its_end(stream: Any, mapped: Any) -> Iterator[Any]:
    """The batches; a ValueError where the stream ends without saying so: others may be missing."""
    yield from stream
    mapped.seek(max(0, mapped.tell() - len(_END)))
    if mapped.read(len(_END)) != _END:
        raise ValueError("the stream ends without its end mark")


def _checked(batch: Any, names: Sequence[str]) -> Any:
    """The columns of a batch that are looked at, found to hold together: files may lie."""
    batch = batch.select(names)
    batch.validate(full=True)
    return batch
