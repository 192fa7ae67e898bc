"""An iterable of chunks as a pool: a generator over a model's batches, a list of arrays."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastal.base.arrays import as_sliceable, is_array
from fastal.sources.order import check_order
from fastal.sources.source import Chunk, SourceWithoutFiles


class IterableSource(SourceWithoutFiles):
    """Chunks as they come, whatever their size; a generator can be read once.

    They are asked for by the caller's own thread, when the one before has been dealt with: a model
    may be at work behind them, and knows best how to read ahead.

    Raises:
        ValueError: a loader that is seen not to give its items in order.
        TypeError: a list of arrays of several dtypes, which are no chunks of one matrix.
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

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:  # noqa: ARG002
        """See `Source.chunks`; the chunks keep the size that they come in, and begin at row 0."""
        first = 0
        for number, given in enumerate(self._chunks):
            name = f"pool: chunk {number}"
            chunk = as_sliceable(logits_of(given, name), name)
            if not len(chunk.shape):
                raise ValueError(f"{name} is a single number, wanted [rows, ...]")
            yield Chunk(first, chunk)
            first += chunk.shape[0]


def logits_of(output: Any, name: str) -> Any:
    """The array of predictions in what a model returned for a batch.

    That is the output itself; its `logits`, attribute or key; or the first item of another tuple.

    Raises:
        TypeError: there is none; the message names `name`.
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
    # "float32", whether NumPy, torch or another library says it.
    of = [getattr(x, "dtype", "") for x in chunks]
    dtypes = [getattr(dtype, "name", str(dtype).removeprefix("torch.")) for dtype in of]
    for number, dtype in enumerate(dtypes):
        if dtype != dtypes[0]:
            raise TypeError(
                f"pool: a list of arrays is one pool, chunk by chunk; chunk 0 is {dtypes[0]}, "
                f"chunk {number} {dtype}, wanted one dtype"
            )
