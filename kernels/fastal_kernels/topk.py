"""Selection behind the scores: candidates above the running threshold; exact compaction.

A key is the bits of a row's score above those of 2^32 - 1 - row, an int64 that is not negative:
keys are unique, larger ones are better, and ties go to the lower row. Rows are taken modulo 2^32,
so that keys compare within one *segment* of as many rows.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

_SEGMENT_BITS = 32
_LOW = (1 << _SEGMENT_BITS) - 1
# Rows of a launch: at first, until there is a threshold that is worth something, and at most.
_FIRST_ROWS, _MOST_ROWS, _GROWTH = 1 << 16, 1 << 24, 8
_LEAST_LIMIT = 1 << 16  # keys that are not worth a selection


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
    if tl.max((m_n & ((score < of_threshold) == 0)).to(tl.int32)) != 0:
        SIZE: tl.constexpr = score.numel
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


class Candidates:
    """The keys that kernels let through, of rows of one segment: the k best are among them.

    The threshold is -1, or a key such that k keys are known that are no worse. It may lag behind,
    which only lets more keys through. Before a launch there is room for all its rows: nothing can
    overflow, and nothing is ever launched again.

    Args:
        k: how many are wanted.
        device: where the matrices are.
        segment: the number of the segment, row // 2^32.
        bar: score and row of a k-th best that is known, of any segment; None: there is none.
    """

    def __init__(
        self, k: int, device: torch.device, segment: int, bar: tuple[float, int] | None
    ) -> None:
        self._k, self._segment = k, segment
        self._has_threshold = bar is not None
        self._next_rows = _MOST_ROWS if self._has_threshold else _FIRST_ROWS
        self._held = 0  # keys, at most
        self._kept: Tensor | None = None  # what `_compact` overwrites in a transaction
        self._n_kept: int | None = None  # None outside of one
        with torch.inference_mode(False):  # a tensor made in it could not be changed outside
            self._keys = torch.empty(0, dtype=torch.int64, device=device)
            self._selection = torch.tensor(
                [self._threshold(bar), 0, 0], dtype=torch.int64, device=device
            )
        self._seen = [self._threshold(bar), 0, 0]  # the selection when last looked at
        self._before = self._seen  # the selection when the transaction began

    @property
    def kth(self) -> float | None:
        """The score of the threshold when last looked at; None: there was none."""
        if self._seen[0] < 0:
            return None
        bits = torch.tensor(self._seen[0] >> _SEGMENT_BITS, dtype=torch.int32, device="cpu")
        return bits.view(torch.float32).item()

    def begin(self) -> None:
        """Begins a transaction: rows are appended in one, and `commit` or `roll_back` ends it."""
        self._before = self._seen
        self._n_kept, self._kept = self._before[1], None

    def commit(self) -> None:
        """Keeps the rows that the transaction appended."""
        self._n_kept = self._kept = None

    def roll_back(self) -> None:
        """Removes the rows that the transaction appended."""
        if self._kept is not None:
            self._keys[: self._n_kept] = self._kept
        self._selection.copy_(torch.tensor(self._before, dtype=torch.int64, device="cpu"))
        self._look()
        self._n_kept = self._kept = None

    @torch.inference_mode(False)
    def append(self, n_rows: int, launch: Callable[[slice, Tensor, Tensor], None]) -> int:
        """Lets n_rows through, within a transaction, and returns how many of them are invalid.

        Args:
            launch: starts a kernel on a slice of the rows, with the keys and the selection that
                `append`, the device function, is to get.
        """
        start, (_, _, invalid) = 0, self._seen
        while start < n_rows:
            if self._held >= self._limit:
                self._settle()
            stop = min(n_rows, start + self._next_rows)
            self._reserve(self._held + stop - start)
            launch(slice(start, stop), self._keys, self._selection)
            self._held += stop - start
            start = stop
        self._settle()
        return self._seen[2] - invalid

    @torch.inference_mode(False)
    def best(self) -> tuple[Tensor, Tensor]:
        """Scores and rows of the k best, or of all if there are fewer, in no order."""
        self._look()
        self._compact()
        keys = self._keys[: self._held]
        scores = (keys >> _SEGMENT_BITS).to(torch.int32).view(torch.float32)
        return scores, (_LOW - (keys & _LOW)) | (self._segment << _SEGMENT_BITS)

    def _threshold(self, bar: tuple[float, int] | None) -> int:
        """The key that keys of the segment must exceed to beat a row with that score."""
        if bar is None:
            return -1
        score, row = bar
        key = (
            int(torch.tensor(score, dtype=torch.float32, device="cpu").view(torch.int32))
            << _SEGMENT_BITS
        )
        if row >> _SEGMENT_BITS == self._segment:
            return key | (_LOW - (row & _LOW))
        # A tie is won by all rows of a segment before that of the bar, and lost by all after it.
        return key | _LOW if self._segment > row >> _SEGMENT_BITS else key - 1

    @property
    def _limit(self) -> int:
        """How many keys to hold before the best of them are selected."""
        return max(2 * self._k, _LEAST_LIMIT) if self._has_threshold else self._k

    def _reserve(self, n_keys: int) -> None:
        if n_keys > len(self._keys):
            keys = self._keys.new_empty(max(n_keys, 2 * len(self._keys)))
            keys[: self._held] = self._keys[: self._held]
            self._keys = keys

    def _look(self) -> None:
        """Waits for the kernels, and reads what they counted."""
        self._seen = self._selection.tolist()
        threshold, self._held, _ = self._seen
        self._has_threshold = threshold >= 0

    def _settle(self) -> None:
        """Waits for the kernels, and selects if there is much to select from."""
        self._look()
        if self._held >= self._limit:
            self._compact()
            self._look()  # nothing is left undone for a caller's other stream to run into
        if self._has_threshold:
            self._next_rows = min(_GROWTH * self._next_rows, _MOST_ROWS)

    def _compact(self) -> None:
        """Keeps the k best keys, one set whatever their order; the worst is the new threshold."""
        if self._n_kept is not None and self._kept is None:
            self._kept = self._keys[: self._n_kept].clone()
        if self._held > self._k:
            best = torch.topk(self._keys[: self._held], self._k, sorted=False).values
            self._keys[: self._k] = best
            self._held = self._k
            self._selection[1] = self._k
        if self._held == self._k:
            self._selection[0] = self._keys[: self._k].min()
