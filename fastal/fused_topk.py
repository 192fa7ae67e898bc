"""The running top-k behind a kernel: on a GPU, scores go from registers into the selection."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastal import backend
from fastal.topk import TopK

_SEGMENT_BITS = 32  # candidates tell so many rows apart: those with the same number above


class FusedTopK:
    """Candidates for a `TopK` on a device, where a kernel scores and selects at once; exact."""

    def __init__(self, top: TopK) -> None:
        self._top = top
        self._candidates: Any = None
        self._of: tuple[torch.device, int] | None = None  # device and segment of the candidates

    def takes(self, x: Tensor, start: int) -> bool:
        """Whether `update` takes rows x from row `start` on: those of one segment."""
        return len(x) > 0 and start >> _SEGMENT_BITS == (start + len(x) - 1) >> _SEGMENT_BITS

    @contextmanager
    def update(self, x: Tensor, measure: str, kind: str, start: int) -> Iterator[int]:
        """Takes rows start, start + 1, ... of predictions; the count of invalid ones, left out.

        If an exception leaves the context, none of the rows was taken.
        """
        of = backend.device_for(x), start >> _SEGMENT_BITS
        if self._of != of:
            self.flush()
            self._candidates = backend.candidates(self._top.k, *of, self._top.bar)
            self._of = of
        with self._candidates.transaction():
            yield backend.select(x, measure, kind, start, self._candidates)

    def flush(self) -> None:
        """Hands the best candidates over."""
        if self._of is not None:
            scores, rows = (best.cpu().numpy() for best in self._candidates.best())
            self._top.add(scores, rows)
            self._candidates, self._of = None, None
