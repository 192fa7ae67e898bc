"""Clustered uncertainty: typical, untypical and random rows of clusters of the most uncertain."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.checks import checked_count
from fastal.base.errors import prefixing_errors
from fastal.combine.candidates import Candidates, checked_share, most_uncertain
from fastal.combine.stages import Stages, UncertaintyStages
from fastal.diversity.centroids import EmbeddingMeasure
from fastal.diversity.clustering.cluster_sample import ClusterSample
from fastal.diversity.clustering.clusters import CosineClusters
from fastal.picks.picks import Picks
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.scoring.measure_for import By

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastal.combine.stages import UncertaintyOptions

_RANDOM = 3  # random members of a cluster, beside the centroid and the outlier member
_ROLES = np.array(["centroid", "outlier", "random"], object)


def clustered_uncertainty(
    logits: Any,
    embeddings: Any,
    k: int,
    *,
    by: By = "margin",
    n_clusters: int | None = None,
    share: float = 0.1,
    seed: int = 0,
    **options: "Unpack[UncertaintyOptions]",
) -> Picks:
    """Rows of clusters of the most uncertain rows: the picks are uncertain, and differ.

    The most uncertain share of the pool is clustered by cosine similarity. Each cluster gives the
    member most similar to the centroid, the member least similar to it, and random members. The
    logits are read once. The embeddings of the most uncertain rows are read at most 12 times, and
    again if small clusters have too few random members. Memory is O(share * N + chunk).

    Args:
        logits: [N, C]; any pool that `fastal.select` takes and that can be read again.
        embeddings: [N, D], of the same rows: any pool that can be read again. If both pools have
            ids, the rows are matched by id, which takes 8 bytes per row and the ids.
        k: how many rows to pick, at least 1.
        by: as for `fastal.select`.
        n_clusters: how many clusters; None: a fifth of k, rounded up.
        share: the share of the rows to cluster, above 0, at most 1. It is rounded up, and is of the
            rows that `exclude` and `among` leave. At least k rows are clustered.
        seed: of the clusters and the random members, from 0 to 2^64 - 1.
        options: the arguments of `fastal.select` that `UncertaintyOptions` names. They hold for
            both pools; `exclude` and `among` are about the rows of the logits. Each stage has a
            folder in the folder `checkpoint`.

    Returns:
        Picks: exactly k, or with a warning all rows that are left. First come the centroid members
        of all clusters, then the outlier members, then one random member of each cluster after the
        other. If small clusters have too few, other clusters give more random members. Scores are
        the uncertainty. `groups` has the cluster, and the column `role` is "centroid", "outlier" or
        "random". Ties go to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`; no row is left to pick; or
            there are fewer valid rows than `n_clusters`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 5.1.1.

    Example:
        >>> import numpy as np
        >>> from fastal import combine
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 8)).astype(np.float32)
        >>> picks = combine.clustered_uncertainty(x[:, :3], x, k=5, n_clusters=2)
        >>> picks["role"].tolist()
        ['centroid', 'centroid', 'outlier', 'outlier', 'random']
    """
    stages = UncertaintyStages(**options)
    stages.check_backend(EmbeddingMeasure.offers)
    k, share = checked_count("k", k), checked_share(share)
    wanted = math.ceil(k / 5) if n_clusters is None else checked_count("n_clusters", n_clusters)
    candidates = most_uncertain(logits, embeddings, k, by, stages, share=share)
    clusters = CosineClusters(
        wanted if n_clusters is not None else min(wanted, len(candidates)),
        seed=seed, on_invalid=stages.on_invalid, backend=stages.backend,
    )  # fmt: skip
    with prefixing_errors("embeddings"):
        run = stages.run("clusters", among=candidates.rows)
        clusters.adopt(run_on_pool(clusters.reducer(), candidates.other, run, lambda x, _: x))
        sample = _members(clusters, candidates, k, stages)
    rows, cluster, role = _first(sample, k)
    return candidates.chosen(
        k, rows, invalid=sample.centroids.invalid, groups=cluster, columns={"role": role},
        strategy="clustered_uncertainty",
    )  # fmt: skip


def _members(
    clusters: CosineClusters, candidates: Candidates, k: int, stages: Stages
) -> ClusterSample:
    """A sample of the clusters of at least k candidates, or of all that are valid."""
    n_random = _RANDOM
    while True:
        run = stages.run(f"members-{n_random}", among=candidates.rows)
        sampler = clusters.sampler(n_random)
        sample = run_on_pool(sampler, candidates.other, run, lambda found, _: found)
        n_valid = len(candidates) - sample.centroids.invalid
        if sum(map(len, sample)) >= min(k, n_valid):
            return sample
        n_random *= 2


def _first(
    sample: ClusterSample, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.object_]]:
    """The first k rows of a sample, their clusters and roles, in the order of the picks."""
    rows = np.concatenate([as_tensor(part.rows, "rows").cpu().numpy() for part in sample])
    cluster = np.concatenate([part.groups for part in sample])
    role = np.repeat(np.arange(len(sample)), [len(part) for part in sample])
    of_random = sample.random.groups  # ascending; in a cluster, in the order of the draw
    turn = np.zeros(len(rows), np.int64)
    n_before = len(rows) - len(of_random)
    turn[n_before:] = np.arange(len(of_random)) - np.searchsorted(of_random, of_random)
    order = np.lexsort((cluster, turn, role))[:k]
    return rows[order], cluster[order], _ROLES[role[order]]
