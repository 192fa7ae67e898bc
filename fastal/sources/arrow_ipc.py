"""An Arrow IPC file or stream (.arrow, .feather), mapped (extra `arrow`)."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow import Layout, copied, empty_batch, first_shape, pyarrow_for, taken
from fastal.sources.location import Location
from fastal.sources.reader import Columns, naming, watched

_MARK = b"\xff\xff\xff\xff"  # that a message begins with
_END = _MARK + bytes(4)  # of a stream
_FILE_MARK = 8  # bytes that a file begins with, and a stream does not
_RECORD_BATCH, _COMPRESSION = 3, 3  # the type of a message, and a field of it


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
        self.names = None if layout.matrix is None else tuple(layout.matrix)
        self.row_shape = layout.row_shape
        if self.row_shape is None and self.names:  # lists: the first says it
            with self._opened() as (_, batches, stands):
                matrices = (_checked(batch.select(self.names)) for batch in batches)
                self.row_shape = first_shape(layout, matrices)
                stands()
        self.row_bytes = layout.bytes_of(self.row_shape)

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened() as (schema, batches, stands):
            layout = Layout(self.file, schema, self._columns, self.row_shape)
            grouped = [] if layout.groups is None else [layout.groups]
            row = 0
            for batch in batches:
                if start < row + len(batch):
                    matrix = _checked(batch.select(layout.matrix or []))
                    beside = copied(batch.select(grouped)) if grouped else batch
                for first in range(max(0, start - row), len(batch), rows):
                    x = layout.matrix_of(matrix.slice(first, rows))
                    groups = layout.groups_of(beside.slice(first, rows)) if grouped else None
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

        with naming(self.file), self._source() as (source, stands):
            try:
                file = pa.ipc.open_file(source)
            except pa.ArrowInvalid:  # a stream, then
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                yield stream.schema, _to_its_end(stream, source), stands
            else:
                n_batches = file.num_record_batches
                try:  # as a rule, it is a stream between two marks
                    source.seek(_FILE_MARK)
                    stream = pa.ipc.open_stream(source)
                except (OSError, pa.ArrowInvalid):  # Polars, arrow-rs: only the footer tells
                    yield file.schema, map(file.get_batch, range(n_batches)), stands
                else:
                    yield stream.schema, _as_many(stream, n_batches), stands

    @contextmanager
    def _source(self) -> Iterator[tuple[Any, Callable[[], None]]]:
        """The file, to Arrow; under a guard: batches are looked at before they become chunks."""
        import pyarrow as pa

        with self.file.open() as file:
            if self.file.is_remote:
                yield file, lambda: None
                return
            memory = np.memmap(file, np.uint8, "r")
            with watched(memory, str(self.file)) as stands:
                yield pa.PythonFile(_PartlyMapped(file, memory), "r"), stands


class _PartlyMapped:
    """A file of which Arrow gets the bodies of plain record batches as views of a map, the rest as
    copies.

    Arrow follows the offsets in what describes a batch: through a map of a file that is cut short,
    they would lead anywhere.
    """

    closed = False

    def __init__(self, file: BinaryIO, memory: NDArray[np.uint8]) -> None:
        self._file = file
        self._memory = memory.data
        self._message = b""  # what was read last, where it is the beginning of one

    def read(self, n: int) -> Any:
        """The next n bytes, or what there is."""
        message, self._message = self._message, b""
        if message and len(message) == _head_bytes(message):
            n_body, is_plain = _body(message)
            if n == n_body:
                if not is_plain:
                    return self._file.read(n)
                end = self._file.seek(n, 1)
                return self._memory[end - n : end]
            message = b""
        found = self._file.read(n)
        message += found
        if len(message) <= _head_bytes(message):
            self._message = message
        return found

    read_buffer = read  # which Arrow takes without a copy

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to a byte."""
        before = self._file.tell()
        at = self._file.seek(offset, whence)
        if at != before:
            self._message = b""
        return at

    def tell(self) -> int:
        """The next byte."""
        return self._file.tell()


def _head_bytes(message: bytes) -> int:
    """How long a message is without its body, or more, as its first bytes say; 0: it is none."""
    if not _MARK.startswith(message[:4]):
        return 0
    return 8 + int.from_bytes(message[4:8], "little") if len(message) >= 8 else 8


def _body(message: bytes) -> tuple[int, bool]:
    """How long the body is, and whether it is that of a record batch that is not compressed.

    What describes them is a flatbuffer: a table says in front of itself where its fields are.
    Source: Message.fbs of the Arrow specification.
    """

    def field(table: int, number: int) -> int:
        fields = table - int(struct.unpack_from("<i", message, table)[0])
        (n_bytes,) = struct.unpack_from("<H", message, fields)
        entry = 4 + 2 * number
        offset = struct.unpack_from("<H", message, fields + entry)[0] if entry < n_bytes else 0
        return table + offset if offset else 0

    def table_at(place: int) -> int:
        return place + int(struct.unpack_from("<I", message, place)[0])

    try:
        of_message = table_at(8)
        kind, header, length = (field(of_message, number) for number in (1, 2, 3))
        n_bytes = int(struct.unpack_from("<q", message, length)[0]) if length else 0
        is_batch = kind and message[kind] == _RECORD_BATCH
        return n_bytes, bool(is_batch and not field(table_at(header), _COMPRESSION))
    except (struct.error, IndexError):  # none that Arrow would take
        return 0, False


def _to_its_end(stream: Any, source: Any) -> Iterator[Any]:
    """The batches; a ValueError where the stream ends without saying so: others may be missing."""
    yield from stream
    source.seek(max(0, source.tell() - len(_END)))
    if source.read(len(_END)) != _END:
        raise ValueError("the stream ends without its end mark")
    if source.read(1):
        raise ValueError("something follows the stream: several in one file?")


def _as_many(stream: Any, n_batches: int) -> Iterator[Any]:
    """The batches; a ValueError where they are fewer than the end of the file says."""
    found = 0
    for batch in islice(stream, n_batches):
        found += 1
        yield batch
    if found < n_batches:
        raise ValueError(f"{found} record batches, where it says {n_batches}")


def _checked(batch: Any) -> Any:
    """A record batch, found to hold together: files may lie."""
    batch.validate(full=True)
    return batch
