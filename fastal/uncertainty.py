"""Uncertainty sampling: scores of a matrix, and the most uncertain rows of any pool."""

import logging
from typing import Any, TypedDict

from fastal.base.arrays import converter_for, is_traced, traceable
from fastal.ops.formulas import UNCERTAINTY_SCORES, Scores
from fastal.pipeline.options import RunOptions
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.scoring import compiled
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.measure_for import By
from fastal.scoring.options import ScoringOptions
from fastal.scoring.scorer import Scorer
from fastal.selection.factory import selector_for
from fastal.selection.picks import Picks
from fastal.sources import PathLike

_log = logging.getLogger("fastal")


class SelectOptions(TypedDict, total=False):
    """The keyword arguments of `select` that other strategies pass on to it."""

    on_invalid: str
    backend: str
    groups: Any
    per_group: int | None
    noise: str | None
    seed: int
    beta: float
    chunk_bytes: int | None
    checkpoint: PathLike | None
    resume: bool


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
            (within 1e-3, or what rounding to the dtype can do to the sum where that is more).
            Values from -1e-3 to 0 count as 0.
        backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.

    Returns:
        Scores of four [N] float32 arrays of the kind of `logits`, each in [0, 1], 1 = most
        uncertain. Within `torch.compile`, also with fullgraph=True, or `torch.jit.trace`, it is
        one operator.

    Raises:
        InvalidRows: with on_invalid="raise", naming the first invalid rows and their count.
        ValueError, TypeError: a bad argument, named, with what came and what was wanted.

    Source: Munro, Human-in-the-Loop Machine Learning, section 3.2.
    """
    if is_traced():
        return Scores(*compiled.score(traceable(logits, kind), kind, on_invalid, backend).unbind())
    scorer = Scorer(UncertaintyScore(UNCERTAINTY_SCORES, kind), ScoringOptions(on_invalid, backend))
    scores = scorer.score(logits)
    if scorer.invalid:
        _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, len(scores[0]))
    return Scores(*map(converter_for(logits), scores))


def select(
    pool: Any,
    k: int | None = None,
    by: By = "entropy",
    *,
    kind: str = "logits",
    on_invalid: str = "raise",
    backend: str = "auto",
    groups: Any = None,
    per_group: int | None = None,
    noise: str | None = None,
    seed: int = 0,
    beta: float = 1.0,
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
) -> Picks:
    """The k rows of a pool most worth labelling, in one pass, exact and deterministic.

    Args:
        pool: [N, C] array in memory; a file, a folder, a glob or a list of these (rows are numbered
            across files in path order); an iterable of [n, C] arrays, such as `predictions`; or
            what `open_pool` returned, which says which arrays of files are meant, and where their
            ids are.
        k: how many rows to pick, at least 1; k >= N picks every valid row. None: as many as
            `per_group` says.
        by: "least_confidence", "margin", "ratio" or "entropy" (see `score`); a measure of
            `fastal.diversity`; or a callable from a chunk, given as a torch tensor, to [n] scores
            (larger = more worth labelling), which are rounded to float32 and ranked as such.
        kind: as in `score`.
        on_invalid: "raise" at the first chunk with an invalid row, or "skip" to leave such rows
            out and count them in the picks' `invalid`.
        backend: as in `score`.
        groups: for quotas: an array [N] of labels, or "predicted", the predicted classes; None: the
            pool's own (`group_column`).
        per_group: with k, at most so many rows of a group; without, so many of each group.
        noise: None, or "power", "softmax" or "softrank": rows are drawn at random, the better the
            likelier; see `Selector`.
        seed: of the noise: the same seed gives the same picks, whatever the chunks.
        beta: the larger, the less random.
        chunk_bytes: how much of the pool to look at in one go; None: as suits.
        checkpoint: a folder to save the state in, every 30 seconds; pools of files only. What
            came after the last time is done again: signals are the caller's business.
        resume: go on from the checkpoint, if there is one; one of another pool, k or the like is
            refused.

    Returns:
        Picks, best first, ties to the lower row number; arrays of the kind of the pool, NumPy for
        files. A warning is logged if nothing was picked, if picks have the score of a row of equal
        values (padding, failed items), and if logits look like probabilities.

    Raises:
        InvalidRows: with on_invalid="raise", naming rows by their numbers in the pool and, for
            files, by file and row.
        ValueError, TypeError, OSError: a bad argument or file, named.

    Source: of the noise, Kirsch et al., Stochastic Batch Acquisition (2023), section 3; of quotas,
    Munro, Human-in-the-Loop Machine Learning, section 4.5.
    """
    is_predicted = isinstance(groups, str) and groups == "predicted"
    if groups is not None and per_group is None:
        raise ValueError("groups: wanted per_group as well, the rows to pick of each")
    selector = selector_for(
        k, by, ScoringOptions(on_invalid, backend), kind=kind, per_group=per_group,
        predicted=is_predicted, noise=noise, seed=seed, beta=beta,
    )  # fmt: skip
    options = RunOptions(chunk_bytes, checkpoint, resume)
    return pick_from_pool(selector, pool, options, groups=None if is_predicted else groups)
