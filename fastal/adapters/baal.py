"""A heuristic of baal that fastal computes.

It takes the place of that library's heuristics in `ActiveLearningLoop`: the same predictions in the
same layout, the same order of samples.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from baal.active.heuristics.heuristics import AbstractHeuristic, available_reductions
from numpy.typing import NDArray
from torch import Tensor

import fastal

__all__ = ["Uncertainty"]

_SCORES = fastal.DrawsScores._fields
_KINDS = "logits", "probs", "log_probs"
_SEEDS = 1 << 63


class Uncertainty(AbstractHeuristic):
    """Uncertainty sampling by one of fastal's scores, of predictions in baal's layout.

    It takes the place of `BALD`, `Entropy`, `Margin`, `Certainty` and `Variance`. With
    `noise="power"` it takes the place of `PowerSampling`. Predictions are arrays [N, C],
    [N, C, draws] or [N, C, ..., draws], NumPy or torch, on any device; or a generator of these in
    chunks. The last of three or more axes counts the draws. A chunk is scored when it comes and
    not kept. Memory is what scoring a chunk takes, and some 20 bytes per sample with `query_size`,
    or some 60 without.

    Args:
        by: "least_confidence", "margin", "ratio" or "entropy" of the mean of the draws; or of the
            draws "bald", "mean_entropy", "expected_entropy", "variation_ratio", "vote_entropy",
            "kl_to_mean" or "variance"; see `fastal.DrawsScores`. Larger is more uncertain.
        kind: what the predictions are: "logits", "probs" or "log_probs". It is never guessed. Each
            draw of logits becomes probabilities before the mean is taken.
        query_size: how many samples `get_ranks` returns, at least 1; None: all. The loop takes the
            first of them, so this must be at least the loop's own `query_size`.
        reduction: how the scores [N, ...] of the pixels or tokens of a sample become one: "mean",
            "max", "min", "sum", a callable from [N, ...] to [N], or "none" for predictions without
            such axes.
        noise: None ranks by score. "power", "softmax" and "softrank" draw samples at random, better
            ones more likely; see `fastal.Selector`.
        beta: the weight of the scores against the noise: larger = less random. In baal's
            `PowerSampling`, this is 1 / temperature.
        seed: of the noise and of ties="random", from 0 to 2^64 - 1. Each call draws anew. A new
            heuristic with the same seed repeats the draws.
        ties: of samples with equal scores, "first" ranks the one that comes first, and "random"
            draws.

    Raises:
        ValueError, TypeError: a bad argument, or bad predictions; the message names it.

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.baal import Uncertainty
        >>> logits = np.array([[9.0, 0.0], [0.0, 0.1], [3.0, 0.0]])
        >>> ranks, scores = Uncertainty("margin").get_ranks(logits)
        >>> ranks, scores.round(3)
        (array([1, 2, 0]), array([0.   , 0.95 , 0.095], dtype=float32))
        >>> two_draws = np.stack([logits, logits[:, ::-1]], axis=-1)  # [N, C, draws]
        >>> Uncertainty("bald", query_size=2).get_ranks(chunk for chunk in [two_draws])[0]
        array([0, 2])
    """

    def __init__(
        self,
        by: str = "margin",
        *,
        kind: str = "logits",
        query_size: int | None = None,
        reduction: str | Callable[[NDArray[Any]], NDArray[Any]] = "none",
        noise: str | None = None,
        beta: float = 1.0,
        seed: int = 0,
        ties: str = "first",
    ) -> None:
        for name, value, wanted in (("by", by, _SCORES), ("kind", kind, _KINDS)):
            if value not in wanted:
                raise ValueError(f"{name}: wanted one of {', '.join(wanted)}, got {value!r}")
        if not callable(reduction) and reduction not in available_reductions:
            names = ", ".join(available_reductions)
            raise ValueError(f"reduction: wanted a callable or one of {names}, got {reduction!r}")
        if query_size is not None and (type(query_size) is not int or query_size < 1):
            raise ValueError(f"query_size: wanted an int from 1, or None, got {query_size!r}")
        super().__init__(reverse=True, reduction=reduction)
        self.by = by
        self.kind = kind
        self.query_size = query_size
        self.noise = noise
        self.beta = beta
        self.ties = ties
        fastal.Selector(1, "score", noise=noise, beta=beta, seed=seed, ties=ties)  # checks these
        self._random = np.random.default_rng(seed)

    def compute_score(
        self,
        predictions: Any,
        target_predictions: Any = None,  # noqa: ARG002  (the loop gives it)
    ) -> NDArray[np.float32]:
        """The scores of all samples, before the reduction.

        Args:
            predictions: [N, C], [N, C, draws] or [N, C, ..., draws], or a list of one such array.
                Scores of draws need an axis of draws.
            target_predictions: not read.

        Returns:
            [N] or [N, ...] float32.

        Raises:
            ValueError, TypeError: bad predictions; the message names the samples, numbered from 0.
        """
        return self._scores(predictions, 0)

    def get_uncertainties(
        self,
        predictions: Any,
        target_predictions: Any = None,  # noqa: ARG002
    ) -> NDArray[Any]:
        """The scores of all samples [N], after the reduction; see `compute_score`."""
        return np.asarray(self.reduction(self._scores(predictions, 0)))

    def get_uncertainties_generator(
        self,
        predictions: Iterable[Any],
        target_predictions: Any = None,  # noqa: ARG002
    ) -> NDArray[Any]:
        """The scores of all samples of all chunks [N]; see `compute_score`.

        Samples are numbered from 0, across the chunks.
        """
        parts: list[NDArray[Any]] = []
        first = 0
        for chunk in predictions:
            parts.append(np.asarray(self.reduction(self._scores(chunk, first))))
            first += len(parts[-1])
        if not parts:
            raise ValueError("predictions: wanted at least one chunk, got an empty generator")
        return np.concatenate(parts)

    def reorder_indices(self, scores: Any) -> NDArray[np.int64]:
        """The samples in the order of their scores, or as the noise draws them.

        Args:
            scores: [N], or a list of such arrays, which are joined.

        Returns:
            Row numbers, best first: `query_size` of them, or all N.

        Raises:
            ValueError: there are no scores, or several per sample.
        """
        scores = np.concatenate(scores) if isinstance(scores, Sequence) else np.asarray(scores)
        if scores.ndim != 1:
            raise ValueError(
                "reduction: wanted 'mean', 'max', 'min', 'sum' or a callable, for predictions with "
                f"several scores per sample; the scores have shape {scores.shape}"
            )
        if not len(scores):
            raise ValueError("predictions: wanted at least one sample, got none")
        picks = fastal.select(
            scores, self.query_size or len(scores), "score", noise=self.noise, beta=self.beta,
            seed=int(self._random.integers(_SEEDS)), ties=self.ties,
        )  # fmt: skip
        return np.asarray(picks.rows)

    def _scores(self, predictions: Any, first: int) -> NDArray[np.float32]:
        """The scores of a chunk, whose first sample has this number."""
        if isinstance(predictions, (list, tuple)):
            if len(predictions) != 1:
                raise ValueError(
                    f"predictions: wanted one array, got a {type(predictions).__name__} of "
                    f"{len(predictions)}; for a model with several outputs, use CombineHeuristics"
                )
            (predictions,) = predictions
        shape = getattr(predictions, "shape", None)
        if shape is None:
            raise TypeError(f"predictions: wanted an array, got {type(predictions).__name__}")
        if len(shape) < 2 or (len(shape) == 2 and self.by not in fastal.Scores._fields):
            draws = "" if self.by in fastal.Scores._fields else ", draws"
            raise ValueError(
                f"predictions: by={self.by!r} wants [N, C{draws}], got shape {tuple(shape)}"
            )
        if len(shape) == 2:
            with _naming_samples(first):
                return self._named(fastal.score(predictions, kind=self.kind))
        if len(shape) == 3:
            with _naming_samples(first):
                return self._of_draws(predictions.swapaxes(1, 2))
        # A sample of many pixels is scored in place. All samples at once would have to be copied.
        scores = np.empty((shape[0], *shape[2:-1]), np.float32)
        for place, sample in enumerate(predictions):
            pixels = sample.reshape(shape[1], -1, shape[-1]).swapaxes(0, 1).swapaxes(1, 2)
            with _naming_pixels(first + place):
                scores[place] = self._of_draws(pixels).reshape(scores.shape[1:])
        return scores

    def _of_draws(self, rows: Any) -> NDArray[np.float32]:
        """The scores of rows [n, draws, C]."""
        return self._named(fastal.score(rows, kind=self.kind, draws_axis=1))

    def _named(self, scores: Any) -> NDArray[np.float32]:
        """The score to rank by, among all."""
        wanted = getattr(scores, self.by)
        return np.asarray(wanted.cpu() if isinstance(wanted, Tensor) else wanted)


@contextmanager
def _naming_samples(first: int) -> Iterator[None]:
    """Names the samples whose predictions are invalid, of a chunk whose first has this number."""
    try:
        yield
    except fastal.InvalidRows as error:
        raise error.renamed("predictions: sample", [first + row for row in error.rows]) from error


@contextmanager
def _naming_pixels(sample: int) -> Iterator[None]:
    """Names the pixels of a sample whose predictions are invalid, in the order of its array."""
    try:
        yield
    except fastal.InvalidRows as error:
        raise error.renamed(f"predictions: sample {sample}: pixel", error.rows) from error
