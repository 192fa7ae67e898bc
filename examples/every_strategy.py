"""Every strategy, as a function of a `fastal.Round`, for `fastal.simulate`.

Change one, or copy what you need. The model of a round has two methods: `hidden(x)` returns hidden
states [n, D], which serve as embeddings, and `draws(x)` returns logits of dropout [n, draws, C].
`examples/fashion_mnist.py` compares the strategies.
"""

import numpy as np

import fastal
from fastal import combine, diversity

SCORES = ("random", "least_confidence", "margin", "ratio", "entropy")


def noisy_margin(given):
    """Margin, with noise: the batches are more varied."""
    return fastal.select(
        given.predictions, given.k, noise="power", exclude=given.labelled, seed=given.seed
    )


def bald(given):
    """The rows on which the draws of dropout disagree most."""
    draws = given.model.draws(given.x)
    return fastal.select(draws, given.k, "bald", draws_axis=1, exclude=given.labelled)


def cluster_outliers(given):
    """The rows farthest from all clusters."""
    x = given.model.hidden(given.x)
    clusters = diversity.CosineClusters(20, seed=given.seed).fit(x)
    return diversity.cluster_outliers(x, clusters.centroids, given.k, exclude=given.labelled)


def cluster_samples(given):
    """The centroid, an outlier and three random members of each cluster."""
    x = given.model.hidden(given.x)
    clusters = diversity.CosineClusters(given.k // 5, seed=given.seed).fit(x)
    roles = clusters.sample(x, n_random=3, exclude=given.labelled)
    rows = np.concatenate([picks.rows for picks in roles])
    others = fastal.select(  # small clusters have fewer members
        given.predictions, given.k, "random", exclude=[given.labelled, rows], seed=given.seed
    )
    return np.concatenate([rows, others.rows])[: given.k]


def representative(given):
    """The rows most like the pool, and least like the labelled rows."""
    x = given.model.hidden(given.x)
    return diversity.representative(x, x[given.labelled], given.k, exclude=given.labelled)


def adaptive_representative(given):
    """The same, but each pick counts as labelled for the next."""
    x = given.model.hidden(given.x)
    return diversity.adaptive_representative(x, x[given.labelled], given.k, exclude=given.labelled)


def core_set(given):
    """Each pick is the row farthest from all labelled and picked rows."""
    x = given.model.hidden(given.x)
    return diversity.k_center(x, given.k, labelled=x[given.labelled], exclude=given.labelled)


def typiclust(given):
    """Typical rows of clusters without labels."""
    x = given.model.hidden(given.x)
    return diversity.typiclust(
        x, given.k, labelled=x[given.labelled], exclude=given.labelled, seed=given.seed
    )


def badge(given):
    """Rows with large and different gradients."""
    x = given.model.hidden(given.x)
    return diversity.badge(given.predictions, x, given.k, exclude=given.labelled, seed=given.seed)


def clustered_uncertainty(given):
    """Rows of clusters of the most uncertain rows."""
    x = given.model.hidden(given.x)
    return combine.clustered_uncertainty(
        given.predictions, x, given.k, exclude=given.labelled, seed=given.seed
    )


def representative_clusters(given):
    """Of each cluster, the row least like the clusters of the labelled rows."""
    x = given.model.hidden(given.x)
    return combine.representative_clusters(
        x, x[given.labelled], given.k, exclude=given.labelled, seed=given.seed
    )


def most_uncertain_cluster(given):
    """Random rows of the cluster with the highest mean uncertainty."""
    x = given.model.hidden(given.x)
    return combine.most_uncertain_cluster(
        given.predictions, x, given.k, exclude=given.labelled, seed=given.seed
    )


def margin_and_cluster_outliers(given):
    """The best mean rank by margin and by distance from all clusters."""
    x = given.model.hidden(given.x)
    clusters = diversity.CosineClusters(20, seed=given.seed).fit(x)
    distance = diversity.CentroidDistance(clusters.centroids)
    parts = [(given.predictions, "margin", 1), (x, distance, 1)]
    return combine.weighted(parts, given.k, exclude=given.labelled)


def diverse(given):
    """Of the most uncertain rows, those far from each other and from the labelled rows."""
    x = given.model.hidden(given.x)
    return combine.diverse(
        given.predictions, x, given.k, labelled=x[given.labelled], exclude=given.labelled
    )


def ranked_batch(given):
    """Rows that are far from all labelled and picked rows, and uncertain."""
    x = given.model.hidden(given.x)
    return combine.ranked_batch(
        given.predictions, x, given.k, labelled=x[given.labelled], exclude=given.labelled
    )


def transfer_representative(given):
    """The rows that a small model tells best from the labelled rows."""
    x = given.model.hidden(given.x)
    return combine.transfer_representative(
        x, x[given.labelled], given.k, exclude=given.labelled, seed=given.seed
    )


def with_validation(validation_x, validation_y):
    """The strategies that compare the pool with validation data, by name.

    Args:
        validation_x: rows that have labels and that no model is trained on.
        validation_y: their labels.
    """

    def model_outliers(given):
        x, known = map(given.model.hidden, (given.x, validation_x))
        return diversity.model_outliers(x, known, given.k, exclude=given.labelled)

    def uncertain_model_outliers(given):
        x, known = map(given.model.hidden, (given.x, validation_x))
        return combine.uncertain_model_outliers(
            given.predictions, x, known, given.k, exclude=given.labelled
        )

    def clustered_model_outliers(given):
        x, known = map(given.model.hidden, (given.x, validation_x))
        return combine.clustered_model_outliers(
            given.predictions, x, known, x, given.k, exclude=given.labelled, seed=given.seed
        )

    def transfer_uncertainty(given):
        x, known = map(given.model.hidden, (given.x, validation_x))
        return combine.transfer_uncertainty(
            x, known, is_right(given), given.k, exclude=given.labelled, seed=given.seed
        )

    def atlas(given):
        x, known = map(given.model.hidden, (given.x, validation_x))
        return combine.atlas(
            x, known, is_right(given), given.k, exclude=given.labelled, seed=given.seed
        )

    def is_right(given):
        return given.predict(given.model, validation_x).argmax(1) == validation_y

    return {
        "model outliers": model_outliers,
        "uncertain model outliers": uncertain_model_outliers,
        "clustered model outliers": clustered_model_outliers,
        "transfer uncertainty": transfer_uncertainty,
        "atlas": atlas,
    }


def every_strategy(validation_x, validation_y):
    """All strategies by name; see `with_validation`."""
    return {
        **{name: name for name in SCORES},
        "margin, power noise": noisy_margin,
        "bald": bald,
        "cluster outliers": cluster_outliers,
        "cluster samples": cluster_samples,
        "representative": representative,
        "adaptive representative": adaptive_representative,
        "core-set": core_set,
        "typiclust": typiclust,
        "badge": badge,
        "clustered uncertainty": clustered_uncertainty,
        "representative clusters": representative_clusters,
        "most uncertain cluster": most_uncertain_cluster,
        "margin + cluster outliers": margin_and_cluster_outliers,
        "diverse": diverse,
        "ranked batch": ranked_batch,
        "transfer representative": transfer_representative,
        **with_validation(validation_x, validation_y),
    }
