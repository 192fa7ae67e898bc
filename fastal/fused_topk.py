"""The running top-k behind a kernel: on a GPU, scores go from registers into the selection."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal import backend
from fastal.topk import TopK

# Rows that candidates can tell apart (`fastal_kernels.topk`): those with the same number here.
_SEGMENT_BITS = 32
_LOW = (1 << _SEGMENT_BITS) - 1


class FusedTopK:
    """Candidates for a `TopK` on a device, where a kernel scores and selects at once; exact."""

    def __init__(self, top: TopK) -> None:
        self._top = top
        self._candidates: Any = None
        self._of: tuple[torch.device, int] | None = None  # device and segment of the candidates

    def takes(self, x: Tensor, start: int) -> bool:
        """Whether `update` takes rows x from row `start` on: those of one segment."""
        return len(x) > 0 and start >> _SEGMENT_BITS == (start + len(x) - 1) >> _SEGMENT_BITS

    def update(self, x: Tensor, measure: str, kind: str, start: int) -> int:
        """Takes rows start, start + 1, ... of predictions, and returns how many are invalid.

        Invalid rows are left out; `undo` takes the whole update back.
        """
        segment = start >> _SEGMENT_BITS
        device = backend.device_for(x)
        if self._of != (device, segment):
            self.flush()
            self._candidates = backend.candidates(self._top.k, device, self._threshold(segment))
            self._of = device, segment
        self._candidates.mark()
        return backend.select(x, measure, kind, start, self._candidates)

    def undo(self) -> None:
        """Takes the last update back."""
        self._candidates.undo()

    def flush(self) -> None:
        """Hands the best candidates over."""
        if self._of is None:
            return
        keys = self._candidates.best().cpu().numpy()
        rows = (_LOW - (keys & _LOW)) | (self._of[1] << _SEGMENT_BITS)
        self._top.add((keys >> _SEGMENT_BITS).astype(np.int32).view(np.float32), rows)
        self._candidates, self._of = None, None

    def _threshold(self, segment: int) -> int:
        """The key which those of a segment must exceed to be among the k best so far."""
        if self._top.bar is None:
            return -1
        score, row = self._top.bar
        key = int(np.float32(score).view(np.int32)) << _SEGMENT_BITS
        if row >> _SEGMENT_BITS == segment:
            return key | (_LOW - (row & _LOW))
        # A tie is won by all rows of a segment before that of the bar, and lost by all after it.
        return key | _LOW if segment > row >> _SEGMENT_BITS else key - 1
