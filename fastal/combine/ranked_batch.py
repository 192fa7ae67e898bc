"""Ranked batches: distance to the labelled rows at first, uncertainty as more rows are labelled."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastal.base.arrays import as_tensor
from fastal.base.checks import checked_count, checked_number
from fastal.base.errors import prefixing_errors
from fastal.combine.greedy import Greedy
from fastal.combine.left_rows import left_rows
from fastal.combine.pool_scores import pool_scores
from fastal.combine.row_match import RowMatch, opened
from fastal.combine.stages import UncertaintyStages
from fastal.diversity.centroids import EmbeddingMeasure
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.scoring.measure_for import By
from fastal.sources.files import in_column_order_of
from fastal.uncertainty import output_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import UncertaintyOptions


def ranked_batch(
    logits: Any,
    embeddings: Any,
    k: int,
    *,
    labelled: Any = None,
    by: By = "margin",
    alpha: float | None = None,
    **options: "Unpack[UncertaintyOptions]",
) -> Picks:
    """Picks rows one by one, each far from all labelled and picked rows, and uncertain.

    Each pick is the row with the largest alpha * distance + (1 - alpha) * uncertainty. The distance
    is half the cosine distance to the nearest row that is labelled or picked, from 0 to 1. By
    default, alpha is the share of the rows that are not labelled: U / (U + L), with U rows that are
    left and not picked, and L that are labelled or picked. So with few labels the distance decides,
    and the uncertainty with many. The logits are read once, and the embeddings a few times, as by
    `diversity.k_center`. Memory is 8 bytes per row, O(L + k + chunk), and 64 MB for rows that may
    be picked.

    Args:
        logits: [N, C]; any pool that `fastal.select` takes and that can be read again.
        embeddings: [N, D], of the same rows: any pool that can be read again. If both pools have
            ids, the rows are matched by id, which takes 20 bytes per row and the ids.
        k: how many rows to pick, at least 1.
        labelled: [L, D], the embeddings of the rows that are already labelled, as for
            `diversity.k_center`. None, or no rows: the first pick is the most uncertain row.
        by: as for `fastal.select`; scores should be from 0 to 1, as the named ones are.
        alpha: the weight of the distance, from 0 to 1, for all picks; None: the share of the rows
            that are not labelled.
        options: as for `clustered_uncertainty`.

    Returns:
        Picks in the order of picking: exactly k, or with a warning all rows that are left. Scores
        are what a row was worth when it was picked, from 0 to 1. Ties go to the lower row number of
        the embeddings.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`; or no row is left to pick.

    Source: Cardoso et al., Ranked batch-mode active learning, Information Sciences 379 (2017). The
    paper leaves the similarity open: here it is 1 - distance.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> logits = np.array([[0, 0], [0.1, 0], [0.2, 0], [9, 0]], np.float32)
        >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
        >>> picks = combine.ranked_batch(logits, x, 3, labelled=x[:1], exclude=[0], alpha=0.5)
        >>> picks.rows, picks.scores.round(2)
        (array([2, 1, 3]), array([0.7 , 0.48, 0.25], dtype=float32))
    """
    stages = UncertaintyStages(**options)
    stages.check_backend(EmbeddingMeasure.offers)
    k = checked_count("k", k)
    if alpha is not None and not 0 <= checked_number("alpha", alpha) <= 1:
        raise ValueError(f"alpha: wanted a number from 0 to 1, got {alpha}")
    pool, other = opened(logits, "logits"), opened(embeddings, "embeddings")
    with prefixing_errors("labelled"):
        labelled = in_column_order_of(other, labelled)
    match = RowMatch(pool, other, "embeddings", "logits")
    left = left_rows(pool, stages, "logits")
    run = stages.run("uncertainty", **left.arguments())
    output = output_of(logits, by, stages.output)
    scores = pool_scores(pool, by, output, stages.scoring, run, left.n_rows)
    uncertainty = match.to_other(scores.values)
    reducer = Greedy(
        k, uncertainty, labelled, alpha=1.0 if alpha is None else float(alpha),
        n_unlabelled=left.n if alpha is None else None, options=stages.scoring,
    )  # fmt: skip
    left_in_other = left.arguments(match)
    if scores.invalid:  # they are counted already
        left_in_other = {"among": np.flatnonzero(~np.isnan(uncertainty))}
    run = stages.run("picks", **left_in_other)
    with prefixing_errors("embeddings"):
        found = run_on_pool(reducer, other, run, lambda found, _: found)
    rows, worth = (as_tensor(x, "picks").cpu().numpy() for x in (found.rows, found.scores))
    return scores.chosen(k, match.in_pool(rows), worth, "ranked_batch", invalid=found.invalid)
