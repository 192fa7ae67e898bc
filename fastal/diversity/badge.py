"""BADGE: rows whose loss would have large gradients in different directions."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.checks import checked_count, checked_seed
from fastal.base.errors import prefixing_errors
from fastal.base.row_filter import RowFilter
from fastal.diversity.gradient_pool import GradientPool
from fastal.diversity.gradients import Gradients
from fastal.diversity.greedy_picks import GreedyPicks
from fastal.picks.picks import Picks
from fastal.pipeline.row_choice import narrowed, row_filter_for
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.noise import gumbel
from fastal.selection.ties import Best
from fastal.sources import PathLike, open_pool
from fastal.sources.side_by_side import check_same_rows

_SEED_BITS = 64


def badge(
    logits: Any,
    embeddings: Any,
    k: int,
    *,
    kind: str = "logits",
    seed: int = 0,
    memory_bytes: int = 1 << 30,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    exclude: Any = None,
    among: Any = None,
    progress: bool = False,
) -> Picks:
    """BADGE: k-means++ over the gradients that rows would have if their prediction were the label.

    The gradient of a row is g = a outer x: x [D] is its embedding, and a = p - onehot(argmax p) [C]
    with the probabilities p. An uncertain row has a large gradient. The first pick is the row with
    the largest |g|, as in the authors' code. Each later pick is drawn. The probability of a row is
    in proportion to the squared distance of its gradient to the nearest gradient of a pick. So the
    picks are both uncertain and different.

    The gradients are never in memory: distances come from a and x. If all a and x fit into
    `memory_bytes`, the pools are read once. Else they are read once for each pick.

    Args:
        logits: predictions [N, C] with C >= 2; any pool that `fastal.select` takes and that can be
            read again. Its ids and carried columns travel to the picks.
        embeddings: [N, D], the input of the last layer for the same rows; any such pool. If both
            pools have ids, these must be the same and in the same order. Otherwise row i of one
            pool belongs to row i of the other.
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked.
        kind: what the predictions are: "logits", "probs" or "log_probs".
        seed: the seed of the draws, from 0 to 2^64 - 1.
        memory_bytes: memory for a and x, which take 4 (C + D + 4) bytes per row. 0: none. Every row
            of the pool takes 4 more bytes.
        on_invalid: "raise", or "skip" to leave out rows with invalid predictions or with an
            embedding that is not finite, and count them in the picks' `invalid`.
        backend: "auto" or "torch".
        chunk_bytes: as for `fastal.select`, of both pools together.
        checkpoint: as for `fastal.select`; it has 4 bytes per row.
        resume: as for `fastal.select`.
        exclude: as for `fastal.select`.
        among: as for `fastal.select`.
        progress: as for `fastal.select`.

    Returns:
        Picks in the order of picking. The score of the first pick is its |g|. The score of a later
        pick is the distance of its gradient to the nearest gradient of an earlier pick. Ties of the
        first pick go to the lower row number. Rows whose gradient equals that of a pick are never
        drawn while there are others. They come last, with score 0, in the order of their row
        numbers. a and x are rounded to float32. From them, the relative error of a score is at most
        (C + D + 16) 2^-22, and 2^-46 of the largest |g| is added. NumPy's logarithm makes the
        draws; its last bit may differ between processors.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`. ValueError also if the two
            pools do not have the same rows.

    Source: Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds (ICLR
    2020), algorithm 1; Arthur and Vassilvitskii, k-means++ (2007).

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> logits = np.array([[9, 0], [0, 0], [0, 0], [0, 0.1]], np.float32)
        >>> embeddings = np.array([[1, 0], [2, 0], [2, 0], [0, 1]], np.float32)
        >>> picks = diversity.badge(logits, embeddings, k=2)
        >>> picks.rows, picks.scores.round(3)
        (array([1, 0]), array([1.414, 1.414], dtype=float32))
    """
    predictions = open_pool(logits)
    with prefixing_errors("embeddings"):
        beside = open_pool(embeddings)
    check_same_rows(predictions, beside, "embeddings")
    gradients = Gradients(kind)
    row_filter = row_filter_for(exclude, among, predictions)
    reducer = GradientSeeding(
        k, gradients, seed=seed, options=ScoringOptions(on_invalid, backend), row_filter=row_filter
    )
    memory_bytes = checked_count("memory_bytes", memory_bytes, least=0)
    if None not in (predictions.n_rows, beside.n_rows):  # else one pool may be narrowed alone
        predictions, beside = narrowed(predictions, row_filter), narrowed(beside, row_filter)
    pool = GradientPool(predictions, beside, gradients, memory_bytes)
    run_options = RunOptions(chunk_bytes, checkpoint, resume, progress=progress)
    return pick_from_pool(reducer, pool, run_options)


class GradientSeeding(GreedyPicks):
    """k-means++ over gradients, with one pass for each pick. `badge` runs it over a pool.

    A draw in proportion to w is the row with the largest log w + g, where g is a Gumbel variable of
    seed, pick and row. So a pass finds it in any chunks.

    Args:
        k: how many rows to pick, at least 1.
        gradients: the distances of the rows [n, C + D + 4] that `GradientPool` yields.
        seed: the seed of the draws.
        options: what to do with invalid rows, and the backend.
        row_filter: which rows may be picked; None: all.
    """

    def __init__(
        self,
        k: int,
        gradients: Gradients,
        *,
        seed: int,
        options: ScoringOptions,
        row_filter: RowFilter | None,
    ) -> None:
        self._seed = checked_seed(seed)
        self._gradients = gradients
        super().__init__(k, gradients, options, row_filter)
        self._best: Best | None = None  # of the pass so far

    def _read(self, rows: Rows, nearest: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Finds the row with the largest key."""
        best = self._best_of(rows, rows.without_left_out(nearest, -math.inf))

        def take_note() -> None:
            self._best = best.or_better(self._best) if best else self._best

        return nearest, take_note

    def _best_of(self, rows: Rows, nearest: Tensor) -> Best | None:
        """The row with the largest key, with its distance and its factors [C + D + 4]."""
        distance = nearest.cpu().numpy().astype(np.float64)
        keys = self._keys(distance, rows) if self._rows else distance
        if not len(keys) or (place := int(keys.argmax())) < 0 or keys[place] == -math.inf:
            return None
        row = int(rows.numbers.at(np.array([place]))[0])
        factors = rows.x[place].to("cpu", torch.float32, copy=True)
        return Best(float(keys[place]), row, (float(distance[place]), factors))

    def _keys(self, distance: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
        """2 log distance + Gumbel [n]; -inf where the distance is 0 or -inf."""
        with np.errstate(divide="ignore"):
            weight = 2 * np.log(distance.clip(min=0))
        # The pick is in the upper half of the 128 bits of a seed.
        of_pick = self._seed | len(self._rows) << _SEED_BITS
        found: NDArray[np.float64] = weight + gumbel(of_pick, rows.numbers)
        return found

    def next_pass(self) -> bool:
        """Adds the row that was drawn; returns whether there is to be another pass."""
        self._end_pass()
        best, self._best = self._best, None
        if best is None:
            self._add_equal_rows()
            return False
        _, row, (distance, self._gradients.centre) = best
        if not self._rows:  # the distances were norms
            values = self._distance.values
            values.masked_fill_(values != -math.inf, math.inf)
        self._add(row, distance)
        return len(self._rows) < self._k

    def _add_equal_rows(self) -> None:
        """Adds rows whose gradients equal those of picks: no others are left."""
        equal = (self._distance.values == 0).nonzero()[:, 0]
        for row in equal[: self._k - len(self._rows)].tolist():
            self._add(row, 0.0)

    def result(self) -> Picks:
        """The picks so far, as arrays of the kind of the last chunk, or NumPy without one."""
        return self._picks(self._scores)

    @property
    def strategy(self) -> str:
        """Its name."""
        return "badge"

    def identity(self) -> dict[str, Any]:
        """k, the seed, and the kind of the predictions."""
        return {"strategy": "badge", "k": self._k, "seed": self._seed, **self._gradients.identity()}

    def _state(self) -> dict[str, Any]:
        """The state, which has 4 bytes per row of the pool."""
        centre, drawn = self._gradients.centre, None
        if self._best is not None:
            key, row, (distance, factors) = self._best
            drawn = [key, row, distance, factors.numpy()]
        return {
            **super()._state(),
            "centre": None if centre is None else centre.numpy(),
            "drawn": drawn,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        centre, drawn = state["centre"], state["drawn"]
        super()._restore(state)
        self._gradients.centre = None if centre is None else torch.from_numpy(centre)
        self._best = None
        if drawn is not None:
            key, row, apart, factors = drawn
            self._best = Best(key, row, (apart, torch.from_numpy(factors)))
