"""Scores and mean ranks of rows on CPUs, in C that is compiled for several instruction sets.

Rows are read from memory once. Where the kernels read values a second time, these are still in the
cache. Threads claim rows until none are left, without the interpreter's lock. kernels/README.md
derives what the C code does.
"""

import functools
import math
import os
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from fastal_kernels.measures import UNCERTAINTY_SCORES, asked_for, probs_tolerance
from fastal_kernels.native.threads import in_threads

try:
    import fastal_kernels.native._native as _native
except ModuleNotFoundError:
    _native = None
    _MISSING = (
        "it was not compiled when fastal was installed: "
        "that takes gcc 9 or clang, and Python's headers (python3-dev)"
    )
except ImportError as error:
    _native = None
    _MISSING = f"it cannot be loaded: {error}"
else:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_native.unguard_after_fork)

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # in the order of job.h
VARIABLE = "FASTAL_NATIVE"  # environment variable: the instruction set to use instead of the best
COUNTS = 7  # words of 64 bits in `struct progress`, see job.h
_LOWER_HALF = (1 << 32) - 1  # of a key, see best.h
LEAST_SHARE = 1 << 16  # elements that are worth one more thread
_LARGE_PAGE = 1 << 21
# A selection of k rows raises its threshold when k / 4 more have passed, at least so many. Then a
# thread looks for the k-th best, and all threads derive new bounds. That takes microseconds for
# k = 1000.
_LEAST_PASSED = 1 << 8

Threshold = tuple[float, int]  # a score and a row number


def reasons() -> list[str]:
    """The reasons why this machine cannot use the kernels; empty if it can."""
    return [_MISSING] if _native is None else []


def variants() -> list[str]:
    """The compiled instruction sets that this machine has, the best first."""
    return [] if _native is None else _native.variants()


def variant() -> str:
    """The instruction set to use: the best, or the one that the environment variable names.

    Raises:
        ValueError: the variable names an instruction set that is not available.
    """
    found = os.environ.get(VARIABLE) or variants()[0]
    if found not in variants():
        raise ValueError(f"{VARIABLE}: wanted one of {', '.join(variants())}, got {found!r}")
    return found


def uncertainty(
    logits: Tensor, measures: Sequence[str], kind: str = "logits", temperature: float = 1.0
) -> list[Tensor]:
    """Uncertainty scores of each row, in the order of `measures`.

    Args:
        logits: [N, C] with C >= 2; float16, bfloat16, float32 or float64; any strides; on the host.
        measures: names from `UNCERTAINTY_SCORES`.
        kind: what the matrix holds: "logits", "probs" or "log_probs".
        temperature: logits are divided by it; 1 for "probs".

    Returns:
        A list of [N] float32 tensors in [0, 1]. Larger is more uncertain. NaN for invalid rows.
    """
    return scores_and_invalid(logits, measures, kind, temperature)[0]


def scores_and_invalid(
    logits: Tensor, measures: Sequence[str], kind: str, temperature: float = 1.0
) -> tuple[list[Tensor], int]:
    """The scores as `uncertainty` returns them, and the number of invalid rows."""
    asked = asked_for(measures)
    scores = torch.empty(len(asked), len(logits), dtype=torch.float32, device="cpu")
    if scores.nbytes >= _LARGE_PAGE:
        _native.use_large_pages(scores.data_ptr(), scores.nbytes)
    of_measures = dict(zip(asked, scores, strict=True))
    _, _, n_invalid, *_ = _work(logits, kind, temperature, scores=of_measures)
    return [scores[asked.index(measure)] for measure in measures], n_invalid


def scores_above_threshold(
    logits: Tensor,
    measure: str,
    kind: str,
    first_row: int,
    threshold: Threshold | None,
    temperature: float = 1.0,
    k: int = 0,
) -> tuple[Tensor, Tensor, int, tuple[float, int]]:
    """The rows whose scores beat a threshold. Without a threshold, all valid rows.

    A row beats the threshold if its score is larger, or if it is equal and the row comes earlier.

    Args:
        logits, measure, kind, temperature: as for `uncertainty`, with less than 2^32 - 1 rows.
        first_row: the number of the first row.
        threshold: a score and a row number, or None.
        k: only the k best of these rows are wanted. Then the k-th best row so far becomes the
            threshold. 0: all of them are wanted.

    Returns:
        The scores [n] float32 and row numbers [n] int64 of these rows, in no order; with `k`, of
        the k best of them and of some others. The number of invalid rows. The highest score of a
        row that tied with the threshold and did not beat it, and the number of all such rows with
        this score, except rows that are returned; (-inf, 0) if there is none.
    """
    score, row = (-math.inf, 0) if threshold is None else threshold
    select = functools.partial(
        _work, logits, kind, temperature, by=measure, threshold=(score, row - first_row)
    )
    n_rows = len(logits)
    k = min(k, n_rows)
    if k:
        n_keys = min(n_rows, k + max(k // 4, _LEAST_PASSED))
        keys = torch.empty(n_keys, dtype=torch.int64, device="cpu")
        _, _, n_invalid, n_found, lost, *_ = select(k=k, keys=keys)
        of_found = keys[:n_found].numpy()
        scores = torch.from_numpy((of_found >> 32).astype("int32").view("float32"))
        rows = torch.from_numpy((~of_found & _LOWER_HALF) + first_row)
    else:
        scores = torch.empty(n_rows, dtype=torch.float32, device="cpu")
        rows = torch.empty(n_rows, dtype=torch.int64, device="cpu")
        _, _, n_invalid, n_found, lost, *_ = select(rows=rows, found=scores)
        scores, rows = scores[:n_found], rows[:n_found].add_(first_row)
    n_lost = lost & _LOWER_HALF
    (lost_score,) = struct.unpack("f", struct.pack("i", lost >> 32))
    return scores, rows, n_invalid, (lost_score if n_lost else -math.inf, n_lost)


def mean_ranks(x: Tensor, table: Tensor) -> Tensor:
    """The mean over the columns of the rank of a row's value among the values of a table.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides; on the host.
        table: [D, V] float32 with V >= 1 on the host, sorted along V, without NaN.

    Returns:
        [N] float32 in [0, 1], with an error of at most 2^-24, because the sums are float64. NaN for
        rows with NaN, +inf or no finite value.
    """
    n_rows, n_columns = x.shape
    means = torch.empty(n_rows, dtype=torch.float32, device="cpu")
    table = table.contiguous()
    n_threads = min(torch.get_num_threads(), 1 + x.numel() // LEAST_SHARE)
    progress = torch.zeros(COUNTS, dtype=torch.int64, device="cpu")
    arguments = (
        variant(),
        x.data_ptr(),
        DTYPES.index(x.dtype),
        n_rows,
        n_columns,
        *(stride * x.element_size() for stride in x.stride()),
        table.data_ptr(),
        table.shape[1],
        means.data_ptr(),
        n_threads,
        progress.data_ptr(),
    )

    def work() -> object:
        _ = x, table, means  # keeps the memory alive; see `_work`
        return _native.rank(*arguments)

    in_threads(work, n_threads, progress, n_rows)
    return means


class Guard:
    """A watch over a tensor's memory; see `guarded`."""

    __slots__ = ("_broken", "_number", "_x")

    def __init__(self, x: Tensor) -> None:
        self._x: Tensor | None = x  # keeps the tensor alive while it is watched
        self._number = -1
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether a page was lost so far. After the context: whether one was lost within it."""
        return self._broken or (self._number >= 0 and _native.is_broken(self._number))

    def __enter__(self) -> "Guard":
        x = self._x
        if _native is not None and x is not None and x.device.type == "cpu" and x.numel():
            last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
            self._number = _native.guard(x.data_ptr(), (last + 1) * x.element_size())
        return self

    def __exit__(self, *_: object) -> None:
        if self._number >= 0:
            self._broken = _native.unguard(self._number)
        self._number, self._x = -1, None


def guarded(x: Tensor) -> Guard:
    """A context in which `x` can be read even if pages of its mapped file are lost.

    Pages are lost if another process cuts the file short, or if the disk fails to read it. Within
    the context, a lost page reads as NaN in every dtype of `DTYPES`. Without the context, the read
    ends the process. All reads of `x` must have ended before the context ends. If the guard is
    `broken`, their results must be discarded. An unbroken guard does not prove that the file is
    whole: the rest of the page in which a cut file ends reads as zeros.

    Nothing is watched if the kernels were not compiled, if `x` is not on the host, or if 64 other
    guards exist.
    """
    return Guard(x)


def _work(
    logits: Tensor,
    kind: str,
    temperature: float,
    *,
    scores: dict[str, Tensor] | None = None,
    by: str | None = None,
    threshold: Threshold = (0.0, 0),
    rows: Tensor | None = None,
    found: Tensor | None = None,
    k: int = 0,
    keys: Tensor | None = None,
) -> list[int]:
    """Runs a job. Returns its `struct progress`; see job.h."""
    n_rows, n_classes = logits.shape
    n_threads = min(torch.get_num_threads(), 1 + logits.numel() // LEAST_SHARE)
    progress = torch.zeros(COUNTS, dtype=torch.int64, device="cpu")
    arguments = (
        variant(),
        logits.data_ptr(),
        DTYPES.index(logits.dtype),
        n_rows,
        n_classes,
        *(stride * logits.element_size() for stride in logits.stride()),
        kind == "probs",
        probs_tolerance(logits.dtype, n_classes),
        1 / temperature,
        tuple(address_of((scores or {}).get(measure)) for measure in UNCERTAINTY_SCORES),
        -1 if by is None else UNCERTAINTY_SCORES.index(by),
        *threshold,
        address_of(rows),
        address_of(found),
        k,
        0 if keys is None else len(keys),
        address_of(keys),
        n_threads,
        address_of(progress),
    )

    def work() -> object:
        # Addresses keep no memory alive. This function does, and a thread may still hold it.
        _ = logits, scores, rows, found, keys
        return _native.work(*arguments)

    in_threads(work, n_threads, progress, n_rows)
    counts: list[int] = progress.tolist()
    return counts


def call(job: str, arguments: tuple[object, ...]) -> object:
    """Works on a job of this name in the C module, for a while; see job.h."""
    return getattr(_native, job)(*arguments)


def address_of(x: Tensor | None) -> int:
    """The address of a tensor's memory; 0 for None."""
    return 0 if x is None else x.data_ptr()
