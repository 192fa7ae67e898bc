"""The torch definition of every op. The compiled backends must agree with it.

Names of tensors end in their shapes: `products_nK` is [n, K]. Letters:

    N    rows                    n    rows of a block
    C    classes                 D    columns of embeddings or activations
    K    centroids, centres or clusters
    V    values of a column's table
    H    columns of hidden states
    S    draws of an item
"""

from fastal.ops.reference.cluster_sums import unit_sums
from fastal.ops.reference.cosine import (
    dtype_for,
    nearest,
    recompute_in_float64,
    similarities,
    unit_rows,
)
from fastal.ops.reference.draws import draws
from fastal.ops.reference.euclidean import euclidean, euclidean_upper
from fastal.ops.reference.given_classes import label_confidence, suggested_classes
from fastal.ops.reference.head import logits_blocks
from fastal.ops.reference.items import aggregated, label_scores, padding
from fastal.ops.reference.ranks import mean_ranks
from fastal.ops.reference.uncertainty import uncertainty
from fastal_kernels.row_threads import in_one_thread, in_row_threads

__all__ = [
    "aggregated",
    "draws",
    "dtype_for",
    "euclidean",
    "euclidean_upper",
    "in_one_thread",
    "in_row_threads",
    "label_confidence",
    "label_scores",
    "logits_blocks",
    "mean_ranks",
    "nearest",
    "padding",
    "recompute_in_float64",
    "similarities",
    "suggested_classes",
    "uncertainty",
    "unit_rows",
    "unit_sums",
]
