"""Clusters of a pool by cosine similarity: made, looked up, sampled, saved."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from fastal.base.text import as_json
from fastal.diversity.centroids import CentroidDistance, Nearest, units_of
from fastal.diversity.clustering.assignment import Assignment
from fastal.diversity.clustering.cluster_sample import ClusterSample, ClusterSampler
from fastal.diversity.clustering.k_means import Clustering, KMeans
from fastal.output.atomic import written_whole
from fastal.pipeline.drive import run, run_resumable
from fastal.selection.noise import checked_seed
from fastal.selection.topk import checked_count
from fastal.sources import PathLike, open_pool
from fastal.sources.files import Files
from fastal.uncertainty import with_ids


class CosineClusters:
    """Spherical k-means over pools of any size: O(chunk + K D) memory, and the same for a seed.

    Rows are scaled to length 1 here. k-means++ on a sample of the pool, and k-means on that sample,
    give the first centroids. Each epoch is a pass over the pool, after which a centroid points
    where the sum of its members does. Clusters that lose all members begin anew far from the
    others. Sums are exact, so that chunks change nothing.

        clusters = CosineClusters(50).fit(embeddings)
        sample = clusters.sample(embeddings)  # centroids, outliers, random members

    Args:
        n_clusters: K, at least 1; None: as many as `centroids` has.
        centroids: [K, D] array, from faiss or anywhere: ready for use, or to be moved by `fit`.
        max_iter: the most epochs, at least 1; it ends before that when no centroid moves.
        batch_size: centroids move after every so many rows (mini-batches), and again in the next
            epochs; None: after each epoch, which ends with lower inertia.
        seed: of what is drawn, from 0 to 2^64 - 1.
        fast: as for `nearest_centroid`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite.
        backend: "auto", "triton" or "torch".

    Attributes:
        centroids: [K, D] float32 NumPy array, each of length 1; None before `fit`.
        counts: [K] int64 NumPy array, the members in the last epoch; None before `fit`.
        inertia: the sum over rows of the squared distance from the row, scaled to length 1, to its
            centroid, 2 (1 - similarity), in the last epoch before the centroids moved.
        epochs: how many there were.
        converged: whether no centroid moved in the last.

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
        self._fast = fast
        self._seed = checked_seed(seed)
        self._how: dict[str, Any] = {"on_invalid": on_invalid, "backend": backend}
        self._k_means: dict[str, Any] = {
            "max_iter": checked_count("max_iter", max_iter),
            "batch_size": None if batch_size is None else checked_count("batch_size", batch_size),
            "seed": self._seed,
            "fast": fast,
        }
        self.reducer(given)  # which checks the rest
        self.centroids = None if given is None else given.numpy()
        self.counts: Any = None
        self.inertia: float | None = None
        self.epochs = 0
        self.converged = False

    def reducer(self, centroids: torch.Tensor | None = None) -> KMeans:
        """The reducer of several passes that `fit` runs."""
        return KMeans(self._n_clusters, centroids, **self._k_means, **self._how)

    def fit(
        self,
        pool: Any,
        *,
        chunk_bytes: int | None = None,
        checkpoint: PathLike | None = None,
        resume: bool = False,
    ) -> "CosineClusters":
        """Finds the centroids in one pass over the pool and one for every epoch; returns itself.

        Args:
            pool: embeddings [N, D], with at least K rows that are finite: any pool that
                `fastal.select` takes and that can be read again.
            chunk_bytes: as for `fastal.select`.
            checkpoint: as for `fastal.select`.
            resume: as for `fastal.select`.

        Raises:
            InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.
        """
        given = None if self.centroids is None else torch.from_numpy(self.centroids)
        reducer = self.reducer(given)
        self.take(
            run_resumable(
                reducer, open_pool(pool), {"clusters": reducer.arguments(), **self._how},
                chunk_bytes=chunk_bytes, checkpoint=checkpoint, resume=resume,
            )
        )  # fmt: skip
        return self

    def take(self, found: Clustering) -> None:
        """Has these clusters, which `reducer` ended in."""
        self.centroids, self.counts = found.centroids.numpy(), found.counts.numpy()
        self.inertia, self.epochs, self.converged = found.inertia, found.epochs, found.converged

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
        source = open_pool(pool)
        found = run(Assignment(self._fitted(), **self._how), source, chunk_bytes=chunk_bytes)
        # Files of bfloat16, which NumPy lacks, come as tensors.
        return Nearest(*map(np.asarray, found)) if isinstance(source, Files) else found

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
        source = open_pool(pool)
        sampler = self.sampler(n_random)
        found: ClusterSample = run_resumable(
            sampler, source, {"sample": sampler.arguments(), **self._how},
            chunk_bytes=chunk_bytes, checkpoint=checkpoint, resume=resume,
            finish=lambda found: ClusterSample(*(with_ids(picks, source) for picks in found)),
        )  # fmt: skip
        return found

    def sampler(self, n_random: int = 1) -> ClusterSampler:
        """The reducer that `sample` runs."""
        return ClusterSampler(self._fitted(), n_random, seed=self._seed, **self._how)

    def save(self, path: PathLike) -> None:
        """Writes the clusters to a .npz file: `centroids`, `counts` and `about`, which is JSON."""
        with written_whole(Path(path)) as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """The same to a file that is open."""
        centroids = self._fitted().units.numpy()
        about = {
            "inertia": self.inertia, "epochs": self.epochs, "converged": self.converged,
            "seed": self._seed,
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
        return CentroidDistance(self.centroids, fast=self._fast)


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
            "epochs": int(about["epochs"]),
            "converged": bool(about["converged"]),
        },
    )
