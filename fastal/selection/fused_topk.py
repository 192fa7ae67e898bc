"""The running top-k behind a kernel: scores go from registers into the selection."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastal import ops
from fastal.selection.topk import TopK

_SEGMENT_BITS = 32  # a GPU's candidates tell so many rows apart: with the same number above
# Rows that the native backend looks at in one go. The bar, which stands still meanwhile, lets about
# 8 k of them through if they are at most 8 times as many as it was made from.
_FIRST_ROWS, _GROWTH, _MOST_ROWS = 1 << 13, 8, 1 << 22


class FusedTopK:
    """Candidates for a `TopK`, where a backend scores and selects at once; exact."""

    def __init__(self, top: TopK) -> None:
        self._top = top
        self._candidates: Any = None
        self._of: tuple[torch.device, int] | None = None  # device and segment of the candidates
        self._seen = 0  # rows that the native backend has looked at

    def takes(self, x: Tensor, start: int, backend: str) -> bool:
        """Whether `update` takes rows x from row `start` on with that backend."""
        if backend == "triton":  # those of one segment
            return len(x) > 0 and start >> _SEGMENT_BITS == (start + len(x) - 1) >> _SEGMENT_BITS
        return backend == "native"

    @contextmanager
    def update(self, x: Tensor, measure: str, kind: str, start: int, backend: str) -> Iterator[int]:
        """Takes rows start, start + 1, ... of predictions; the count of invalid ones, left out.

        If an exception leaves the context, none of the rows was taken.
        """
        if backend == "native":
            found = TopK(self._top.k, self._top.bar)
            yield self._look(x, measure, kind, start, found)
            self._top.merge(found)
            self._seen += len(x)
            return
        of = ops.device_for(x), start >> _SEGMENT_BITS
        if self._of != of:
            self.flush()
            self._candidates = ops.candidates(self._top.k, *of, self._top.bar)
            self._of = of
        with self._candidates.transaction():
            yield ops.select(x, measure, kind, start, self._candidates)

    def kth(self) -> float | None:
        """`TopK.kth`; on a GPU as of the last selection there, which is lower if anything."""
        bars = (self._top.kth(), None if self._candidates is None else self._candidates.threshold)
        return max((bar for bar in bars if bar is not None), default=None)

    def flush(self) -> None:
        """Hands the best candidates over."""
        if self._of is not None:
            scores, rows = (best.cpu().numpy() for best in self._candidates.best())
            self._top.add(scores, rows)
            self._candidates, self._of = None, None

    def _look(self, x: Tensor, measure: str, kind: str, start: int, found: TopK) -> int:
        """Adds to `found` what of the rows may be among the best; the count of invalid ones."""
        n_invalid, first = 0, 0
        while first < len(x):
            n_rows = max(_FIRST_ROWS, 2 * found.k, _GROWTH * (self._seen + first))
            piece = x[first : first + min(n_rows, _MOST_ROWS)]
            scores, rows, invalid = ops.scores_above_threshold(
                piece, measure, kind, start + first, found.bar
            )
            found.add(scores.numpy(), rows.numpy())
            n_invalid += invalid
            first += len(piece)
        return n_invalid
