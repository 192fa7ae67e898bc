"""A pool whose group labels are given in an array of their own."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastal.base.groups import as_groups
from fastal.base.memory_guard import guarded_arrays
from fastal.sources.source import Chunk, Skipped, Source


class Grouped:
    """A source whose chunks have group labels of an array; everything else is the source's.

    Args:
        source: the pool.
        groups: labels [N], one per row of the pool; see `as_groups`.

    Raises:
        ValueError: the number of labels is not N, or the files were not named in path order, so
            that labels and rows may be in different orders.
        TypeError: the labels are neither integers, bools nor text.
    """

    def __init__(self, source: Source, groups: Any) -> None:
        if not getattr(source, "named_in_order", True):
            raise ValueError(
                "groups: the rows are numbered in the order of the files' paths: name the files in "
                "that order (sorted), and give the labels in the same order"
            )
        n_rows = source.n_rows if source.n_rows is not None else len(groups)
        with guarded_arrays(groups) as guards:
            self._groups = as_groups(groups, n_rows, "groups")
            guards.check("groups")
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @property
    def skipped(self) -> list[Skipped]:
        """See `Source`."""
        return self._source.skipped

    @skipped.setter
    def skipped(self, skipped: list[Skipped]) -> None:
        self._source.skipped = skipped

    def fingerprint(self) -> list[Any] | None:
        """See `Source.fingerprint`; it includes a digest of the groups."""
        pool = self._source.fingerprint()
        if pool is None:
            return None
        columns, *others = pool
        codes = np.ascontiguousarray(self._groups.codes)
        groups = hashlib.sha256(codes.tobytes() + repr(list(self._groups.values)).encode())
        return [[*columns, f"groups {groups.hexdigest()[:16]}"], *others]

    def chunks(self, rows: int, start: int = 0) -> Iterator[Chunk]:
        """See `Source.chunks`."""
        end = start
        for chunk in self._source.chunks(rows, start):
            end = chunk.start + chunk.x.shape[0]
            codes = self._groups.codes[chunk.start : end]
            yield chunk._replace(groups=self._groups._replace(codes=codes))
        if self._source.n_rows is None and end != len(self._groups.codes):
            raise ValueError(f"groups: {len(self._groups.codes)} labels for {end} rows")
