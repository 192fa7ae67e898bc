"""Representative sampling: rows that are like the pool, and unlike what was labelled before."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastal.base.errors import prefixing_errors
from fastal.base.reducer import Reducer
from fastal.diversity.adaptive import Adaptive
from fastal.diversity.centroids import CentroidDistance, digest
from fastal.diversity.mean_direction import MeanDirection
from fastal.ops.reference import unit_rows
from fastal.pipeline.drive import run, run_resumable
from fastal.pipeline.sequential import Sequential
from fastal.scoring.measure import Blank
from fastal.selection.pick_warnings import warn_of
from fastal.selection.picks import Picks
from fastal.selection.selector import Selector
from fastal.selection.topk import checked_count
from fastal.sources import PathLike, open_pool
from fastal.sources.files import in_order_of
from fastal.uncertainty import with_ids


class Representativeness(CentroidDistance):
    """The similarity to the pool's direction less that to the training data's, from -2 to 2.

    Args:
        pool: [1, D], the sum of the pool's rows, each scaled to length 1.
        training: [1, D], that of the training data.
        fast: as for `nearest_centroid`.
    """

    def __init__(self, pool: Tensor, training: Tensor, *, fast: bool = False) -> None:
        # Where not even an empty chunk came, the columns are not known.
        width = pool.shape[1] or training.shape[1] or 1
        pool, training = (
            sums if sums.shape[1] else sums.new_zeros(1, width) for sums in (pool, training)
        )
        if pool.shape != training.shape:
            raise ValueError(
                f"training: wanted rows of {pool.shape[1]} columns, as the pool has, "
                f"got {training.shape[1]}"
            )
        super().__init__(unit_rows(torch.cat((pool, training))), fast=fast)
        self.blank = Blank(0.0, 0.0, 0.0)

    def scores(self, x: Tensor, backend: str) -> Tensor:
        """The scores of rows [n, D], [n] float32; NaN for rows that are not finite."""
        found = self.similarities(x, backend)
        return found[:, 0] - found[:, 1]

    def arguments(self) -> dict[str, Any]:
        """The directions' digest, under a name of their own, and `fast`."""
        return {"directions": digest(self.units), "fast": self.fast}


def representative(pool: Any, training: Any, k: int, **options: Any) -> Picks:
    """The k rows most representative of the pool, in two passes, exact and deterministic.

    A row's score is its cosine similarity to the direction of the pool less that to the direction
    of the training data: the sums of their rows, each scaled to length 1.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again.
        training: embeddings [T, D] of what was labelled; any such pool. With T = 0, the similarity
            to the pool alone counts.
        k: how many rows to pick, at least 1.
        options: `on_invalid`, `backend`, `chunk_bytes`, `checkpoint` and `resume` of
            `fastal.select`, and `fast` of `nearest_centroid`.

    Returns:
        Picks; scores are in [-2, 2], larger = more worth labelling. Ties go to the lower row
        number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.4. There, rows are added as they
    are; here each counts alike, as in `CosineClusters`.
    """
    return _select(pool, training, k, adaptive=False, **options)


def adaptive_representative(pool: Any, training: Any, k: int, **options: Any) -> Picks:
    """The k rows most representative of the pool, each pick counted as training data for the next.

    So the picks differ from one another. A pass over the pool for each.

    Args:
        pool: as for `representative`.
        training: as for `representative`.
        k: as for `representative`.
        options: as for `representative`.

    Returns:
        Picks in the order they were made, each with its score then, which need not fall.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.4.
    """
    return _select(pool, training, k, adaptive=True, **options)


def _select(
    pool: Any,
    training: Any,
    k: int,
    *,
    adaptive: bool,
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    **options: Any,
) -> Picks:
    with prefixing_errors("training"):
        training = in_order_of(pool, training)
    reducer, arguments = reducer_for(training, k, adaptive=adaptive, **options)
    source = open_pool(pool)
    picks: Picks = run_resumable(
        reducer, source, arguments, chunk_bytes=chunk_bytes, checkpoint=checkpoint, resume=resume,
        finish=lambda picks: with_ids(picks, source),
    )  # fmt: skip
    warn_of(picks, reducer, source)
    return picks


def reducer_for(
    training: Any,
    k: int,
    *,
    adaptive: bool,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
) -> tuple[Sequential, dict[str, Any]]:
    """The reducer that selects in this way, and the arguments that make a difference to it."""
    k = checked_count("k", k)
    with prefixing_errors("training"):
        of_training = run(MeanDirection(on_invalid=on_invalid), open_pool(training))
    how: dict[str, Any] = {"on_invalid": on_invalid, "backend": backend}

    measure = partial(Representativeness, fast=fast)

    def selection(of_pool: Tensor) -> Reducer[Picks]:
        if adaptive:
            return Adaptive(k, of_pool, of_training, measure=measure, **how)
        return Selector(k, measure(of_pool, of_training), **how)

    arguments = {
        "k": k, "training": digest(of_training), "adaptive": adaptive, "fast": fast, **how
    }  # fmt: skip
    return Sequential(MeanDirection(on_invalid=on_invalid), selection), arguments
