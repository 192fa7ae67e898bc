"""Combined strategies: uncertainty and diversity together, and transfer learning."""

from typing import TYPE_CHECKING

from fastal.base.lazy import import_on_first_use

if TYPE_CHECKING:
    from fastal.combine.atlas import atlas
    from fastal.combine.clustered_model_outliers import clustered_model_outliers
    from fastal.combine.clustered_uncertainty import clustered_uncertainty
    from fastal.combine.diverse import diverse
    from fastal.combine.most_uncertain_cluster import most_uncertain_cluster
    from fastal.combine.ranked_batch import ranked_batch
    from fastal.combine.representative_clusters import representative_clusters
    from fastal.combine.transfer import transfer_representative, transfer_uncertainty
    from fastal.combine.transfer_picks import TransferPicks
    from fastal.combine.uncertain_model_outliers import uncertain_model_outliers
    from fastal.combine.weighted import Part, weighted

__all__ = [
    "Part",
    "TransferPicks",
    "atlas",
    "clustered_model_outliers",
    "clustered_uncertainty",
    "diverse",
    "most_uncertain_cluster",
    "ranked_batch",
    "representative_clusters",
    "transfer_representative",
    "transfer_uncertainty",
    "uncertain_model_outliers",
    "weighted",
]

import_on_first_use(
    __name__,
    {
        "fastal.combine.atlas": ["atlas"],
        "fastal.combine.clustered_model_outliers": ["clustered_model_outliers"],
        "fastal.combine.clustered_uncertainty": ["clustered_uncertainty"],
        "fastal.combine.diverse": ["diverse"],
        "fastal.combine.most_uncertain_cluster": ["most_uncertain_cluster"],
        "fastal.combine.ranked_batch": ["ranked_batch"],
        "fastal.combine.representative_clusters": ["representative_clusters"],
        "fastal.combine.transfer": ["transfer_representative", "transfer_uncertainty"],
        "fastal.combine.transfer_picks": ["TransferPicks"],
        "fastal.combine.uncertain_model_outliers": ["uncertain_model_outliers"],
        "fastal.combine.weighted": ["Part", "weighted"],
    },
)
