"""Representative sampling: rows that are like the pool and unlike the training data."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastal.base.blank_rows import Blank
from fastal.base.checks import checked_count
from fastal.base.errors import prefixing_errors
from fastal.base.reducer import Reducer
from fastal.diversity.adaptive_representative import Adaptive
from fastal.diversity.centroids import CentroidDistance, digest
from fastal.diversity.mean_direction import MeanDirection, of_one_width
from fastal.ops.reference import unit_rows
from fastal.picks.picks import Picks
from fastal.pipeline.drive import run
from fastal.pipeline.engine import Engine
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.pipeline.sequential import Sequential
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.selector import Selector
from fastal.sources import PathLike, open_pool
from fastal.sources.files import in_column_order_of


class Representativeness(CentroidDistance):
    """The similarity to the direction of the pool minus that to the training data, from -2 to 2.

    Args:
        pool: [1, D], the sum of the pool's rows, each scaled to length 1.
        training: [1, D], the sum of the training data's rows, each scaled to length 1.
        fast: as for `nearest_centroid`.
    """

    blank = Blank(0.0, 0.0, 0.0)

    def __init__(self, pool: Tensor, training: Tensor, *, fast: bool = False) -> None:
        pool, training = of_one_width(pool, training)
        if pool.shape != training.shape:
            raise ValueError(
                f"training: wanted rows of {pool.shape[1]} columns, as the pool has, "
                f"got {training.shape[1]}"
            )
        super().__init__(unit_rows(torch.cat((pool, training))), fast=fast)

    def score(self, rows: Rows) -> Tensor:
        """The scores of rows [n, D], [n] float32; NaN for rows that are not finite."""
        found = self.similarities(rows)
        return found[:, 0] - found[:, 1]

    @property
    def strategy(self) -> str:
        """The strategy that scores by it."""
        return "representative"

    def identity(self) -> dict[str, Any]:
        """The digest of both directions, and `fast`."""
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
    exclude: Any = None,
    among: Any = None,
    progress: bool = False,
    engine: str | Engine = "local",
) -> Picks:
    """The k rows most representative of the pool, in two passes, exact and deterministic.

    The direction of a pool is the sum of its rows, each scaled to length 1. Rows that `exclude` or
    `among` leave out are not part of it. The score of a row is
    its cosine similarity to the direction of the pool minus its cosine similarity to the direction
    of the training data.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again.
        training: embeddings [T, D] of the labelled rows; any pool that `fastal.select` takes. If
            T = 0, the score is the similarity to the pool alone.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked.
        fast: as for `nearest_centroid`.
        on_invalid: "raise" at the first row that is not finite, or "skip" to leave such rows out
            and count them in the picks' `invalid`.
        backend: "auto", "triton", "native" or "torch".
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`.
        resume: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        progress: as for `fastal.select`.
        engine: as for `fastal.select`.

    Returns:
        Picks, best first. Scores are in [-2, 2]; larger means more worth labelling. Ties go to the
        lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.4. The book sums the rows as
    they are. Here all rows have the same weight, as in `CosineClusters`.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[1, 0], [0, 1], [0, 2], [3, 4]], np.float32)
        >>> picks = diversity.representative(x, x[:1], k=2)
        >>> picks.rows, picks.scores.round(3)
        (array([1, 2]), array([0.868, 0.868], dtype=float32))
    """
    with prefixing_errors("training"):
        training = in_column_order_of(pool, training)
    options = ScoringOptions(on_invalid, backend)
    reducer = reducer_for(training, k, options, adaptive=False, fast=fast)
    run_options = RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress, engine)
    return pick_from_pool(reducer, pool, run_options)


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
    exclude: Any = None,
    among: Any = None,
    progress: bool = False,
    engine: str | Engine = "local",
) -> Picks:
    """The k rows most representative of the pool; each pick is training data for the next pick.

    So the picks are less alike than those of `representative`, which has the same arguments. The
    pool is read once, and then at most once for each pick: a pass finds several picks if the
    training data are unlike the pool. 64 MB are for rows to guess the next picks among.

    Args:
        pool: embeddings [N, D]; any pool that `fastal.select` takes and that can be read again.
        training: embeddings [T, D] of the labelled rows; any pool that `fastal.select` takes.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked.
        fast: as for `nearest_centroid`.
        on_invalid: "raise", or "skip" to leave out rows that are not finite and count them.
        backend: "auto", "triton", "native" or "torch".
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`.
        resume: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        progress: as for `fastal.select`.
        engine: as for `fastal.select`.

    Returns:
        Picks in the order of picking. The score of a pick is from -2 to 2, and is computed when it
        is picked; so scores can increase. Ties go to the lower row number.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.4.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[1, 0], [0, 1], [0, 2], [3, 4]], np.float32)
        >>> diversity.adaptive_representative(x, x[:1], k=3).rows
        array([1, 2, 0])
    """
    with prefixing_errors("training"):
        training = in_column_order_of(pool, training)
    options = ScoringOptions(on_invalid, backend)
    reducer = reducer_for(training, k, options, adaptive=True, fast=fast)
    run_options = RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress, engine)
    return pick_from_pool(reducer, pool, run_options)


def reducer_for(
    training: Any, k: int, options: ScoringOptions, *, adaptive: bool, fast: bool
) -> Sequential:
    """The reducer of both strategies: sums the pool in its first pass, then picks rows."""
    k = checked_count("k", k)
    with prefixing_errors("training"):
        # By torch with any backend: the sum identifies a state, and another backend may go on.
        by_torch = ScoringOptions(options.on_invalid, "torch")
        of_training = run(MeanDirection(by_torch), open_pool(training))
    measure = partial(Representativeness, fast=fast)

    def selection(of_pool: Tensor) -> Reducer[Picks]:
        if adaptive:
            return Adaptive(k, of_pool, of_training, measure, options, fast=fast)
        selector = Selector(
            k, measure(of_pool, of_training), on_invalid=options.on_invalid, backend=options.backend
        )
        selector.order.advice = ""
        return selector

    identity = {"k": k, "training": digest(of_training), "adaptive": adaptive, "fast": fast}
    return Sequential(
        MeanDirection(options), selection, identity=identity, options=options,
        max_passes=k + 1 if adaptive else 2,
    )  # fmt: skip
