"""An Arrow IPC file or stream (.arrow, .feather), mapped (extra `arrow`)."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastal.sources.arrow_columns import (
    copied,
    empty_batch,
    first_shape,
    groups_of,
    matrix_of,
    taken,
)
from fastal.sources.arrow_schema import Layout, pyarrow_for
from fastal.sources.location import Location
from fastal.sources.reader import Columns, guarded_memory, naming_file_in_errors

_MARK = b"\xff\xff\xff\xff"  # the first bytes of every message
_END = _MARK + bytes(4)  # the last bytes of a stream
_FILE_MARK = 8  # the length of the magic bytes at the beginning of a file; a stream has none
_RECORD_BATCH, _COMPRESSION = 3, 3  # a type of message, and the number of a field in it


class ArrowFile:
    """Rows of an Arrow IPC file or stream; see `Reader` and `Layout`."""

    in_place = False  # chunks are no larger than the batches in the file, which are often small

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
        if self.row_shape is None and self.names:  # the first list determines it
            with self._opened() as (_, batches, check_intact):
                matrices = (_validated(batch.select(self.names)) for batch in batches)
                self.row_shape = first_shape(matrices, layout)
                check_intact()
        self.row_bytes = layout.bytes_of(self.row_shape)
        if layout.is_ragged and self.n_rows:
            self.row_bytes = max(1, int(file.stamp()[0]) // self.n_rows)

    def chunks(self, rows: int, start: int) -> Iterator[tuple[int, Any, Any]]:
        """See `Reader.chunks`."""
        with self._opened() as (schema, batches, check_intact):
            layout = Layout(self.file, schema, self._columns, self.row_shape)
            group_columns = [] if layout.groups is None else [layout.groups]
            row = 0
            for batch in batches:
                if start < row + len(batch):
                    matrix = _validated(batch.select(layout.matrix or []))
                    labels = copied(batch.select(group_columns)) if group_columns else batch
                for first in range(max(0, start - row), len(batch), rows):
                    x = matrix_of(matrix.slice(first, rows), layout)
                    groups = groups_of(labels.slice(first, rows), layout) if group_columns else None
                    check_intact()
                    yield row + first, x, groups
                row += len(batch)
            if not row:
                empty = empty_batch(schema)
                yield 0, matrix_of(empty, layout), groups_of(empty, layout)
            if row != self.n_rows:
                raise ValueError(f"{self.file}: changed while it was being read")

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Reader.take`."""
        with self._opened() as (_, batches, check_intact):

            def numbered() -> Iterator[tuple[int, Any]]:
                row = 0
                for batch in batches:
                    yield row, batch
                    row += len(batch)

            found = taken(name, rows, numbered())
            check_intact()
            return found

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Iterator[Any], Callable[[], None]]]:
        """The schema, the record batches, and a function that raises if a page of them was lost.

        The batches have all columns: if Arrow selects columns while it reads, it copies them.
        """
        import pyarrow as pa

        with naming_file_in_errors(self.file), self._source() as (source, check_intact):
            try:
                file = pa.ipc.open_file(source)
            except pa.ArrowInvalid:  # not a file, so perhaps a stream
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                yield stream.schema, _complete_stream(stream, source), check_intact
            else:
                n_batches = file.num_record_batches
                try:  # most writers make a file of a stream, between magic bytes and a footer
                    source.seek(_FILE_MARK)
                    stream = pa.ipc.open_stream(source)
                except (OSError, pa.ArrowInvalid):  # Polars, arrow-rs: only the footer has places
                    yield file.schema, map(file.get_batch, range(n_batches)), check_intact
                else:
                    yield stream.schema, _exactly(stream, n_batches), check_intact

    @contextmanager
    def _source(self) -> Iterator[tuple[Any, Callable[[], None]]]:
        """The file as Arrow reads it, and a function that raises if a page of its map was lost.

        The guard is needed here, since batches are validated before they become chunks.
        """
        import pyarrow as pa

        with self.file.open() as file:
            if self.file.is_remote:
                yield file, lambda: None
                return
            memory = np.memmap(file, np.uint8, "r")
            with guarded_memory(memory, str(self.file)) as check_intact:
                yield pa.PythonFile(_PartlyMapped(file, memory), "r"), check_intact


class _PartlyMapped:
    """A file that gives Arrow views of a map for the bodies of uncompressed record batches only.

    Everything else is copied. Arrow follows the offsets in a batch's metadata. If these were read
    through a map of a file that is cut short meanwhile, they could point anywhere.
    """

    closed = False

    def __init__(self, file: BinaryIO, memory: NDArray[np.uint8]) -> None:
        self._file = file
        self._memory = memory.data
        self._message = b""  # the last bytes read, if they are the beginning of a message

    def read(self, n: int) -> Any:
        """The next n bytes, fewer at the end of the file."""
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

    read_buffer = read  # Arrow uses the result of this method without a copy

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a byte, and returns its place."""
        before = self._file.tell()
        at = self._file.seek(offset, whence)
        if at != before:
            self._message = b""
        return at

    def tell(self) -> int:
        """The place of the next byte."""
        return self._file.tell()


def _head_bytes(message: bytes) -> int:
    """The length of a message without its body, from its first bytes; 0 if it is no message.

    With fewer than 8 bytes, which do not hold the length yet, it is 8.
    """
    if not _MARK.startswith(message[:4]):
        return 0
    return 8 + int.from_bytes(message[4:8], "little") if len(message) >= 8 else 8


def _body(message: bytes) -> tuple[int, bool]:
    """The length of a message's body, and whether it is an uncompressed record batch.

    The message is a flatbuffer: each of its tables begins with the offset of a list of its fields'
    places. Source: Message.fbs of the Arrow specification.
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
    except (struct.error, IndexError):  # Arrow refuses such a message
        return 0, False


def _complete_stream(stream: Any, source: Any) -> Iterator[Any]:
    """The batches; a ValueError if the stream has no end mark: batches may be missing then."""
    yield from stream
    source.seek(max(0, source.tell() - len(_END)))
    if source.read(len(_END)) != _END:
        raise ValueError("the stream ends without its end mark")
    if source.read(1):
        raise ValueError("more bytes follow the stream: several streams in one file?")


def _exactly(stream: Any, n_batches: int) -> Iterator[Any]:
    """The batches; a ValueError if they are fewer than the footer of the file says."""
    found = 0
    for batch in islice(stream, n_batches):
        found += 1
        yield batch
    if found < n_batches:
        raise ValueError(f"{found} record batches, where its footer says {n_batches}")


def _validated(batch: Any) -> Any:
    """The record batch, if its offsets and lengths are consistent; else an error of Arrow."""
    batch.validate(full=True)
    return batch
