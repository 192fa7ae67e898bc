"""Draws as a pool: the members of an ensemble side by side, or an array with the draws first."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_sliceable, as_tensor, converter_for, is_array, memory_of
from fastal.base.memory_guard import guarded
from fastal.sources.array import ArraySource
from fastal.sources.side_by_side import Together, side_by_side
from fastal.sources.source import Chunk, Source, SourceOver


def draws(pools: Any, *, axis: int = 1) -> Source:
    """Several draws for each row as one pool: an ensemble, a committee, passes with dropout.

    Args:
        pools: a list of pools [N, C], one for each draw, of the same rows in the same order: arrays
            in memory or whatever `fastal.open_pool` takes. Or one array with an axis of draws.
        axis: the axis of the draws, of one array: 0 for [S, N, C], 1 for [N, S, C], 2 for
            [N, C, S]. The array is read in place.

    Returns:
        A pool of rows [S, C]. Ids and carried columns are those of the first pool.

    Raises:
        ValueError, TypeError: the pools differ in their number of rows, their classes or their
            ids, or one of them cannot be read; the message names it.

    Example:
        >>> import fastal, numpy as np
        >>> first, second = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[0.9, 0.1], [0.1, 0.9]])
        >>> fastal.select(fastal.draws([first, second]), k=1, by="bald", kind="probs").rows
        array([1])
    """
    if isinstance(pools, (list, tuple)) and not is_array(pools):
        if axis != 1:
            raise ValueError("axis: it is for one array; a list has one pool for each draw")
        return SideBySide(pools)
    if not is_array(pools):
        raise TypeError(
            "pools: wanted a list with one pool for each draw, or one array, got "
            f"{type(pools).__name__}"
        )
    x = as_sliceable(pools, "pools")
    if len(x.shape) != 3:
        raise ValueError(f"pools: wanted an array of rows, draws and classes, got {x.shape}")
    if isinstance(axis, bool) or not isinstance(axis, int) or not -3 <= axis < 3:
        raise ValueError(f"axis: no axis {axis!r} in an array of shape {tuple(x.shape)}")
    if isinstance(x, np.ndarray):
        return ArrayOfDraws(np.moveaxis(x, axis, 1))
    return ArrayOfDraws(converter_for(x)(as_tensor(x, "pools").movedim(axis, 1)))


class Draws(ABC):
    """A pool whose rows are draws [S, C]."""

    @abstractmethod
    def whole(self) -> Any:
        """All rows as one array [N, S, C]."""


class ArrayOfDraws(Draws, ArraySource):
    """An array [N, S, C] in memory."""

    def whole(self) -> Any:
        """The array itself."""
        return self._array


class SideBySide(Draws, SourceOver):
    """Pools of the same rows, one for each draw. Their chunks are copied into one.

    Args:
        pools: the pools.

    Raises:
        ValueError: there is none, or they have different numbers of rows.
    """

    in_place = False

    def __init__(self, pools: Sequence[Any]) -> None:
        from fastal.sources import open_pool

        if not pools:
            raise ValueError("pools: an empty list")
        self._pools = [open_pool(pool) for pool in pools]
        super().__init__(self._pools[0])
        for number, pool in enumerate(self._pools):
            if pool.n_rows is None:
                raise ValueError(
                    f"pools: wanted pools whose number of rows is known beforehand, got pool "
                    f"{number}, an iterable of chunks"
                )
            if pool.n_rows != self._pools[0].n_rows:
                raise ValueError(
                    f"pools: pool 0 has {self._pools[0].n_rows} rows, pool {number} {pool.n_rows}"
                )

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of all pools."""
        return sum(pool.row_bytes or 0 for pool in self._pools)

    def whole(self) -> Any:
        """A copy of all rows."""
        chunks = [chunk.x for chunk in self.chunks(max(1, self._pools[0].n_rows or 0))]
        if not chunks:
            raise ValueError("pools: they have no rows")
        whole = torch.cat([as_tensor(chunk, "pools") for chunk in chunks])
        return converter_for(chunks[0])(whole)

    def inputs(self) -> Iterator[Path]:
        """See `Files.inputs`, of all pools that are files."""
        return chain.from_iterable(pool.inputs() for pool in self._pools if hasattr(pool, "inputs"))

    def folders(self) -> Iterator[Path]:
        """See `Files.folders`, of all pools that are files."""
        return chain.from_iterable(
            pool.folders() for pool in self._pools if hasattr(pool, "folders")
        )

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yields rows [n, S, C]; see `Source.chunks`."""
        row = start
        for together in side_by_side(self._pools, rows, start, "pools", stop):
            if together.numbers.start != row:
                break  # a pool has skipped rows
            yield Chunk(row, self._stacked(together), together.groups)
            row = together.numbers.stop
        if row < (self._pools[0].n_rows or 0) and (stop is None or row < stop):
            raise ValueError(f"pools: not all of them have rows from {row} on")

    def _stacked(self, together: Together) -> Any:
        """The rows [n, S, C], a view of [S, n, C]: each draw is copied as a whole."""
        parts, first = together.parts, together.numbers.start
        stacked: Tensor | None = None
        for number, (pool, x) in enumerate(zip(self._pools, parts, strict=True)):
            with guarded(memory_of(x, "pool")) as guard:
                part = as_tensor(x, f"pools: pool {number}")
                if stacked is None:
                    stacked = part.new_empty((len(parts), *part.shape))
                if part.shape != stacked.shape[1:] or part.dtype != stacked.dtype:
                    raise ValueError(
                        f"pools: pool 0 has rows {tuple(stacked.shape[2:])} of {stacked.dtype}, "
                        f"pool {number} {tuple(part.shape[1:])} of {part.dtype}"
                    )
                stacked[number] = part
            if not pool.check(first, lost=guard.broken):
                raise ValueError(f"pools: pool {number} has lost the rows from {first} on")
        assert stacked is not None  # there is a pool
        rows = stacked.movedim(0, 1)
        return rows if rows.dtype == torch.bfloat16 else converter_for(parts[0])(rows)

    def check(self, start: int, *, lost: bool) -> bool:  # noqa: ARG002
        """True: every part was checked when it was copied."""
        return True

    def fingerprint(self) -> list[Any] | None:
        """The columns, the skipped files and the files of all pools; None if one has none."""
        found = [fingerprint for pool in self._pools if (fingerprint := pool.fingerprint())]
        if len(found) < len(self._pools):
            return None
        columns, skipped, files = zip(*found, strict=True)
        return [list(columns), list(chain(*skipped)), list(chain(*files))]

    def ids(self, rows: NDArray[np.int64]) -> Any:
        """The ids of these rows; ValueError if the pools' ids differ."""
        found = [ids for pool in self._pools if (ids := pool.ids(rows)) is not None]
        for number, ids in enumerate(found):
            differ = np.flatnonzero(np.asarray(ids) != np.asarray(found[0]))
            if len(differ):
                place = int(differ[0])
                raise ValueError(
                    f"pools: row {rows[place]} has id {found[0][place]!r} in the first pool that "
                    f"has ids, and {ids[place]!r} in number {number}"
                )
        return found[0] if found else None
