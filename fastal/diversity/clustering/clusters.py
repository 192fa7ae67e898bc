"""Clusters of a pool by cosine similarity: fit, assign, sample, save and load."""

import json
import logging
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from fastal.base.checks import checked_count, checked_number, checked_seed
from fastal.base.text import as_json
from fastal.diversity.assignment import Assignment, Nearest, assigned
from fastal.diversity.centroids import CentroidDistance, units_of
from fastal.diversity.clustering.cluster_sample import ClusterSample, ClusterSampler
from fastal.diversity.clustering.k_means import Clustering, KMeans, KMeansOptions
from fastal.diversity.clustering.seeding import n_distinct
from fastal.output.atomic import written_whole
from fastal.pipeline.engine import Engine
from fastal.pipeline.run_on_pool import run_on_pool, with_ids
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.scoring_options import ScoringOptions
from fastal.sources import PathLike

_log = logging.getLogger("fastal")


class CosineClusters:
    """Spherical k-means over pools of any size.

    Rows are scaled to length 1 as they are read. The first centroids come from k-means++ on a
    sample of the pool, then k-means on that sample. Each iteration is a pass over the pool: it
    assigns every row to its nearest centroid, then moves each centroid to the direction of the sum
    of its members. The iterations stop if no centroid moves. A cluster that loses all its members
    restarts at a row far from the other centroids.

    If no centroid moves, the move of a single row may still lower the inertia. An iteration
    compares a row with the centroid of its cluster, to which the row itself contributes. In small
    clusters, this keeps rows where they are. `refine` asks for passes that leave the row out: they
    compare the inertia before a row moves and after, with both centroids moved along. Each
    refining pass keeps the rows that gain most, half as many as the sample has, and moves them one
    at a time. So the inertia falls with each move. If no row moves any more, each row is nearest to
    its own centroid, and `assign` finds the same clusters.

    Memory is O(chunk + K D); with `refine`, also 4 bytes per row, and checkpoints have them too.
    Sums are exact. So a seed fixes the result, for any chunk size.

    Args:
        n_clusters: K, at least 1; None: as many as `centroids` has.
        centroids: [K, D] array, for example from faiss; its rows have any length. They can be used
            without `fit`, and are the first centroids of `fit`.
        max_iter: the most iterations, at least 1.
        batch_size: how many rows a mini-batch has. The centroids move after each mini-batch, in
            every iteration. None: they move after each iteration, which ends with lower inertia.
        seed: the seed of all draws, from 0 to 2^64 - 1.
        fast: as for `nearest_centroid`. Refining passes ignore it.
        on_invalid: "raise", or "skip" to leave out rows that are not finite.
        backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.
        refine: the most refining passes after the iterations, 0 or more; they stop if no row moves.
            Only without `batch_size`.
        tol: also stop if an iteration lowers `inertia` by at most this share of it, and likewise a
            refining pass; from 0 to 1. 0: only if nothing moves.

    Attributes:
        centroids: [K, D] float32 NumPy array, each row of length 1 (a centroid of zeros stays
            zeros); None before `fit`, unless centroids were given.
        counts: [K] int64 NumPy array, how many members each cluster had in the last iteration;
            None before `fit`.
        inertia: the sum over rows of the squared distance of the unit row to its centroid, which is
            2 (1 - similarity); of the last iteration, before the centroids moved. After a refining
            pass: of its clusters and these centroids. None before `fit`.
        n_iter: how many iterations and refining passes there were; 0 before `fit`.
        converged: whether nothing moved in the last of them, or it gained no more than `tol`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.3; Dhillon and Modha, Concept
    Decompositions for Large Sparse Text Data using Clustering (2001), section 3. Refining: Dhillon,
    Guan and Kogan, Iterative Clustering of High Dimensional Text Data Augmented by Local Search
    (ICDM 2002), first variation.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[1, 0], [4, 0], [0, 1], [0, 2], [0, 3]], np.float32)
        >>> clusters = diversity.CosineClusters(2, seed=0).fit(x)
        >>> sorted(clusters.counts.tolist()), clusters.converged
        ([2, 3], True)
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
        refine: int = 0,
        tol: float = 0.0,
    ) -> None:
        given = None if centroids is None else units_of(centroids, "centroids")
        if n_clusters is None and given is not None:
            n_clusters = len(given)
        self._n_clusters = checked_count("n_clusters", n_clusters)
        if given is not None and len(given) != self._n_clusters:
            raise ValueError(
                f"centroids: wanted n_clusters={self._n_clusters} rows, got {len(given)}"
            )
        self._how = KMeansOptions(
            checked_count("max_iter", max_iter),
            None if batch_size is None else checked_count("batch_size", batch_size),
            checked_seed(seed),
            bool(fast),
            checked_count("refine", refine, least=0),
            _checked_tol(tol),
        )
        if self._how.refine and batch_size is not None:
            raise ValueError(
                f"refine: wanted 0 with batch_size={batch_size}, got {refine}: the sums of "
                "mini-batches are not those of the clusters"
            )
        self._options = ScoringOptions(on_invalid, backend)
        self.centroids = None if given is None else given.numpy()
        self.counts: Any = None
        self.inertia: float | None = None
        self.n_iter = 0
        self.converged = False

    def reducer(self) -> KMeans:
        """The reducer that `fit` runs."""
        given = None if self.centroids is None else torch.from_numpy(self.centroids)
        return KMeans(self._n_clusters, given, self._how, self._options)

    def fit(
        self,
        pool: Any,
        *,
        chunk_bytes: int | None = None,
        checkpoint: PathLike | None = None,
        resume: bool = False,
        exclude: Any = None,
        among: Any = None,
        progress: bool = False,
        engine: str | Engine = "local",
    ) -> "CosineClusters":
        """Finds the centroids in one pass over the pool, and one more for each iteration.

        Each refining pass reads the pool once too.

        A warning is logged if some centroids are equal to others, within rounding. This happens if
        the pool has fewer distinct rows than `n_clusters`.

        Args:
            pool: embeddings [N, D] with at least K finite rows: any pool that `fastal.select`
                takes and that can be read again.
            chunk_bytes: as for `fastal.select`.
            checkpoint: as for `fastal.select`.
            resume: as for `fastal.select`.
            exclude: as for `fastal.select`.
            among: as for `fastal.select`.
            progress: as for `fastal.select`.
            engine: as for `fastal.select`.

        Returns:
            This object.

        Raises:
            InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

        Example:
            >>> import numpy as np
            >>> from fastal import diversity
            >>> x = np.array([[1, 0], [4, 0], [0, 1], [0, 2]], np.float32)
            >>> diversity.CosineClusters(1).fit(x).centroids.round(3)
            array([[0.707, 0.707]], dtype=float32)
        """
        options = RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress, engine)
        self.adopt(run_on_pool(self.reducer(), pool, options, lambda found, _: found))
        return self

    def adopt(self, found: Clustering) -> None:
        """Sets the attributes to the result of `reducer`; warns of too few distinct clusters."""
        n_clusters, n_different = len(found.centroids), n_distinct(found.centroids)
        if n_different < n_clusters:
            _log.warning(
                "%d of %d clusters are distinct: the pool may have too few distinct rows",
                n_different, n_clusters,
            )  # fmt: skip
        self.centroids, self.counts = found.centroids.numpy(), found.counts.numpy()
        self.inertia, self.n_iter, self.converged = found.inertia, found.n_iter, found.converged

    def assign(
        self,
        pool: Any,
        *,
        chunk_bytes: int | None = None,
        progress: bool = False,
        engine: str | Engine = "local",
    ) -> Nearest:
        """The cluster of each row, and the row's similarity to the centroid, in one pass.

        Args:
            pool: embeddings [N, D]; any pool that `fastal.select` takes.
            chunk_bytes: as for `fastal.select`.
            progress: as for `fastal.select`.
            engine: as for `fastal.select`.

        Returns:
            Nearest, two arrays [N] of the kind of the pool, NumPy for files. Ties go to the lower
            cluster. Invalid rows, and rows of files that were skipped, have cluster -1 and
            similarity NaN.

        Raises:
            InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

        Example:
            >>> import numpy as np
            >>> from fastal import diversity
            >>> clusters = diversity.CosineClusters(centroids=np.eye(2))
            >>> clusters.assign(np.array([[0, 5], [4, 3]], np.float32)).cluster
            array([1, 0])
        """
        reducer = Assignment(self._fitted(), self._options)
        return assigned(reducer, pool, RunOptions(chunk_bytes, progress=progress, engine=engine))

    def sample(
        self,
        pool: Any,
        n_random: int = 1,
        *,
        chunk_bytes: int | None = None,
        checkpoint: PathLike | None = None,
        resume: bool = False,
        exclude: Any = None,
        among: Any = None,
        progress: bool = False,
        engine: str | Engine = "local",
    ) -> ClusterSample:
        """Samples the members of each cluster, in one pass.

        Args:
            pool: embeddings [N, D]; any pool that `fastal.select` takes.
            n_random: how many random members to draw from each cluster, 0 or more. The seed fixes
                them, for any chunk size.
            chunk_bytes: as for `fastal.select`.
            checkpoint: as for `fastal.select`.
            resume: as for `fastal.select`.
            exclude: as for `fastal.select`.
            among: as for `fastal.select`.
            progress: as for `fastal.select`.
            engine: as for `fastal.select`.

        Returns:
            ClusterSample: of each cluster, the member most similar to the centroid, the member
            least similar to it, and random members. Each row occurs at most once. Ties go to the
            lower row number.

        Raises:
            InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

        Example:
            >>> import numpy as np
            >>> from fastal import diversity
            >>> x = np.array([[9, 1], [1, 9], [9, 2], [9, 3]], np.float32)
            >>> sample = diversity.CosineClusters(centroids=np.eye(2)).sample(x)
            >>> sample.centroids.rows, sample.outliers.rows, sample.random.rows
            (array([0, 1]), array([3]), array([2]))
        """
        options = RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress, engine)
        sampler = self.sampler(n_random)
        return run_on_pool(
            sampler, pool, options,
            lambda found, source: ClusterSample(*(with_ids(p, source, sampler) for p in found)),
        )  # fmt: skip

    def sampler(self, n_random: int = 1) -> ClusterSampler:
        """The reducer that `sample` runs."""
        return ClusterSampler(self._fitted(), n_random, seed=self._how.seed, options=self._options)

    def save(self, path: PathLike) -> None:
        """Writes the clusters to a .npz file.

        The file has the arrays `centroids`, `counts` and `about`. `about` is JSON with the other
        attributes and the seed.

        Args:
            path: the file; a file that exists is replaced.

        Raises:
            ValueError, OSError: there are no centroids yet, or the file cannot be written.

        Example:
            >>> import numpy as np
            >>> from fastal import diversity
            >>> diversity.CosineClusters(centroids=3 * np.eye(2)).save("clusters.npz")
            >>> np.load("clusters.npz")["centroids"].tolist()
            [[1.0, 0.0], [0.0, 1.0]]
        """
        with written_whole(Path(path)) as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """Writes the clusters, as `save` does, to an open binary file."""
        centroids = self._fitted().units.numpy()
        about = {
            "inertia": self.inertia, "n_iter": self.n_iter, "converged": self.converged,
            "seed": self._how.seed,
        }  # fmt: skip
        counts = np.full(len(centroids), -1) if self.counts is None else self.counts
        np.savez(file, centroids=centroids, counts=counts, about=as_json(about))

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        fast: bool = False,
        on_invalid: str = "raise",
        backend: str = "auto",
    ) -> "CosineClusters":
        """Reads clusters that `save` wrote.

        Args:
            path: the file.
            fast: as for `CosineClusters`.
            on_invalid: as for `CosineClusters`.
            backend: as for `CosineClusters`.

        Returns:
            CosineClusters with the attributes and the seed of the saved clusters.

        Raises:
            ValueError: the file was not written by `save`, or is damaged; the message names it.
            OSError: the file cannot be read; the message names it.

        Example:
            >>> import numpy as np
            >>> from fastal import diversity
            >>> diversity.CosineClusters(centroids=3 * np.eye(2)).save("clusters.npz")
            >>> diversity.CosineClusters.load("clusters.npz").centroids.tolist()
            [[1.0, 0.0], [0.0, 1.0]]
        """
        with Path(path).open("rb") as file:
            try:
                centroids, seed, found = _read(file)
            except Exception as error:  # NumPy, zipfile and json raise many kinds
                reason = " ".join(str(error).split())
                raise ValueError(f"{path}: not a file of clusters: {reason}") from error
        clusters = cls(
            centroids=centroids, seed=seed, fast=fast, on_invalid=on_invalid, backend=backend
        )
        for name, value in found.items():
            setattr(clusters, name, value)
        return clusters

    def _fitted(self) -> CentroidDistance:
        if self.centroids is None:
            raise ValueError("centroids: there are none yet; call `fit` first, or pass centroids")
        return CentroidDistance(self.centroids, fast=self._how.fast)


def _checked_tol(tol: Any) -> float:
    found = checked_number("tol", tol)
    if not 0 <= found <= 1:
        raise ValueError(f"tol: wanted 0 to 1, got {tol}")
    return found


def _read(file: BinaryIO) -> tuple[torch.Tensor, int, dict[str, Any]]:
    """Reads and checks a saved file: centroids, seed, and the other attributes by name."""
    with np.load(file, allow_pickle=False) as held:
        centroids = units_of(held["centroids"], "centroids")
        counts, about = held["counts"], json.loads(str(held["about"]))
    if counts.shape != (len(centroids),) or counts.dtype.kind != "i":
        raise ValueError(
            f"counts: wanted {len(centroids)} integers, one for each centroid, "
            f"got {counts.dtype} {counts.shape}"
        )
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
