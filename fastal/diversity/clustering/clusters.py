"""Clusters of a pool by cosine similarity: made, looked up, sampled, saved."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from fastal.base.checks import checked_count, checked_seed
from fastal.base.text import as_json
from fastal.diversity.centroids import CentroidDistance, Nearest, units_of
from fastal.diversity.clustering.assignment import Assignment
from fastal.diversity.clustering.cluster_sample import ClusterSample, ClusterSampler
from fastal.diversity.clustering.k_means import Clustering, KMeans, KMeansOptions
from fastal.output.atomic import written_whole
from fastal.pipeline.run_on_pool import in_numpy, run_on_pool, with_ids
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import PathLike


class CosineClusters:
    """Spherical k-means over pools of any size: O(chunk + K D) memory, and the same for a seed.

    Rows are scaled to length 1 here. k-means++ on a sample of the pool, and k-means on that sample,
    give the first centroids. Each iteration is a pass over the pool, after which a centroid points
    where the sum of its members does. Clusters that lose all members begin anew far from the
    others. Sums are exact, so that chunks change nothing.

        clusters = CosineClusters(50).fit(embeddings)
        sample = clusters.sample(embeddings)  # centroids, outliers, random members

    Args:
        n_clusters: K, at least 1; None: as many as `centroids` has.
        centroids: [K, D] array, from faiss or anywhere: ready for use, or to be moved by `fit`.
        max_iter: the most iterations, at least 1; `fit` ends earlier when no centroid moves.
        batch_size: centroids move after every so many rows (mini-batches), and again in the next
            iterations; None: after each iteration, which ends with lower inertia.
        seed: of what is drawn, from 0 to 2^64 - 1.
        fast: as for `nearest_centroid`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite.
        backend: "auto", "triton" or "torch".

    Attributes:
        centroids: [K, D] float32 NumPy array, each of length 1; None before `fit`.
        counts: [K] int64 NumPy array, the members in the last iteration; None before `fit`.
        inertia: the sum over rows of the squared distance from the row, scaled to length 1, to its
            centroid, 2 (1 - similarity), in the last iteration before the centroids moved.
        n_iter: how many iterations there were.
        converged: whether no centroid moved in the last iteration.

    Raises:
        ValueError, TypeError: a bad argument, named.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.3; Dhillon and Modha, Concept
    Decompositions for Large Sparse Text Data using Clustering (2001), section 3.
    """

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        centroids: Any = None,
        max_iter: int = 10,
        batch_size: int | None = None,
        seed: int = 0,
        fast: bool = False,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> None:
        given = None if centroids is None else units_of(centroids, "centroids")
        if n_clusters is None and given is not None:
            n_clusters = len(given)
        self._n_clusters = checked_count("n_clusters", n_clusters)
        if given is not None and len(given) != self._n_clusters:
            raise ValueError(
                f"centroids: wanted {self._n_clusters}, as n_clusters says, got {len(given)}"
            )
        self._how = KMeansOptions(
            checked_count("max_iter", max_iter),
            None if batch_size is None else checked_count("batch_size", batch_size),
            checked_seed(seed),
            bool(fast),
        )
        self._options = ScoringOptions(on_invalid, backend)
        self.centroids = None if given is None else given.numpy()
        self.counts: Any = None
        self.inertia: float | None = None
        self.n_iter = 0
        self.converged = False

    def reducer(self) -> KMeans:
        """The reducer of several passes that `fit` runs."""
        given = None if self.centroids is None else torch.from_numpy(self.centroids)
        return KMeans(self._n_clusters, given, self._how, self._options)

    def fit(
        self,
        pool: Any,
        *,
        chunk_bytes: int | None = None,
        checkpoint: PathLike | None = None,
        resume: bool = False,
    ) -> "CosineClusters":
        """Finds the centroids in one pass over the pool and one for each iteration; returns itself.

        Args:
            pool: embeddings [N, D], with at least K rows that are finite: any pool that
                `fastal.select` takes and that can be read again.
            chunk_bytes: as for `fastal.select`.
            checkpoint: as for `fastal.select`.
            resume: as for `fastal.select`.

        Raises:
            InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.
        """
        options = RunOptions(chunk_bytes, checkpoint, resume)
        self.adopt(run_on_pool(self.reducer(), pool, options, lambda found, _: found))
        return self

    def adopt(self, found: Clustering) -> None:
        """Sets the attributes to clusters that `reducer` found."""
        self.centroids, self.counts = found.centroids.numpy(), found.counts.numpy()
        self.inertia, self.n_iter, self.converged = found.inertia, found.n_iter, found.converged

    def assign(self, pool: Any, *, chunk_bytes: int | None = None) -> Nearest:
        """The cluster of each row, and its similarity to the centroid; one pass.

        Args:
            pool: embeddings [N, D]; any pool that `fastal.select` takes.
            chunk_bytes: as for `fastal.select`.

        Returns:
            Nearest, [N] each: arrays of the kind of the pool, NumPy for files. Rows of files that
            were left out have cluster -1 and similarity NaN.

        Raises:
            InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.
        """
        reducer = Assignment(self._fitted(), self._options)
        return run_on_pool(
            reducer, pool, RunOptions(chunk_bytes),
            lambda found, source: Nearest(*in_numpy(source, *found)),
        )  # fmt: skip

    def sample(
        self,
        pool: Any,
        n_random: int = 1,
        *,
        chunk_bytes: int | None = None,
        checkpoint: PathLike | None = None,
        resume: bool = False,
    ) -> ClusterSample:
        """The members that stand for each cluster, in one pass.

        Args:
            pool: embeddings [N, D]; any pool that `fastal.select` takes.
            n_random: how many random members of a cluster, 0 or more, drawn with the seed: the
                same whatever the chunks.
            chunk_bytes: as for `fastal.select`.
            checkpoint: as for `fastal.select`.
            resume: as for `fastal.select`.

        Returns:
            Of each cluster the member most similar to the centroid, the least similar, and others
            at random, each row once; ties go to the lower row number.

        Raises:
            InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.
        """
        options = RunOptions(chunk_bytes, checkpoint, resume)
        return run_on_pool(
            self.sampler(n_random), pool, options,
            lambda found, source: ClusterSample(*(with_ids(picks, source) for picks in found)),
        )  # fmt: skip

    def sampler(self, n_random: int = 1) -> ClusterSampler:
        """The reducer that `sample` runs."""
        return ClusterSampler(self._fitted(), n_random, seed=self._how.seed, options=self._options)

    def save(self, path: PathLike) -> None:
        """Writes the clusters to a .npz file: `centroids`, `counts` and `about`, which is JSON."""
        with written_whole(Path(path)) as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """The same to a file that is open."""
        centroids = self._fitted().units.numpy()
        about = {
            "inertia": self.inertia, "n_iter": self.n_iter, "converged": self.converged,
            "seed": self._how.seed,
        }  # fmt: skip
        counts = np.full(len(centroids), -1) if self.counts is None else self.counts
        np.savez(file, centroids=centroids, counts=counts, about=as_json(about))

    @classmethod
    def load(cls, path: PathLike, **options: Any) -> "CosineClusters":
        """The clusters that `save` wrote.

        Args:
            path: the file.
            options: `fast`, `on_invalid` and `backend` of `CosineClusters`.

        Raises:
            ValueError, OSError: it is no such file, or cannot be read; the message names it.
        """
        with Path(path).open("rb") as file:
            try:
                centroids, seed, found = _read(file)
            except Exception as error:  # of NumPy, zipfile, json: whatever it is that is broken
                reason = " ".join(str(error).split())
                raise ValueError(f"{path}: not a file of clusters: {reason}") from error
        clusters = cls(centroids=centroids, seed=seed, **options)
        for name, value in found.items():
            setattr(clusters, name, value)
        return clusters

    def _fitted(self) -> CentroidDistance:
        if self.centroids is None:
            raise ValueError("centroids: there are none yet; wanted `fit` first, or given ones")
        return CentroidDistance(self.centroids, fast=self._how.fast)


def _read(file: BinaryIO) -> tuple[torch.Tensor, int, dict[str, Any]]:
    """What `CosineClusters.save` wrote, checked: centroids, seed, and other attributes by name."""
    with np.load(file, allow_pickle=False) as held:
        centroids = units_of(held["centroids"], "centroids")
        counts, about = held["counts"], json.loads(str(held["about"]))
    if counts.shape != (len(centroids),) or counts.dtype.kind != "i":
        raise ValueError(f"counts: wanted one a centroid, got {counts.dtype} {counts.shape}")
    inertia = about["inertia"]
    return (
        centroids,
        checked_seed(about["seed"]),
        {
            "counts": None if (counts < 0).any() else counts,
            "inertia": None if inertia is None else float(inertia),
            "n_iter": int(about["n_iter"]),
            "converged": bool(about["converged"]),
        },
    )
