"""Uncertain model outliers: of the most uncertain rows, those unlike the validation data."""

from typing import TYPE_CHECKING, Any

from fastal.base.checks import checked_count
from fastal.base.errors import prefixing_errors
from fastal.combine.candidates import checked_share, most_uncertain
from fastal.combine.stages import UncertaintyStages
from fastal.diversity.model_outliers import ValidationRank
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.scoring.measure_for import By
from fastal.selection.selector import Selector
from fastal.sources.files import in_column_order_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import UncertaintyOptions


def uncertain_model_outliers(
    logits: Any,
    activations: Any,
    validation: Any,
    k: int,
    *,
    by: By = "margin",
    share: float = 0.1,
    **options: "Unpack[UncertaintyOptions]",
) -> Picks:
    """Of the most uncertain rows, the k whose activations rank lowest among validation data.

    The logits are read once, and then the activations of the most uncertain rows once. Memory is
    O(share * N + chunk), and the validation data.

    Args:
        logits: [N, C]; any pool that `fastal.select` takes and that can be read again.
        activations: [N, D] of any layer, of the same rows; any pool that can be read again. They
            may be the logits, or be of another model. If both pools have ids, the rows are matched
            by id, which takes 8 bytes per row and the ids.
        validation: [V, D], as for `diversity.model_outliers`.
        k: how many rows to pick, at least 1.
        by: as for `fastal.select`.
        share: as for `clustered_uncertainty`.
        options: as for `clustered_uncertainty`.

    Returns:
        Picks, best first: exactly k, or with a warning all rows that are left. Scores are those of
        `diversity.model_outliers`, 1 - the mean rank, from 0 to 1. Ties go to the lower row number
        of the activations.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`; or no row is left to pick.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.1.2.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> logits = np.array([[9, 0], [1, 0], [0, 0], [0, 1]], np.float32)
        >>> activations = np.array([[0, 0], [2, 3], [1, 2], [0, 1]], np.float32)
        >>> validation = np.array([[0, 1], [2, 3], [4, 5]], np.float32)
        >>> combine.uncertain_model_outliers(logits, activations, validation, 2, share=0.75).rows
        array([3, 2])
    """
    stages = UncertaintyStages(**options)
    k, share = checked_count("k", k), checked_share(share)
    with prefixing_errors("validation"):
        measure = ValidationRank(in_column_order_of(activations, validation))
    candidates = most_uncertain(logits, activations, k, by, stages, name="activations", share=share)
    selector = Selector(k, measure, on_invalid=stages.on_invalid, backend=stages.backend)
    selector.order.advice = ""
    with prefixing_errors("activations"):
        run = stages.run("outliers", among=candidates.rows)
        found = run_on_pool(selector, candidates.other, run, lambda found, _: found)
    return candidates.chosen(
        k, found.rows, invalid=found.invalid, scores=found.scores,
        strategy="uncertain_model_outliers",
    )  # fmt: skip
