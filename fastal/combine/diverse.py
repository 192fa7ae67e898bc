"""Uncertain rows that differ: the most uncertain rows, thinned by greedy k-centre."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastal.base.arrays import as_tensor
from fastal.base.checks import checked_count
from fastal.base.errors import prefixing_errors
from fastal.combine.candidates import most_uncertain
from fastal.combine.greedy import Greedy
from fastal.combine.row_match import opened
from fastal.combine.stages import UncertaintyStages
from fastal.diversity.centroids import EmbeddingMeasure
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.scoring.measure_for import By
from fastal.sources.files import in_column_order_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import UncertaintyOptions


def diverse(
    logits: Any,
    embeddings: Any,
    k: int,
    *,
    by: By = "margin",
    oversample: int = 10,
    labelled: Any = None,
    **options: "Unpack[UncertaintyOptions]",
) -> Picks:
    """Of the most uncertain rows, k that are far from each other and from the labelled rows.

    The most uncertain rows may be nearly equal. So `oversample` times as many rows as are wanted
    are taken, and of these, greedy k-centre with the cosine distance picks k. The logits are read
    once. The embeddings of these rows are read once, or a few times if they take more than 64 MB.
    Memory is O(oversample * k + chunk), and 8 bytes per row.

    Args:
        logits: [N, C]; any pool that `fastal.select` takes and that can be read again.
        embeddings: [N, D], of the same rows; see `clustered_uncertainty`.
        k: how many rows to pick, at least 1.
        by: as for `fastal.select`.
        oversample: how many times k rows to choose from, at least 1. 1 picks the most uncertain
            rows, in another order.
        labelled: [L, D], the embeddings of the rows that are already labelled, as for
            `diversity.k_center`. None, or no rows: the first pick is the most uncertain row.
        options: as for `clustered_uncertainty`.

    Returns:
        Picks in the order of picking: exactly k, or with a warning all rows that are left. Each is
        the row farthest from all labelled and picked rows. Scores are the uncertainty. Ties go to
        the lower row number of the embeddings.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`; or no row is left to pick.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.1; greedy k-centre is that of
    Sener & Savarese (ICLR 2018).

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> logits = np.array([[0, 0], [0.1, 0], [0.2, 0], [9, 0]], np.float32)
        >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
        >>> combine.diverse(logits, x, 2, oversample=2, exclude=[3]).rows
        array([0, 2])
    """
    stages = UncertaintyStages(**options)
    stages.check_backend(EmbeddingMeasure.offers)
    k, oversample = checked_count("k", k), checked_count("oversample", oversample)
    beside = opened(embeddings, "embeddings")
    with prefixing_errors("labelled"):
        labelled = in_column_order_of(beside, labelled)
    candidates = most_uncertain(logits, beside, oversample * k, by, stages)
    uncertainty = np.full(candidates.n_rows, np.nan, np.float32)
    uncertainty[candidates.rows] = as_tensor(candidates.picks.scores, "scores").cpu().numpy()
    reducer = Greedy(k, uncertainty, labelled, options=stages.scoring)
    with prefixing_errors("embeddings"):
        run = stages.run("centres", among=candidates.rows)
        found = run_on_pool(reducer, beside, run, lambda found, _: found)
    return candidates.chosen(k, found.rows, invalid=found.invalid, strategy="diverse")
