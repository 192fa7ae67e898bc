"""Active transfer learning that adapts: each iteration counts the picks before it as learnt."""

import logging
from dataclasses import replace
from typing import Any

import torch

from fastal.base.checks import checked_count
from fastal.combine.labelled_hidden import given_correctness, given_hidden, hidden_of
from fastal.combine.later_passes import filter_without, rows_of
from fastal.combine.training import Training
from fastal.combine.transfer_picks import TransferPicks, as_probabilities, warn_of_auc, with_auc
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool, with_ids
from fastal.pipeline.run_options import RunOptions
from fastal.selection.selector import Selector
from fastal.sources import open_pool

_log = logging.getLogger("fastal")


def atlas(
    pool_hidden: Any,
    validation_hidden: Any,
    is_correct: Any,
    k: int,
    *,
    per_iteration: int = 10,
    model: str = "logistic",
    l2: float = 1.0,
    seed: int = 0,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    exclude: Any = None,
    among: Any = None,
    ties: str = "first",
    progress: bool = False,
) -> TransferPicks:
    """Active transfer learning for adaptive sampling: `transfer_uncertainty` in iterations.

    The picks of an iteration will have been labelled, and the main model will have learnt them. So
    they leave the pool and join the validation rows as correct. Then a new small model is trained,
    which tends to pick elsewhere: the picks are usually less alike than those of
    `transfer_uncertainty`.

    The pool is read once for each iteration, ceil(k / per_iteration) times, since each small model
    scores all rows anew. In between, the hidden states of the picks are read. Memory grows by
    8 H bytes for each pick.

    Args:
        pool_hidden: hidden states [N, H] of the main model; any pool that `fastal.select` takes. If
            there is more than one iteration, it can be read again.
        validation_hidden: as for `transfer_uncertainty`. It is not changed.
        is_correct: as for `transfer_uncertainty`. It is not changed.
        k: how many rows to pick in all, at least 1. The last iteration picks what is left to k. If
            fewer valid rows are left, all of them are picked, and a warning is logged.
        per_iteration: how many rows to pick in an iteration, at least 1.
        model: as for `transfer_uncertainty`.
        l2: as for `transfer_uncertainty`.
        seed: as for `transfer_uncertainty`.
        on_invalid: "raise" at the first row of the pool that is not finite, or "skip" to leave such
            rows out and count them in the picks' `invalid`.
        backend: "auto" or "torch".
        chunk_bytes: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        ties: as for `fastal.select`.
        progress: as for `fastal.select`, of each iteration.

    Returns:
        Picks in the order of picking, with the attribute `auc`. Scores are the probabilities of
        "wrong" by the small model of the iteration, in [0, 1]; so they can increase from one
        iteration to the next. `auc` is that of the first small model, which is trained on labels
        alone; see `transfer_uncertainty`.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `transfer_uncertainty`. Also if a second
            iteration finds that the pool cannot be read again.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.4.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> rng = np.random.default_rng(0)
        >>> validation, pool = rng.normal(size=(2, 500, 8)).astype(np.float32)
        >>> picks = combine.atlas(pool, validation, validation[:, 2] < 1, k=25)
        >>> len(picks), (pool[picks.rows[:10], 2] > 1).all()
        (25, np.True_)
    """
    k, per_iteration = checked_count("k", k), checked_count("per_iteration", per_iteration)
    pool = open_pool(pool_hidden)
    x = given_hidden(validation_hidden, "validation_hidden", pool)
    is_wrong = given_correctness(is_correct, len(x))
    training = Training(model, l2, seed, "atlas", "validation_hidden")
    auc = training.auc(x, is_wrong)
    warn_of_auc(auc, "wrong rows from right ones")
    picks: Picks | None = None
    while True:
        n_picked = 0 if picks is None else len(picks)
        selector = Selector(
            min(per_iteration, k - n_picked), training.measure(x, is_wrong), seed=seed,
            on_invalid=on_invalid, backend=backend, ties=ties,
        )  # fmt: skip
        options = RunOptions(chunk_bytes, exclude=exclude, among=among, progress=progress)
        chosen = run_on_pool(selector, pool, options, lambda found, _: found)
        found = as_probabilities(with_ids(chosen, pool, selector))
        picks = found if picks is None else replace(picks + found, invalid=found.invalid)
        if len(found) < selector.wanted or len(picks) == k:
            break
        rows = rows_of(found)
        exclude, among = filter_without(selector.row_filter, rows)
        hidden = hidden_of(pool, rows, on_invalid, chunk_bytes)
        x = torch.cat((x, hidden))
        is_wrong = torch.cat((is_wrong, torch.zeros(len(hidden), dtype=torch.bool, device="cpu")))
    if len(picks) < k:
        _log.warning(
            "k: wanted %d rows; %d valid ones were left, which were all picked", k, len(picks)
        )
    return with_auc(picks, auc)
