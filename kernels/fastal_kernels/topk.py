"""Selection behind the scores: candidates above the running threshold; exact compaction.

A key is the bits of a row's score above those of 2^32 - 1 - row, an int64 that is not negative:
keys are unique, larger ones are better, and ties go to the lower row. Rows are taken modulo 2^32,
so that keys compare within one *segment* of as many rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

SEGMENT = 1 << 32  # rows
# Rows of a launch at most, and of the first one, after which the threshold is worth something.
_MOST_ROWS, _FIRST_ROWS = 1 << 24, 1 << 16
_GROWTH = 8


@triton.jit
def append(score, row, m_n, p_keys, p_selection):
    """Appends the keys of the rows that may be among the best, and counts invalid rows.

    Which keys are appended does not depend on the order of programs; where they end up does.

    Args:
        score: float32 in [0, 1], or NaN for an invalid row, of any shape.
        row: their row numbers; m_n: which of them are rows at all.
        p_keys: [capacity] int64. p_selection: [3] int64: the threshold, which a key has to exceed;
            how many keys there are; how many rows were invalid.
    """
    threshold = tl.load(p_selection)
    # One comparison a row tells that nothing is to be done, for most programs: true also of NaN,
    # and of all where the threshold's upper half, of -1, is NaN.
    of_threshold = (threshold >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    SIZE: tl.constexpr = score.numel
    is_any = tl.max(tl.reshape((m_n & ((score < of_threshold) == 0)).to(tl.int32), [SIZE]))
    if is_any != 0:
        bits = tl.maximum(score.to(tl.int32, bitcast=True), 0)  # -0.0 is 0
        key = (bits.to(tl.int64) << 32) | (0xFFFFFFFF - (row & 0xFFFFFFFF))
        key = tl.reshape(key, [SIZE])
        is_row, is_valid = tl.reshape(m_n, [SIZE]), tl.reshape(score == score, [SIZE])
        passes = is_row & is_valid & (key > threshold)
        rank = tl.cumsum(passes.to(tl.int64))
        n_passing = tl.max(rank)
        if n_passing != 0:
            place = tl.atomic_add(p_selection + 1, n_passing, sem="relaxed")
            tl.store(p_keys + place + rank - 1, key, mask=passes)
        n_invalid = tl.sum((is_row & (is_valid == 0)).to(tl.int64))
        if n_invalid != 0:
            tl.atomic_add(p_selection + 2, n_invalid, sem="relaxed")


@dataclass
class _Before:
    """What `mark` found, to be restored by `undo`; keys: None while they are in their place."""

    selection: Tensor
    held: int
    keys: Tensor | None = None


class Candidates:
    """The keys that kernels let through, of rows of one segment: the k best are among them.

    The threshold is -1, or a key such that k keys are known that are no worse. It may lag behind,
    which only lets more keys through. Before a launch there is room for all its rows: nothing can
    overflow, and nothing is ever launched again.

    Args:
        k: how many are wanted.
        device: where the matrices are.
        threshold: keys up to this one are of no interest.
    """

    def __init__(self, k: int, device: torch.device, threshold: int) -> None:
        self._k = k
        self._keys = torch.empty(0, dtype=torch.int64, device=device)
        self._selection = torch.tensor([threshold, 0, 0], device=device)
        self._held, self._invalid = 0, 0  # keys at most; invalid rows when last looked at
        self._next_rows = _FIRST_ROWS if threshold < 0 else _MOST_ROWS
        self._before = _Before(self._selection, 0)

    def mark(self) -> None:
        """Makes this the moment that `undo` goes back to."""
        self._before = _Before(self._selection.clone(), self._held)

    def append(self, n_rows: int, launch: Callable[[slice, Tensor, Tensor], None]) -> int:
        """Lets n_rows through, and returns how many of them are invalid.

        Args:
            launch: starts a kernel on a slice of the rows, with the keys and the selection that
                `append`, the device function, is to get.
        """
        start, before = 0, self._invalid
        while start < n_rows:
            if self._held >= self._limit:
                self._settle()
            stop = min(n_rows, start + self._next_rows)
            self._reserve(self._held + stop - start)
            launch(slice(start, stop), self._keys, self._selection)
            self._held += stop - start
            self._next_rows = min(_GROWTH * self._next_rows, _MOST_ROWS)
            start = stop
        self._settle()
        return self._invalid - before

    def undo(self) -> None:
        """Forgets what was appended since `mark`."""
        self._selection.copy_(self._before.selection)
        _, self._held, self._invalid = self._selection.tolist()
        if self._before.keys is not None:
            self._keys[: self._held] = self._before.keys

    def best(self) -> Tensor:
        """The k best keys, or all if there are fewer, in no order."""
        self._compact()
        return self._keys[: self._held]

    @property
    def _limit(self) -> int:
        """How many keys to hold before the best of them are selected."""
        return max(2 * self._k, _FIRST_ROWS)

    def _reserve(self, n_keys: int) -> None:
        if n_keys > len(self._keys):
            keys = self._keys.new_empty(n_keys)
            keys[: self._held] = self._keys[: self._held]
            self._keys = keys

    def _settle(self) -> None:
        """Waits for the kernels, and selects if there is much to select from."""
        _, self._held, self._invalid = self._selection.tolist()
        if self._held >= self._limit:
            self._compact()

    def _compact(self) -> None:
        """Keeps the k best keys, one set whatever their order; the worst is the new threshold."""
        if self._before.keys is None:
            self._before.keys = self._keys[: self._before.held].clone()
        if self._held > self._k:
            best = torch.topk(self._keys[: self._held], self._k, sorted=False).values
            self._keys[: self._k] = best
            self._held = self._k
            self._selection[1] = self._k
        if self._held == self._k:
            self._selection[0] = self._keys[: self._k].min()
