"""Representative sampling: rows that are like the pool, and unlike what was labelled before."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastal.base.blank_rows import Blank
from fastal.base.checks import checked_count
from fastal.base.errors import prefixing_errors
from fastal.base.reducer import Reducer
from fastal.diversity.adaptive import Adaptive
from fastal.diversity.centroids import CentroidDistance, digest
from fastal.diversity.mean_direction import MeanDirection
from fastal.ops.reference import unit_rows
from fastal.pipeline.drive import run
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.pipeline.sequential import Sequential
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.picks import Picks
from fastal.selection.selector import Selector
from fastal.sources import PathLike, open_pool
from fastal.sources.files import in_column_order_of


class Representativeness(CentroidDistance):
    """The similarity to the pool's direction less that to the training data's, from -2 to 2.

    Args:
        pool: [1, D], the sum of the pool's rows, each scaled to length 1.
        training: [1, D], that of the training data.
        fast: as for `nearest_centroid`.
    """

    blank = Blank(0.0, 0.0, 0.0)

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

    def score(self, x: Tensor, backend: str) -> Tensor:
        """The scores of rows [n, D], [n] float32; NaN for rows that are not finite."""
        found = self.similarities(x, backend)
        return found[:, 0] - found[:, 1]

    def identity(self) -> dict[str, Any]:
        """The digest of the directions, under a name of their own, and `fast`."""
        return {"directions": digest(self.units), "fast": self.fast}


def representative(
    pool: Any,
    training: Any,
    k: int,
    *,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
) -> Picks:
    """The k rows most representative of the pool, in two passes, exact and deterministic.

    A row's score is its cosine similarity to the direction of the pool less that to the direction
    of the training data: the sums of their rows, each scaled to length 1.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again.
        training: embeddings [T, D] of what was labelled; any such pool. With T = 0, the similarity
            to the pool alone counts.
        k: how many rows to pick, at least 1.
        fast: as for `nearest_centroid`.
        on_invalid: as for `fastal.select`; invalid are rows that are not finite.
        backend: "auto", "triton" or "torch".
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`.
        resume: as for `fastal.select`.

    Returns:
        Picks; scores are in [-2, 2], larger = more worth labelling. Ties go to the lower row
        number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.4. There, rows are added as they
    are; here each counts alike, as in `CosineClusters`.
    """
    with prefixing_errors("training"):
        training = in_column_order_of(pool, training)
    options = ScoringOptions(on_invalid, backend)
    reducer = reducer_for(training, k, options, adaptive=False, fast=fast)
    return pick_from_pool(reducer, pool, RunOptions(chunk_bytes, checkpoint, resume))


def adaptive_representative(
    pool: Any,
    training: Any,
    k: int,
    *,
    fast: bool = False,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
) -> Picks:
    """The k rows most representative of the pool, each pick counted as training data for the next.

    So the picks differ from one another. The pool is read once for each pick, and once before.

    Args:
        pool: as for `representative`.
        training: as for `representative`.
        k: as for `representative`.
        fast: as for `representative`.
        on_invalid: as for `representative`.
        backend: as for `representative`.
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`.
        resume: as for `fastal.select`.

    Returns:
        Picks in the order they were made, each with its score then; scores need not fall.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.4.
    """
    with prefixing_errors("training"):
        training = in_column_order_of(pool, training)
    options = ScoringOptions(on_invalid, backend)
    reducer = reducer_for(training, k, options, adaptive=True, fast=fast)
    return pick_from_pool(reducer, pool, RunOptions(chunk_bytes, checkpoint, resume))


def reducer_for(
    training: Any, k: int, options: ScoringOptions, *, adaptive: bool, fast: bool
) -> Sequential:
    """The reducer of both strategies: the direction of the pool first, then the picks."""
    k = checked_count("k", k)
    with prefixing_errors("training"):
        of_training = run(MeanDirection(options), open_pool(training))
    measure = partial(Representativeness, fast=fast)

    def selection(of_pool: Tensor) -> Reducer[Picks]:
        if adaptive:
            return Adaptive(k, of_pool, of_training, measure, options)
        return Selector(
            k, measure(of_pool, of_training), on_invalid=options.on_invalid, backend=options.backend
        )

    arguments = {
        "k": k, "training": digest(of_training), "adaptive": adaptive, "fast": fast,
        **options.identity(),
    }  # fmt: skip
    passes = k + 1 if adaptive else 2
    return Sequential(MeanDirection(options), selection, arguments=arguments, max_passes=passes)
