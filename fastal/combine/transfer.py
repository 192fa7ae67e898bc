"""Active transfer learning: a small model on hidden states says which rows to label."""

from typing import Any

import torch

from fastal.base.checks import checked_count
from fastal.combine.labelled_hidden import given_correctness, given_hidden, hidden_of
from fastal.combine.later_passes import filter_without, rows_of
from fastal.combine.training import Training
from fastal.combine.transfer_picks import TransferPicks, as_probabilities, warn_of_auc, with_auc
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.selection.selector import Selector
from fastal.sources import PathLike, open_pool
from fastal.uncertainty import select

_POOL_ROWS = 10_000


def transfer_uncertainty(
    pool_hidden: Any,
    validation_hidden: Any,
    is_correct: Any,
    k: int | None = None,
    *,
    model: str = "logistic",
    l2: float = 1.0,
    seed: int = 0,
    on_invalid: str = "raise",
    backend: str = "auto",
    groups: Any = None,
    per_group: int | None = None,
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    exclude: Any = None,
    among: Any = None,
    ties: str = "first",
    progress: bool = False,
) -> TransferPicks:
    """The k rows that the main model most probably gets wrong, by what it got wrong before.

    A small model learns to tell validation rows that the main model got wrong from those that it
    got right, by their hidden states. The rows of the pool with the highest probability of "wrong"
    are picked. The pool is read once.

    Args:
        pool_hidden: hidden states [N, H] of the main model, such as the activations before its last
            layer; any pool that `fastal.select` takes.
        validation_hidden: [V, H] hidden states of the same layer, finite, of labelled rows that the
            main model was not trained on: an array, or any pool that fits into memory as float64.
        is_correct: [V] bools, whether the main model predicts the label of the row, such as
            predicted == labels. At least one is True and one is False.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked. Required unless
            `per_group` is given.
        model: "logistic" for logistic regression, or "network" for a network of one hidden layer of
            32 units, which is trained with early stopping on a held-out fifth of the rows and needs
            5 rows of each side. For both, the columns are standardised by the validation rows, and
            the two sides have the same weight, however many rows they have.
        l2: the weight of the penalty on the weights, above 0. Larger values make a simpler model.
            It is 1 / C of scikit-learn's LogisticRegression(class_weight="balanced").
        seed: of the folds of the AUC, of the network and of ties="random", from 0 to 2^64 - 1.
        on_invalid: "raise" at the first row of the pool that is not finite, or "skip" to leave such
            rows out and count them in the picks' `invalid`.
        backend: "auto" or "torch".
        groups: as for `fastal.select`.
        per_group: as for `fastal.select`.
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`.
        resume: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        ties: as for `fastal.select`.
        progress: as for `fastal.select`.

    Returns:
        Picks, best first, with the attribute `auc`. Scores are probabilities of "wrong" in [0, 1],
        for sides of equal weight; larger = more worth labelling. Rows are ordered by the log-odds
        in float32, so rows whose probability rounds to 1 do not tie. `auc` is the mean over five
        folds of the validation rows, of which each is scored by a model that was trained on the
        others; over fewer, if a side has fewer rows. If it is below 0.6 or could not be measured, a
        warning is logged.

        The logistic regression is a convex problem, which Newton's method solves in float64; the
        weights are then rounded to float32, and the log-odds are computed in float64. So the picks
        are the same each time. The network is the same each time on the same machine with the same
        number of threads.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`. Also if no validation row,
            or every one, is wrong, or one is not finite.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.2.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> rng = np.random.default_rng(0)
        >>> validation, pool = rng.normal(size=(2, 500, 8)).astype(np.float32)
        >>> picks = combine.transfer_uncertainty(pool, validation, validation[:, 2] < 1, k=3)
        >>> pool[picks.rows, 2] > 1, picks.auc > 0.9
        (array([ True,  True,  True]), True)
    """
    pool = open_pool(pool_hidden)
    hidden = given_hidden(validation_hidden, "validation_hidden", pool)
    is_wrong = given_correctness(is_correct, len(hidden))
    training = Training(model, l2, seed, "transfer_uncertainty", "validation_hidden")
    auc = training.auc(hidden, is_wrong)
    warn_of_auc(auc, "wrong rows from right ones")
    picks = select(
        pool, k, training.measure(hidden, is_wrong), seed=seed, on_invalid=on_invalid,
        backend=backend, groups=groups, per_group=per_group, chunk_bytes=chunk_bytes,
        checkpoint=checkpoint, resume=resume, exclude=exclude, among=among, ties=ties,
        progress=progress,
    )  # fmt: skip
    return with_auc(as_probabilities(picks), auc)


def transfer_representative(
    pool_hidden: Any,
    labelled_hidden: Any,
    k: int | None = None,
    *,
    pool_rows: int = _POOL_ROWS,
    model: str = "logistic",
    l2: float = 1.0,
    seed: int = 0,
    on_invalid: str = "raise",
    backend: str = "auto",
    groups: Any = None,
    per_group: int | None = None,
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    exclude: Any = None,
    among: Any = None,
    ties: str = "first",
    progress: bool = False,
) -> TransferPicks:
    """The k rows that are least like the labelled data, by a model that tells them from the pool.

    A small model learns to tell random rows of the pool from labelled rows, by their hidden states.
    The rows with the highest probability of "pool" are picked. The pool is read three times: for
    the numbers of the random rows, for their hidden states, which are read alone if the pool is an
    array or files and they are few, and for the picks. The random rows are few of a large pool.
    The model was trained on them, so it is somewhat surer of them than of other rows.

    Args:
        pool_hidden: hidden states [N, H] of the main model; any pool that `fastal.select` takes and
            that can be read again.
        labelled_hidden: [L, H] hidden states of the same layer, finite, of validation or training
            rows: an array, or any pool that fits into memory as float64.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked. Required unless
            `per_group` is given.
        pool_rows: how many rows of the pool to train on, at least 1; all if there are fewer. Rows
            that `exclude` or `among` leave out are not among them.
        model: as for `transfer_uncertainty`.
        l2: as for `transfer_uncertainty`.
        seed: also of the random rows; else as for `transfer_uncertainty`.
        on_invalid: "raise" at the first row of the pool that is not finite, or "skip" to leave such
            rows out and count them in the picks' `invalid`.
        backend: "auto" or "torch".
        groups: as for `fastal.select`.
        per_group: as for `fastal.select`.
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`. A resumed run draws and reads the random rows again.
        resume: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        ties: as for `fastal.select`.
        progress: as for `fastal.select`, of the last reading.

    Returns:
        Picks, best first, with the attribute `auc`; see `transfer_uncertainty`. Scores are
        probabilities of "pool" in [0, 1], for sides of equal weight; larger = more worth labelling.
        An AUC near 0.5 says that most of the pool is like the labelled rows; a warning is logged
        then. The picks may still be what is new, if that is rare.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`. Also if the pool can be
            read only once, or no row of it can be trained on.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.3.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> rng = np.random.default_rng(0)
        >>> labelled, pool = rng.normal(size=(2, 500, 8)).astype(np.float32)
        >>> pool[:50, 3] += 6  # what the labelled data lacks
        >>> picks = combine.transfer_representative(pool, labelled, k=20)
        >>> (picks.rows < 50).sum()
        np.int64(20)
    """
    pool = open_pool(pool_hidden)
    training = Training(model, l2, seed, "transfer_representative", "labelled_hidden")
    labelled = given_hidden(labelled_hidden, "labelled_hidden", pool)
    sampler = Selector(checked_count("pool_rows", pool_rows), "random", seed=seed)
    drawn = RunOptions(chunk_bytes, exclude=exclude, among=among)
    rows = run_on_pool(sampler, pool, drawn, lambda picks, _: rows_of(picks))
    exclude, among = filter_without(sampler.row_filter, rows[:0])
    hidden = hidden_of(pool, rows, on_invalid, chunk_bytes)
    if not len(hidden):
        raise ValueError(
            f"pool_hidden: wanted rows to train on, got none that is valid and not left out, of "
            f"{len(rows)} random rows"
        )
    if hidden.shape[1] != labelled.shape[1]:
        raise ValueError(
            f"labelled_hidden: wanted {hidden.shape[1]} columns, as the pool has, got "
            f"{labelled.shape[1]}"
        )
    x = torch.cat((hidden, labelled))
    is_pool = torch.arange(len(x), dtype=torch.int64, device="cpu") < len(hidden)
    auc = training.auc(x, is_pool)
    warn_of_auc(auc, "the pool from the labelled rows")
    picks = select(
        pool, k, training.measure(x, is_pool), seed=seed, on_invalid=on_invalid, backend=backend,
        groups=groups, per_group=per_group, chunk_bytes=chunk_bytes, checkpoint=checkpoint,
        resume=resume, exclude=exclude, among=among, ties=ties, progress=progress,
    )  # fmt: skip
    return with_auc(as_probabilities(picks), auc)
