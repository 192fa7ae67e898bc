"""A pool of the factors of gradients, read from a pool of predictions and one of embeddings."""

import logging
from collections.abc import Iterator
from typing import Any

from fastal.base.arrays import as_tensor, converter_for, memory_of
from fastal.base.memory_guard import guarded
from fastal.diversity.gradients import Gradients
from fastal.sources.kept_chunks import KeptChunks
from fastal.sources.side_by_side import Together, side_by_side
from fastal.sources.source import Chunk, Skipped, Source, SourceOver

_log = logging.getLogger("fastal")


class GradientPool(SourceOver):
    """A source of rows [n, C + D + 4], the factors of gradients; see `Gradients`.

    If all rows fit into the memory that is allowed, they stay there (see `KeptChunks`), and the two
    pools are read once. Else they are read anew in every pass.

    Args:
        predictions: a pool [N, C], whose row numbers, ids and carried columns are kept.
        embeddings: a pool [N, D] of the same rows.
        gradients: makes the factors.
        memory_bytes: the most memory for rows that stay.
    """

    in_place = False

    def __init__(
        self, predictions: Source, embeddings: Source, gradients: Gradients, memory_bytes: int
    ) -> None:
        super().__init__(predictions)
        self._embeddings = embeddings
        self._gradients = gradients
        self._kept = KeptChunks(memory_bytes)
        self._has_warned = False
        self._widths: tuple[int, int] | None = None

    @property
    def row_bytes(self) -> int | None:
        """Bytes per row of both pools; None if they are known only after a row is read."""
        widths = self._source.row_bytes, self._embeddings.row_bytes
        return None if None in widths else sum(width or 0 for width in widths)

    @property
    def n_rows(self) -> int | None:
        """The number of rows of the pool that knows it."""
        n_rows = self._source.n_rows
        return self._embeddings.n_rows if n_rows is None else n_rows

    @property
    def skipped(self) -> list[Skipped]:
        """The files of both pools that were left out."""
        return list(dict.fromkeys((*self._source.skipped, *self._embeddings.skipped)))

    @skipped.setter
    def skipped(self, skipped: list[Skipped]) -> None:
        self._source.skipped = self._embeddings.skipped = skipped

    def check(self, start: int, *, lost: bool) -> bool:  # noqa: ARG002
        """True: the rows are copies, which were checked when they were made."""
        return True

    def fingerprint(self) -> list[Any] | None:
        """Those of both pools together; None if one has none."""
        pool, beside = self._source.fingerprint(), self._embeddings.fingerprint()
        if pool is None or beside is None:
            return None
        return [[*ours, *theirs] for ours, theirs in zip(pool, beside, strict=True)]

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `Source.chunks`. Rows that stayed in memory are in the chunks of the first pass."""
        pools = self._source, self._embeddings
        both = side_by_side(pools, rows, start, "embeddings", stop)
        chunks = (chunk for rows in both if (chunk := self._chunk(rows)) is not None)
        return self._kept.kept_or(chunks, self, is_whole=not start and stop is None)

    def _chunk(self, together: Together) -> Chunk | None:
        """The factors of rows; None if they are in a file that is now skipped."""
        start, error = together.numbers.start, None
        of_logits, of_embeddings = together.parts
        with (
            guarded(memory_of(of_logits, "logits")) as guard,
            guarded(memory_of(of_embeddings, "embeddings")) as guard_beside,
        ):
            try:
                factors = self._factors(of_logits, of_embeddings, start)
            except (TypeError, ValueError) as caught:
                error = caught
        is_valid = self._source.check(start, lost=guard.broken)
        is_valid &= self._embeddings.check(start, lost=guard_beside.broken)
        if not is_valid:
            return None
        if error is not None:
            raise error
        return Chunk(start, factors, None, together.given)

    def _factors(self, of_logits: Any, of_embeddings: Any, start: int) -> Any:
        """The factors of rows, as an array of the kind of the predictions."""
        predictions, embeddings = (
            as_tensor(of_logits, "logits"),
            as_tensor(of_embeddings, "embeddings"),
        )
        factors, n_invalid = self._gradients.factors(predictions, embeddings)
        widths = predictions.shape[1], embeddings.shape[1]
        for name, width, before in zip(
            ("logits", "embeddings"), widths, self._widths or widths, strict=True
        ):
            if width != before:
                raise ValueError(
                    f"{name}: rows from {start} on have {width} columns, the rows "
                    f"before them {before}"
                )
        self._widths = widths
        if not self._has_warned and not n_invalid and len(predictions):
            self._has_warned = True
            suspicion = self._gradients.suspect_predictions(predictions)
            if suspicion:
                _log.warning("%s", suspicion)
        return converter_for(of_logits)(factors)
