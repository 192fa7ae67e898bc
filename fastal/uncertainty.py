"""Uncertainty sampling: scores of a matrix, and the most uncertain rows of any pool."""

import logging
from typing import Any

import numpy as np
import torch

from fastal.base.arrays import converter_for, is_traced, traceable
from fastal.ops.formulas import UNCERTAINTY_SCORES, Scores
from fastal.pipeline.drive import run_resumable
from fastal.scoring import compiled
from fastal.scoring.scorer import By, Scorer, described, has_own_name
from fastal.selection.pick_warnings import warn_of
from fastal.selection.picks import Picks
from fastal.selection.selector import Selector
from fastal.selection.stratified import StratifiedSelector
from fastal.sources import PathLike, Source, open_pool
from fastal.sources.files import Files
from fastal.sources.grouped import Grouped

_log = logging.getLogger("fastal")
# What to look at in one go of a pool on a GPU, where starting kernels takes its time; and of any
# pool where callables are given copies.
_GPU_CHUNK_BYTES, _COPIED_BYTES = 4 << 30, 32 << 20


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
    scorer = Scorer(UNCERTAINTY_SCORES, kind=kind, on_invalid=on_invalid, backend=backend)
    _, scores = scorer(logits, 0)
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
    selector, arguments = selector_for(
        k, by, per_group, is_predicted, kind=kind, on_invalid=on_invalid, backend=backend,
        noise=noise, seed=seed, beta=beta,
    )  # fmt: skip
    if is_predicted:
        groups = None
    if checkpoint is not None and callable(by) and not has_own_name(by):
        raise ValueError("checkpoint: by is a lambda, a closure or an object: name it with def")
    opened = open_pool(pool)
    source = opened if groups is None else Grouped(opened, groups)
    if chunk_bytes is None and callable(by):
        chunk_bytes = _COPIED_BYTES
    picks: Picks = run_resumable(
        selector, source, arguments, chunk_bytes=chunk_bytes or chunk_bytes_for(pool),
        checkpoint=checkpoint, resume=resume, finish=lambda picks: with_ids(picks, opened),
    )  # fmt: skip
    warn_of(picks, selector, opened)
    return picks


def chunk_bytes_for(pool: Any) -> int | None:
    """How much of a pool to look at in one go; None: the pipeline knows."""
    return _GPU_CHUNK_BYTES if isinstance(pool, torch.Tensor) and pool.is_cuda else None


def with_ids(picks: Picks, pool: Source) -> Picks:
    """The picks with their ids; as NumPy arrays where the pool has files."""
    if isinstance(pool, Files):  # of bfloat16, which NumPy lacks, chunks are tensors
        picks = picks._replace(rows=np.asarray(picks.rows), scores=np.asarray(picks.scores))
    return picks._replace(ids=pool.ids(picks.rows))


def selector_for(
    k: int | None, by: By, per_group: int | None, predicted: bool, **options: Any
) -> tuple[Selector | StratifiedSelector, dict[str, Any]]:
    """The reducer that selects in this way, and the arguments that make a difference to it."""
    arguments = {"k": k, "by": described(by), **options}
    if options.get("noise") is None:
        arguments = {n: v for n, v in arguments.items() if n not in ("noise", "seed", "beta")}
    if per_group is None:
        return Selector(k, by, **options), arguments  # type: ignore[arg-type]
    arguments |= {"per_group": per_group, "predicted": predicted}
    return StratifiedSelector(per_group, by, k=k, predicted=predicted, **options), arguments
