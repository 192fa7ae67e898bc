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
_MOST_NUMBERED = (1 << 32) - 2  # rows of a chunk, which the native kernel numbers with 32 bits
# Rows between two updates of a threshold that the kernel does not raise. A piece has at most 4
# times as many rows as were read before it. Then about 4 k of its rows beat the threshold. Larger
# pieces take fewer calls. But their threshold is older, so the kernel skips fewer of their rows.
_FIRST_ROWS, _GROWTH, _MOST_ROWS = 1 << 13, 4, 1 << 22


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
            return self._raised(rows, fused) if self._may_raise(rows) else self._pieces(rows, fused)
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

    def _may_raise(self, rows: Rows) -> bool:
        """Whether the kernel, which knows row numbers alone, can raise the threshold."""
        return rows.kept is None and not self._order.is_random and len(rows.x) <= _MOST_NUMBERED

    def _raised(self, rows: Rows, fused: FusedSelection) -> tuple[int, Pending]:
        """Selects in one call of the kernel, which raises the threshold as it reads."""
        least = self._top.threshold
        if least is not None:
            least = least[0], rows.numbers.before(least[1])
        scores, places, n_invalid, lost = fused.above(rows.x, 0, least, self._top.k)

        def commit() -> None:
            self._top.lose(*lost)
            self._top.add(scores.numpy(), rows.numbers.at(places.numpy()))
            self._rows_seen += len(rows.x)

        return n_invalid, Pending(commit)

    def _pieces(self, rows: Rows, fused: FusedSelection) -> tuple[int, Pending]:
        """Selects in pieces, each with the threshold that the rows before it have set."""
        found = TopK(self._top.k, self._order, threshold=self._top.threshold)
        n_invalid, first = 0, 0
        while first < len(rows.x):
            n_rows = max(_FIRST_ROWS, 2 * found.k, _GROWTH * (self._rows_seen + first))
            piece = rows.x[first : first + min(n_rows, _MOST_ROWS)]
            # All rows that tie pass, and `TopK` compares them.
            least = None if found.threshold is None else (found.threshold[0], MAX_ROW)
            scores, places, invalid, _ = fused.above(piece, first, least)
            above = scores.numpy(), places.numpy()
            if rows.kept is not None:
                is_kept = rows.kept[above[1]]
                above = above[0][is_kept], above[1][is_kept]
            found.add(above[0], rows.numbers.at(above[1]))
            n_invalid += invalid
            first += len(piece)

        def commit() -> None:
            self._top.merge(found)
            self._rows_seen += len(rows.x)

        return n_invalid, Pending(commit)
