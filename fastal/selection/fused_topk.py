"""The running top-k behind a kernel: scores go from registers into the selection."""

from typing import Any

import torch

from fastal import ops
from fastal.base.checks import MAX_ROW
from fastal.base.reducer import Pending
from fastal.scoring.measure import FusedSelection
from fastal.scoring.rows import Rows
from fastal.selection.ties import TieOrder
from fastal.selection.topk import TopK

_SEGMENT_BITS = 32  # candidates on a GPU hold the lower 32 bits of a row number
# Where the native kernel cannot raise the threshold: the rows between two updates of it. A piece has
# at most 4 times as many rows as were read before it. Then about 4 k of its rows beat the threshold.
# Larger pieces take fewer calls. But their threshold is older, so the kernel skips fewer rows.
_FIRST_ROWS, _GROWTH, _MOST_ROWS = 1 << 13, 4, 1 << 22
_MOST_KEYS = 1 << 31  # the kernel numbers the rows of a piece with 32 bits


class FusedTopK:
    """Adds rows to a `TopK` where a kernel scores and selects at once; exact."""

    def __init__(self, top: TopK, order: TieOrder) -> None:
        self._top = top
        self._order = order
        self._candidates: Any = None
        self._of: tuple[torch.device, int] | None = None  # device and segment of the candidates
        self._rows_seen = 0  # by the native backend

    def accepts(self, rows: Rows) -> bool:
        """Whether `look` accepts the rows."""
        if rows.backend == "triton":  # consecutive rows of one segment, all of them
            first, last = rows.numbers.start, rows.numbers.stop - 1
            is_whole = rows.numbers.are_consecutive and rows.kept is None
            is_ours = is_whole and not self._order.is_random
            return is_ours and last >= first and first >> _SEGMENT_BITS == last >> _SEGMENT_BITS
        return rows.backend == "native"

    def look(self, rows: Rows, fused: FusedSelection) -> tuple[int, Pending]:
        """Selects among the rows; how many are invalid, and what adds the best to the top-k."""
        if rows.backend == "native":
            found = TopK(self._top.k, self._order, threshold=self._top.threshold)
            n_invalid = self._select(rows, fused, found)

            def commit() -> None:
                self._top.merge(found)
                self._rows_seen += len(rows.x)

            return n_invalid, Pending(commit)
        of = ops.device_for(rows.x), rows.start >> _SEGMENT_BITS
        if self._of != of:
            self.flush()
            self._candidates = ops.candidates(self._top.k, *of, self._top.threshold)
            self._of = of
        candidates = self._candidates
        candidates.begin()
        try:
            n_invalid = fused.into(rows.x, rows.start, candidates)
        except BaseException:
            candidates.roll_back()
            raise
        return n_invalid, Pending(candidates.commit, candidates.roll_back)

    def kth(self) -> float | None:
        """`TopK.kth`; on a GPU as of the last selection there, so it may be lower than that."""
        found = (self._top.kth(), None if self._candidates is None else self._candidates.kth)
        return max((score for score in found if score is not None), default=None)

    def flush(self) -> None:
        """Moves the best candidates into the `TopK`."""
        if self._of is not None:
            scores, rows = (best.cpu().numpy() for best in self._candidates.best())
            self._top.add(scores, rows)
            self._top.lose(*self._candidates.lost())
            self._candidates, self._of = None, None

    def _select(self, rows: Rows, fused: FusedSelection, found: TopK) -> int:
        """Adds to `found` the rows that may be among the best; how many rows are invalid."""
        # The kernel knows neither ranks other than row numbers nor which rows are left out.
        raises = rows.kept is None and not self._order.is_random
        n_invalid, first = 0, 0
        while first < len(rows.x):
            size = _MOST_KEYS if raises else self._piece_rows(first)
            piece = rows.x[first : first + size]
            scores, places, invalid, lost = fused.above(
                piece, first, self._least(rows, found, raises), found.k if raises else None
            )
            above = scores.numpy(), places.numpy()
            if rows.kept is not None:
                is_kept = rows.kept[above[1]]
                above = above[0][is_kept], above[1][is_kept]
            found.lose(*lost)
            found.add(above[0], rows.numbers.at(above[1]))
            n_invalid += invalid
            first += len(piece)
        return n_invalid

    def _piece_rows(self, first: int) -> int:
        """The most rows of a piece that begins at this place of the chunk."""
        n_rows = max(_FIRST_ROWS, 2 * self._top.k, _GROWTH * (self._rows_seen + first))
        return min(n_rows, _MOST_ROWS)

    def _least(self, rows: Rows, found: TopK, by_row: bool) -> tuple[float, int] | None:
        """The score and place that a row has to beat; by_row: unless so, all that tie pass."""
        if found.threshold is None:
            return None
        score, rank = found.threshold
        return score, rows.numbers.before(rank) if by_row else MAX_ROW
