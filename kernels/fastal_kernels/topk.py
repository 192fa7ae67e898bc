"""Selection behind the scores: candidates above the running threshold; exact compaction.

`append`, the device function, runs at the end of the kernels that score. It stores the keys (see
`keys.py`) of the rows that exceed the threshold. `Candidates` owns the buffer of keys, and raises
the threshold when the buffer holds many.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastal_kernels.keys import ROW_BITS, pack_key, threshold_key, unpack_keys, unpack_score

# Rows of a launch: the first while there is no threshold that keeps many rows out, and the most.
_FIRST_ROWS, _MOST_ROWS, _GROWTH = 1 << 16, 1 << 24, 8
_LEAST_LIMIT = 1 << 16  # fewer keys are not worth a selection


@triton.jit
def append(score, row, m_n, p_keys, p_selection):
    """Appends the keys of the rows that may be among the best, and counts invalid rows.

    The set of keys that are appended does not depend on the order of programs. Their places do.

    Args:
        score: float32 in [0, 1], or NaN for an invalid row, of any shape.
        row: their row numbers.
        m_n: which of them are rows of the matrix.
        p_keys: [capacity] int64.
        p_selection: [3] int64: the threshold, which a key has to exceed; the number of keys; the
            number of invalid rows.
    """
    threshold = tl.load(p_selection)
    # For most programs, one comparison a row finds that no row passes. It is true for NaN too, and
    # for all rows if there is no threshold: the score of the key -1 is NaN.
    threshold_score = unpack_score(threshold)
    if tl.max((m_n & ((score < threshold_score) == 0)).to(tl.int32)) != 0:
        SIZE: tl.constexpr = score.numel
        key = tl.reshape(pack_key(score, row), [SIZE])
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
    """The keys that kernels let through, for rows of one segment. The k best are among them.

    The threshold is -1, or is below the keys of a score that k known keys reach. It may lag behind:
    then more keys pass, and no result changes. Keys of that score pass too, so that those which are
    dropped can be counted. Before each launch there is room for the keys of all its rows. So no key
    is lost, and no launch is repeated.

    Args:
        k: how many rows are to be selected.
        device: where the matrices are.
        segment: the number of the segment, row // 2^32.
        threshold: score and row of a known k-th best row, of any segment; None if there is none.
    """

    def __init__(
        self, k: int, device: torch.device, segment: int, threshold: tuple[float, int] | None
    ) -> None:
        self._k, self._segment = k, segment
        self._has_threshold = threshold is not None
        self._next_rows = _MOST_ROWS if self._has_threshold else _FIRST_ROWS
        self._held = 0  # an upper bound of the number of keys
        self._kept: Tensor | None = None  # in a transaction: the keys that `_compact` overwrote
        self._n_kept: int | None = None  # the keys before the transaction; None outside of one
        key = -1 if threshold is None else threshold_key(threshold[0])
        with torch.inference_mode(False):  # a tensor made in it could not be changed outside
            self._keys = torch.empty(0, dtype=torch.int64, device=device)
            self._selection = torch.tensor([key, 0, 0], dtype=torch.int64, device=device)
        self._seen = [key, 0, 0]  # the selection as the host last read it
        self._before = self._seen  # the selection when the transaction began
        # The bits of a score, and how many keys with that score were dropped.
        self._lost = self._lost_before = self._selection.new_zeros(2)

    @property
    def kth(self) -> float | None:
        """The score of the threshold as last read; None if there was none."""
        if self._seen[0] < 0:
            return None
        key = torch.tensor(self._seen[0] + 1, dtype=torch.int64, device="cpu")
        return unpack_keys(key, self._segment)[0].item()

    def begin(self) -> None:
        """Begins a transaction, which `commit` or `roll_back` ends. `append` needs one.

        A transaction that nobody ended is rolled back.
        """
        if self._n_kept is not None:
            self.roll_back()
        self._before, self._lost_before = self._seen, self._lost
        self._n_kept, self._kept = self._before[1], None

    def commit(self) -> None:
        """Ends the transaction and keeps the rows that it appended."""
        self._n_kept = self._kept = None

    def roll_back(self) -> None:
        """Ends the transaction and removes the rows that it appended."""
        if self._kept is not None:
            self._keys[: self._n_kept] = self._kept
        self._selection.copy_(torch.tensor(self._before, dtype=torch.int64, device="cpu"))
        self._read_selection()
        self._lost = self._lost_before
        self._n_kept = self._kept = None

    @torch.inference_mode(False)
    def append(self, n_rows: int, launch: Callable[[slice, Tensor, Tensor], None]) -> int:
        """Scores and filters n_rows, within a transaction. Returns the number of invalid rows.

        Args:
            launch: starts a kernel on a slice of the rows. It passes the keys and the selection on
                to `append`, the device function.
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
        self._read_selection()
        self._compact()
        return unpack_keys(self._keys[: self._held], self._segment)

    def lost(self) -> tuple[float, int]:
        """A score, and how many rows with that score were dropped."""
        bits, n = self._lost.tolist()
        key = torch.tensor(bits << ROW_BITS.value, dtype=torch.int64, device="cpu")
        return unpack_keys(key, self._segment)[0].item(), n

    @property
    def _limit(self) -> int:
        """How many keys to hold before the best of them are selected."""
        return max(2 * self._k, _LEAST_LIMIT) if self._has_threshold else self._k

    def _reserve(self, n_keys: int) -> None:
        if n_keys > len(self._keys):
            keys = self._keys.new_empty(max(n_keys, 2 * len(self._keys)))
            keys[: self._held] = self._keys[: self._held]
            self._keys = keys

    def _read_selection(self) -> None:
        """Waits for the kernels, and reads what they counted."""
        self._seen = self._selection.tolist()
        threshold, self._held, _ = self._seen
        self._has_threshold = threshold >= 0

    def _settle(self) -> None:
        """Waits for the kernels, and selects if there are enough keys."""
        self._read_selection()
        if self._held >= self._limit:
            self._compact()
            # Waits for the selection too: the caller may go on in another stream.
            self._read_selection()
        if self._has_threshold:
            self._next_rows = min(_GROWTH * self._next_rows, _MOST_ROWS)

    def _compact(self) -> None:
        """Keeps the k best keys, the same set in any order. The worst is the new threshold."""
        if self._n_kept is not None and self._kept is None:
            self._kept = self._keys[: self._n_kept].clone()
        if self._held > self._k:
            keys = self._keys[: self._held]
            best = torch.topk(keys, self._k, sorted=False).values
            self._lost = self._with_dropped(keys, best)
            self._keys[: self._k] = best
            self._held = self._k
            self._selection[1].fill_(self._k)  # to assign it would wait for the GPU
        if self._held == self._k:
            score = self._keys[: self._k].min() >> ROW_BITS.value
            self._selection[0] = ((score << ROW_BITS.value) - 1).clamp(min=0)

    def _with_dropped(self, keys: Tensor, best: Tensor) -> Tensor:
        """What `_lost` is if of these keys only the best are kept."""
        score = best.min() >> ROW_BITS.value
        scores = keys >> ROW_BITS.value, best >> ROW_BITS.value
        in_all, in_best = ((of == score).sum() for of in scores)
        before = torch.where(self._lost[0] == score, self._lost[1], 0)
        return torch.stack((score, in_all - in_best + before))
