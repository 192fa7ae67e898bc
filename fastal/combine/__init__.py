"""Combined strategies: uncertainty and diversity together, and transfer learning."""

from typing import TYPE_CHECKING

from fastal.base.lazy import import_on_first_use

if TYPE_CHECKING:
    from fastal.combine.clustered_uncertainty import clustered_uncertainty
    from fastal.combine.representative_clusters import representative_clusters
    from fastal.combine.uncertain_model_outliers import uncertain_model_outliers

__all__ = [
    "clustered_uncertainty",
    "representative_clusters",
    "uncertain_model_outliers",
]

import_on_first_use(
    __name__,
    {
        "fastal.combine.clustered_uncertainty": ["clustered_uncertainty"],
        "fastal.combine.representative_clusters": ["representative_clusters"],
        "fastal.combine.uncertain_model_outliers": ["uncertain_model_outliers"],
    },
)
