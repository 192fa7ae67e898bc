"""Scores of rows on CPUs, compiled for the instruction sets that processors offer.

Rows are read from memory once; what is looked at a second time is then still in the cache. Threads
take rows from one another until none are left, without the interpreter's lock. README.md, two
folders up, derives what the C beside this file does.
"""

import math
import os
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

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # as in job.h
VARIABLE = "FASTAL_NATIVE"  # names the instruction set to use instead of the best
_LEAST_SHARE = 1 << 16  # elements that are worth a thread
_LARGE_PAGE = 1 << 21

Threshold = tuple[float, int]


def reasons() -> list[str]:
    """Why this machine cannot use it; empty if it can."""
    return [_MISSING] if _native is None else []


def variants() -> list[str]:
    """The instruction sets that it is compiled for and this machine has, the best first."""
    return [] if _native is None else _native.variants()


def variant() -> str:
    """The instruction set to use: the best, or what the environment variable says.

    Raises:
        ValueError: it names none that there is.
    """
    found = os.environ.get(VARIABLE) or variants()[0]
    if found not in variants():
        raise ValueError(f"{VARIABLE}: wanted one of {', '.join(variants())}, got {found!r}")
    return found


def uncertainty(logits: Tensor, measures: Sequence[str], kind: str = "logits") -> list[Tensor]:
    """Uncertainty scores of each row, in the order of `measures`.

    Args:
        logits: [N, C] with C >= 2; float16, bfloat16, float32 or float64; any strides; on the host.
        measures: names of the scores above.
        kind: what the matrix holds: "logits", "probs" or "log_probs".

    Returns:
        A list of [N] float32 tensors in [0, 1], larger = more uncertain, NaN for invalid rows.
    """
    return scores_and_invalid(logits, measures, kind)[0]


def scores_and_invalid(
    logits: Tensor, measures: Sequence[str], kind: str
) -> tuple[list[Tensor], int]:
    """What `uncertainty` returns, and how many rows are invalid."""
    asked = asked_for(measures)
    scores = torch.empty(len(asked), len(logits), dtype=torch.float32, device="cpu")
    if scores.nbytes >= _LARGE_PAGE:
        _native.use_large_pages(scores.data_ptr(), scores.nbytes)
    n_invalid, _ = _work(logits, kind, scores=dict(zip(asked, scores, strict=True)))
    return [scores[asked.index(measure)] for measure in measures], n_invalid


def scores_above_threshold(
    logits: Tensor, measure: str, kind: str, first_row: int, threshold: Threshold | None
) -> tuple[Tensor, Tensor, int]:
    """Rows whose scores beat a bar, or tie with it and come before its row; without one, all valid.

    Args:
        logits, measure, kind: as for `uncertainty`.
        first_row: the number of the first row.
        bar: a score and a row.

    Returns:
        Their scores [n] float32 and numbers [n] int64, in no order, and how many rows are invalid.
    """
    found = torch.empty(len(logits), dtype=torch.float32, device="cpu")
    rows = torch.empty(len(logits), dtype=torch.int64, device="cpu")
    score, row = (-math.inf, 0) if threshold is None else threshold
    n_invalid, n_found = _work(
        logits, kind, by=measure, threshold=(score, row - first_row), rows=rows, found=found
    )
    return found[:n_found], rows[:n_found] + first_row, n_invalid


def mean_ranks(x: Tensor, table: Tensor) -> Tensor:
    """The mean over the columns of where a row's values rank among the values of a table.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides; on the host.
        table: [D, V] float32 with V >= 1 on the host, sorted along V, without NaN.

    Returns:
        [N] float32 in [0, 1]; NaN for rows with NaN, +inf or no finite value. They are off by at
        most 2^-24: the sums are float64.
    """
    n_rows, n_columns = x.shape
    means = torch.empty(n_rows, dtype=torch.float32, device="cpu")
    table = table.contiguous()
    n_threads = min(torch.get_num_threads(), 1 + x.numel() // _LEAST_SHARE)
    progress = torch.zeros(4, dtype=torch.int64, device="cpu")
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
        _ = x, table, means  # as in `_work`
        return _native.rank(*arguments)

    in_threads(work, n_threads, progress, n_rows)
    return means


class Guard:
    """A watch over a tensor's memory; see `guarded`."""

    __slots__ = ("_broken", "_number", "_x")

    def __init__(self, x: Tensor) -> None:
        self._x: Tensor | None = x  # kept while it is watched
        self._number = -1
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether a page was lost so far; after the context, whether one was lost within it."""
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
    """A context in which `x` outlives its memory: a mapped file that is cut short, or not read.

    A page that is lost reads as NaN in every dtype of `DTYPES`, from then on; without the context,
    the process ends. Whoever reads `x` must be done when the context ends, and throw away what came
    of it if the guard is `broken`. That no page was lost does not mean that nothing was: beyond the
    end of a file, the rest of its last page reads as zeros.

    Where it was not compiled, off the host, or beside 64 others, nothing is watched.
    """
    return Guard(x)


def _work(
    logits: Tensor,
    kind: str,
    *,
    scores: dict[str, Tensor] | None = None,
    by: str | None = None,
    threshold: Threshold = (0.0, 0),
    rows: Tensor | None = None,
    found: Tensor | None = None,
) -> tuple[int, int]:
    """Does what job.h says; how many rows are invalid, and how many were found."""
    n_rows, n_classes = logits.shape
    n_threads = min(torch.get_num_threads(), 1 + logits.numel() // _LEAST_SHARE)
    progress = torch.zeros(4, dtype=torch.int64, device="cpu")  # next row, done, invalid, found
    arguments = (
        variant(),
        logits.data_ptr(),
        DTYPES.index(logits.dtype),
        n_rows,
        n_classes,
        *(stride * logits.element_size() for stride in logits.stride()),
        kind == "probs",
        probs_tolerance(logits.dtype, n_classes),
        tuple(_address((scores or {}).get(measure)) for measure in UNCERTAINTY_SCORES),
        -1 if by is None else UNCERTAINTY_SCORES.index(by),
        *threshold,
        _address(rows),
        _address(found),
        n_threads,
        _address(progress),
    )

    def work() -> object:
        # Addresses keep nothing alive; this function, which a thread may still hold, does.
        _ = logits, scores, rows, found
        return _native.work(*arguments)

    in_threads(work, n_threads, progress, n_rows)
    _, _, n_invalid, n_found = progress.tolist()
    return n_invalid, n_found


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
