"""A pool whose group labels are given in an array of their own."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastal.base.groups import as_groups
from fastal.base.memory_guard import guarded_arrays
from fastal.sources.source import Chunk, Source, SourceOver, chunks_of


class Grouped(SourceOver):
    """A source whose chunks have group labels of an array; everything else is the source's.

    Args:
        source: the pool.
        groups: labels [N], one per row of the pool; see `as_groups`.
        name: what the labels came in, for errors.

    Raises:
        ValueError: the number of labels is not N.
        TypeError: the labels are neither integers, bools nor text.
    """

    def __init__(self, source: Source, groups: Any, name: str = "groups") -> None:
        n_rows = source.n_rows if source.n_rows is not None else len(groups)
        with guarded_arrays(groups) as guards:
            self._groups = as_groups(groups, n_rows, name)
            guards.check(name)
        super().__init__(source)
        self._name = name
        self._was_read = False

    def fingerprint(self) -> list[Any] | None:
        """See `Source.fingerprint`; it includes a digest of the groups."""
        pool = self._source.fingerprint()
        if pool is None:
            return None
        columns, *others = pool
        codes = np.ascontiguousarray(self._groups.codes)
        groups = hashlib.sha256(codes.tobytes() + repr(list(self._groups.values)).encode())
        return [[*columns, f"groups {groups.hexdigest()[:16]}"], *others]

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `Source.chunks`."""
        end, n_labels = start, len(self._groups.codes)
        for chunk in chunks_of(self._source, rows, start, stop):
            end = chunk.start + chunk.x.shape[0]
            if end > n_labels:  # of a pool whose number of rows is not known yet
                break
            codes = self._groups.codes[chunk.start : end]
            yield chunk._replace(groups=self._groups._replace(codes=codes))
        if self._was_read and end == start:  # of a generator: the pipeline says so
            return
        self._was_read = True
        if self._source.n_rows is None and end != n_labels:
            more = " or more" if end > n_labels else ""
            raise ValueError(f"{self._name}: {n_labels} labels for {end}{more} rows")
