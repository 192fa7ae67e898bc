"""An iterable of chunks as a pool: a generator over a model's batches, a list of arrays."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastal.base.arrays import as_sliceable, is_array
from fastal.base.items import Items
from fastal.sources.order import check_order
from fastal.sources.source import Chunk, SourceWithoutFiles


class IterableSource(SourceWithoutFiles):
    """Chunks of any size, in the order in which they come; see `Source`.

    A generator can be read only once. There is no reading ahead: the next chunk is requested by the
    caller's own thread, after it is done with the last one. A model may compute the chunks, and its
    loader is the one to read ahead.

    Raises:
        ValueError: the iterable is a loader that does not give its items in order.
        TypeError: the iterable is a list of arrays of several dtypes, so not chunks of one matrix.
    """

    n_rows = None
    row_bytes = None
    in_place = False

    def __init__(self, chunks: Iterable[Any]) -> None:
        super().__init__()
        check_order(chunks, "pool")
        if isinstance(chunks, list):
            _check_alike(chunks)
        self._chunks = chunks

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:  # noqa: ARG002
        """See `Source.chunks`. The arguments are ignored: chunks keep their size, from row 0."""
        first = 0
        for number, given in enumerate(self._chunks):
            name = f"pool: chunk {number}"
            chunk = given
            if not isinstance(given, Items):
                chunk = as_sliceable(logits_of(given, name), name)
            if not len(chunk.shape):
                raise ValueError(f"{name} is a single number, wanted [rows, ...]")
            yield Chunk(first, chunk)
            first += chunk.shape[0]


def logits_of(output: Any, name: str) -> Any:
    """The array of predictions in a model's output for a batch.

    It is the output itself, if that is an array; else its `logits`, attribute or key; else, of a
    tuple, the first item.

    Raises:
        TypeError: there is no such array; the message begins with `name`.
    """
    found = output
    if not is_array(output):
        if isinstance(output, Mapping):
            found = output.get("logits")
        elif hasattr(output, "logits"):
            found = output.logits
        elif isinstance(output, tuple) and output:
            found = output[0]
        if not is_array(found):
            held = ", ".join(map(repr, output)) if isinstance(output, Mapping) else ""
            raise TypeError(
                f"{name} is a {type(output).__name__}{held and f' with {held}'}, wanted an array "
                "[rows, ...], an output with `logits`, or a tuple that begins with an array"
            )
    return found


def _check_alike(chunks: list[Any]) -> None:
    # NumPy and torch have different dtype objects: their names are compared.
    given = [getattr(x, "dtype", "") for x in chunks]
    dtypes = [getattr(dtype, "name", str(dtype).removeprefix("torch.")) for dtype in given]
    for number, dtype in enumerate(dtypes):
        if dtype != dtypes[0]:
            raise TypeError(
                f"pool: a list of arrays is one pool, chunk by chunk; chunk 0 is {dtypes[0]}, "
                f"chunk {number} {dtype}, wanted one dtype"
            )
