"""Clustered model outliers: uncertain rows, of these the model outliers, of these clusters."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastal.base.checks import checked_count
from fastal.combine.clustered_uncertainty import clustered_uncertainty
from fastal.combine.left_rows import left_rows
from fastal.combine.row_match import opened
from fastal.combine.stages import UncertaintyStages
from fastal.combine.uncertain_model_outliers import uncertain_model_outliers
from fastal.picks.picks import Picks
from fastal.scoring.measure_for import By

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import UncertaintyOptions


def clustered_model_outliers(
    logits: Any,
    activations: Any,
    validation: Any,
    embeddings: Any,
    k: int,
    *,
    by: By = "margin",
    oversample: int = 2,
    n_clusters: int | None = None,
    share: float = 0.1,
    seed: int = 0,
    **options: "Unpack[UncertaintyOptions]",
) -> Picks:
    """Three stages of narrowing: the most uncertain rows, of these outliers, of these clusters.

    First, `uncertain_model_outliers` picks oversample * k rows. Then `clustered_uncertainty` picks
    k rows of their clusters. The logits are read twice, the second time only the rows of the first
    stage. Memory is O(share * N + chunk), and the validation data.

    Args:
        logits: as for `clustered_uncertainty`.
        activations: as for `uncertain_model_outliers`. If both pools have ids, the rows are matched
            by id.
        validation: as for `uncertain_model_outliers`.
        embeddings: as for `clustered_uncertainty`. They may be the activations.
        k: how many rows to pick, at least 1.
        by: as for `fastal.select`.
        oversample: how many times k rows are clustered, at least 1. With 1, all of them are picked.
        n_clusters: as for `clustered_uncertainty`.
        share: the share of the rows that the outliers are picked from; as for
            `clustered_uncertainty`. They are at least oversample * k rows.
        seed: as for `clustered_uncertainty`.
        options: as for `clustered_uncertainty`.

    Returns:
        Picks as those of `clustered_uncertainty`: scores are the uncertainty, `groups` the cluster,
        and the column `role` is "centroid", "outlier" or "random".

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `clustered_uncertainty`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.1.3.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> rng = np.random.default_rng(0)
        >>> x, validation = rng.normal(size=(2, 500, 8)).astype(np.float32)
        >>> picks = combine.clustered_model_outliers(x[:, :3], x, validation, x, k=5)
        >>> picks["role"].tolist()
        ['centroid', 'outlier', 'random', 'random', 'random']
    """
    stages = UncertaintyStages(**options)
    checked_count("k", k)
    wanted = checked_count("oversample", oversample) * k
    left = left_rows(opened(logits, "logits"), stages, "logits")
    first: UncertaintyOptions = {**options, "checkpoint": _folder(stages, "outliers")}
    outliers = uncertain_model_outliers(
        logits, activations, validation, min(wanted, left.n), by=by, share=share, **first
    )
    second: UncertaintyOptions = {
        **options, "checkpoint": _folder(stages, "clusters"), "exclude": None, "among": outliers,
    }  # fmt: skip
    picks = clustered_uncertainty(
        logits, embeddings, k, by=by, n_clusters=n_clusters, share=1, seed=seed, **second
    )
    return replace(
        picks, strategy="clustered_model_outliers", invalid=picks.invalid + outliers.invalid
    )


def _folder(stages: UncertaintyStages, name: str) -> Path | None:
    """The folder of a stage in the folder of checkpoints."""
    return None if stages.checkpoint is None else Path(stages.checkpoint) / name
