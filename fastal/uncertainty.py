"""Uncertainty sampling: scores of a matrix, and the most uncertain rows of any pool."""

import logging
from typing import Any

import numpy as np
import torch

from fastal import ops
from fastal.arrays import as_tensor, kind_of
from fastal.pipeline import run
from fastal.scorer import By, Scorer
from fastal.scores import MEASURES, Scores
from fastal.selection import Picks, Selector
from fastal.sources import open_pool

_log = logging.getLogger("fastal")
# What to look at of a pool in memory in one go: its chunks are no copies, and starting threads or
# kernels takes its time. On a host, where scores may be kept for a chunk, less.
_GPU_CHUNK_BYTES, _HOST_CHUNK_BYTES = 4 << 30, 1 << 28


def score(
    logits: Any, *, kind: str = "logits", on_invalid: str = "raise", backend: str = "auto"
) -> Scores:
    """All four uncertainty scores of every row, from one read of the matrix.

    With p = softmax(logits, 1), its two largest p1 >= p2 in a row and n classes:
    least_confidence = n (1 − p1) / (n − 1), margin = 1 − (p1 − p2), ratio = p2 / p1,
    entropy = −Σ p log p / log n. Relative error at most 1e-5 against these in float64, for scores
    that float32 has in full precision (from 1.2e-38 up).

    Args:
        logits: [N, C] array with C >= 2; float16, bfloat16, float32 or float64; any strides, any
            device; torch, NumPy or another DLPack producer. −inf rules a class out.
        kind: what the matrix holds: "logits", "probs" or "log_probs". Never guessed. Rows of
            probabilities are scored as divided by their sum; log-probabilities go the way of
            logits, since softmax gives back the distribution that they are the logarithm of.
        on_invalid: "raise", or "skip" to give invalid rows NaN and log their count. Invalid are
            rows with NaN, +inf or no finite value, and probabilities below 0 or not summing to 1
            (within 1e-3, or what rounding to the dtype can do where that is more).
        backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.

    Returns:
        Scores of four [N] float32 arrays of the kind of `logits`, each in [0, 1], 1 = most
        uncertain. Within `torch.compile`, also with fullgraph=True, it is one operator.

    Raises:
        InvalidRows: with on_invalid="raise", naming the first invalid rows and their count.
        ValueError, TypeError: a bad argument, named, with what came and what was wanted.

    Source: Munro, Human-in-the-Loop Machine Learning, section 3.2.
    """
    if torch.compiler.is_compiling():
        return Scores(*ops.score(as_tensor(logits, kind), kind, on_invalid, backend))
    scorer = Scorer(MEASURES, kind=kind, on_invalid=on_invalid, backend=backend)
    _, scores = scorer(logits, 0)
    if scorer.invalid:
        _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, len(scores[0]))
    return Scores(*map(kind_of(logits), scores))


def select(
    pool: Any,
    k: int,
    by: By = "entropy",
    *,
    kind: str = "logits",
    on_invalid: str = "raise",
    backend: str = "auto",
) -> Picks:
    """The k rows of a pool most worth labelling, in one pass, exact and deterministic.

    Args:
        pool: [N, C] array in memory; a .npy file, a folder of them, a glob, or a list of these
            (rows are numbered across files in path order); or an iterable of [n, C] arrays.
        k: how many rows to pick, at least 1; k >= N picks every valid row.
        by: "least_confidence", "margin", "ratio" or "entropy" (see `score`), or a callable from a
            chunk, given as a torch tensor, to [n] scores (larger = more worth labelling), which
            are rounded to float32 and ranked as such.
        kind: as in `score`.
        on_invalid: "raise" at the first chunk with an invalid row, or "skip" to leave such rows
            out and count them in the picks' `invalid`.
        backend: as in `score`.

    Returns:
        Picks, best first, ties to the lower row number; arrays of the kind of the pool, NumPy for
        files.

    Raises:
        InvalidRows: with on_invalid="raise", naming rows by their numbers in the pool and, for
            files, by file and row.
        ValueError, TypeError, OSError: a bad argument or file, named.
    """
    selector = Selector(k, by, kind=kind, on_invalid=on_invalid, backend=backend)
    chunk_bytes = None
    if isinstance(pool, (torch.Tensor, np.ndarray)) and not callable(by):  # given a copy
        on_gpu = isinstance(pool, torch.Tensor) and pool.is_cuda
        chunk_bytes = _GPU_CHUNK_BYTES if on_gpu else _HOST_CHUNK_BYTES
    return run(selector, open_pool(pool), chunk_bytes=chunk_bytes)
