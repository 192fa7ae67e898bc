"""Query strategies of small-text that fastal computes.

They take the place of that library's strategies in `PoolBasedActiveLearner`. Labelled and ignored
samples are neither predicted nor scored. Predictions or embeddings that exist already are read in
place: `learner.query(n, representation=logits)`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from small_text.query_strategies import QueryStrategy
from torch import Tensor

import fastal
from fastal import diversity

__all__ = ["CoreSet", "Uncertainty"]

_SCORES = fastal.DrawsScores._fields
_METRICS = "cosine", "euclidean"
_SEEDS = 1 << 63


class Uncertainty(QueryStrategy):
    """Uncertainty sampling by one of fastal's scores.

    It takes the place of `BreakingTies`, `LeastConfidence`, `PredictionEntropy` and `BALD`. The
    picks are the same, except among samples whose scores differ by less than 1e-6: fastal's scores
    are float32.

    Args:
        by: "least_confidence", "margin", "ratio" or "entropy"; or of draws also "bald",
            "mean_entropy", "expected_entropy", "variation_ratio", "vote_entropy", "kl_to_mean" or
            "variance"; see `fastal.DrawsScores`.
        kind: what a representation holds, see `fastal.score`. A classifier's predictions are
            probabilities.
        dropout_samples: how many draws of each sample to ask the classifier for, at least 1, or
            that a representation has draws [N, draws, C]. None: one prediction of each sample.
        aggregate: how the scores of the labels become one, for data with several labels: "mean",
            "max", "sum" or another of `fastal.score`.
        noise: None picks the best samples. "power", "softmax" and "softrank" draw samples at
            random, better ones more likely; see `fastal.Selector`.
        beta: the weight of the scores against the noise: larger = less random.
        seed: of the noise and of ties="random", from 0 to 2^64 - 1. Each query draws anew. A new
            strategy with the same seed repeats the draws.
        ties: of samples with equal scores, "first" picks the lowest index, and "random" draws.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.small_text import Uncertainty
        >>> logits = np.array([[9.0, 0.0], [0.0, 0.1], [3.0, 0.0], [1.0, 0.0]])
        >>> unlabelled, labelled = np.array([0, 2, 3]), np.array([1])
        >>> Uncertainty("margin").query(None, logits, unlabelled, labelled, np.array([0]), n=2)
        array([3, 2])
    """

    def __init__(
        self,
        by: str = "margin",
        *,
        kind: str = "logits",
        dropout_samples: int | None = None,
        aggregate: str | None = None,
        noise: str | None = None,
        beta: float = 1.0,
        seed: int = 0,
        ties: str = "first",
    ) -> None:
        if by not in _SCORES:
            raise ValueError(f"by: wanted one of {', '.join(_SCORES)}, got {by!r}")
        if dropout_samples is None:
            if by not in fastal.Scores._fields:
                raise ValueError(f"dropout_samples: wanted a number of draws, for by={by!r}")
        elif type(dropout_samples) is not int or dropout_samples < 1:
            raise ValueError(
                f"dropout_samples: wanted an int from 1, or None, got {dropout_samples!r}"
            )
        elif aggregate is not None:
            raise ValueError(f"aggregate: wanted None with dropout_samples, got {aggregate!r}")
        self.by = by
        self.kind = kind
        self.dropout_samples = dropout_samples
        self.aggregate = aggregate
        self.noise = noise
        self.beta = beta
        self.ties = ties
        fastal.Selector(  # checks the arguments that are its own
            1, by, kind=kind, draws_axis=self._draws_axis, aggregate=aggregate, noise=noise,
            beta=beta, seed=seed, ties=ties,
        )  # fmt: skip
        self._random = np.random.default_rng(seed)

    def query(
        self,
        clf: Any,
        dataset: Any,
        indices_unlabeled: Any,
        indices_labeled: Any,  # noqa: ARG002
        y: Any,
        n: int = 10,
    ) -> NDArray[np.int64]:
        """Picks the most uncertain samples.

        Args:
            clf: a classifier; not asked if `dataset` is an array.
            dataset: a dataset of small-text, whose unlabelled part the classifier predicts; or
                predictions of all its samples, as `representation` of the learner's `query`: an
                array [N, C] or [N, draws, C] of this `kind`, a memmap or a tensor.
            indices_unlabeled: [U] integers, the samples to pick from.
            indices_labeled: not read.
            y: the labels, of which only the type is read: a sparse matrix means that each sample
                may have several labels.
            n: how many samples to pick, at least 1. With more than U, small-text's
                `PoolExhaustedException` is raised; if U is 0, its `EmptyPoolException`.

        Returns:
            [n] int64, indices of the dataset, best first.

        Raises:
            ValueError, TypeError: a bad argument, or bad predictions; the message names it.
        """
        self._validate_query_input(indices_unlabeled, n)
        unlabelled = _indices(indices_unlabeled, n)
        if _is_array(dataset):
            with _naming_samples("representation"):
                return self._picked(dataset, n, self.kind, unlabelled)
        unlabelled = np.sort(unlabelled)  # ties go to the lowest index
        kind = self._kind_of_labels(y)
        draws = {} if self._draws_axis is None else {"dropout_sampling": self.dropout_samples}
        probabilities = np.asarray(clf.predict_proba(dataset[unlabelled], **draws))
        with _naming_samples("predict_proba", unlabelled):
            places = self._picked(probabilities, n, kind, None)
        return unlabelled[places]

    def _kind_of_labels(self, y: Any) -> str:
        """What a classifier predicts that was trained with these labels."""
        if not hasattr(y, "tocsr"):  # no sparse matrix
            if self.aggregate is not None:
                raise ValueError(
                    f"aggregate: wanted None for samples with one label, got {self.aggregate!r}"
                )
            return "probs"
        if self.aggregate is None:
            raise ValueError("aggregate: wanted 'mean' or another for samples with several labels")
        return "multilabel_probs"

    def _picked(
        self, x: Any, n: int, kind: str, among: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """The best rows of an array."""
        picks = fastal.select(
            x, n, self.by, kind=kind, draws_axis=self._draws_axis, aggregate=self.aggregate,
            noise=self.noise, beta=self.beta, seed=int(self._random.integers(_SEEDS)),
            ties=self.ties, among=among,
        )  # fmt: skip
        return _on_host(picks.rows)

    @property
    def _draws_axis(self) -> int | None:
        return None if self.dropout_samples is None else 1

    def __str__(self) -> str:
        return f"Uncertainty(by={self.by!r})"


class CoreSet(QueryStrategy):
    """Greedy k-centre over embeddings.

    It takes the place of `GreedyCoreset`. The picks are the same as with the Euclidean metric
    there, except among samples whose distances are equal within rounding, where the lowest index
    is picked. Of vectors of length 1 (`normalize=True`, the default of `GreedyCoreset`), cosine and
    Euclidean distance have the same order.

    Args:
        metric: "cosine", for `GreedyCoreset(normalize=True)`; or "euclidean", for
            `GreedyCoreset(normalize=False)`. See `fastal.diversity.k_center`.

    Raises:
        ValueError: a bad argument; the message names it.

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.small_text import CoreSet
        >>> embeddings = np.array([[0.0, 1.0], [1.0, 0.0], [5.0, 0.0], [3.0, 0.0]])
        >>> unlabelled, labelled = np.array([1, 2, 3]), np.array([0])
        >>> CoreSet("euclidean").query(None, embeddings, unlabelled, labelled, None, n=2)
        array([2, 3])
    """

    def __init__(self, metric: str = "cosine") -> None:
        if metric not in _METRICS:
            raise ValueError(f"metric: wanted one of {', '.join(_METRICS)}, got {metric!r}")
        self.metric = metric

    def query(
        self,
        clf: Any,
        dataset: Any,
        indices_unlabeled: Any,
        indices_labeled: Any,
        y: Any,  # noqa: ARG002
        n: int = 10,
        embed_kwargs: Mapping[str, Any] | None = None,
    ) -> NDArray[np.int64]:
        """Picks the samples that are farthest from all labelled and picked ones.

        Args:
            clf: a classifier with `embed`; not asked if `dataset` is an array.
            dataset: a dataset of small-text, whose unlabelled and labelled parts the classifier
                embeds; or embeddings of all its samples [N, D], as `representation` of the
                learner's `query`, such as a memmap or a tensor.
            indices_unlabeled: [U] integers, the samples to pick from.
            indices_labeled: [L] integers. If there are none, the first pick is the unlabelled
                sample with the lowest index.
            y: not read.
            n: how many samples to pick, at least 1. With more than U, small-text's
                `PoolExhaustedException` is raised; if U is 0, its `EmptyPoolException`.
            embed_kwargs: more arguments for `embed`.

        Returns:
            [n] int64, indices of the dataset, in the order of picking.

        Raises:
            ValueError, TypeError: a bad argument, or bad embeddings; the message names it.
        """
        self._validate_query_input(indices_unlabeled, n)
        unlabelled = np.sort(_indices(indices_unlabeled, n))
        labelled = np.asarray(indices_labeled).astype(np.int64)
        if _is_array(dataset):
            known = dataset[labelled]
            _check_finite("representation", known, labelled)
            with _naming_samples("representation"):
                picks = diversity.k_center(
                    dataset, n, labelled=known, metric=self.metric, among=unlabelled
                )
            return _on_host(picks.rows)
        if not hasattr(clf, "embed"):
            raise TypeError(
                f"clf: wanted a classifier with embed, got {type(clf).__name__}; or give the "
                "embeddings to the learner: query(representation=embeddings)"
            )
        rows = np.concatenate((unlabelled, labelled))
        embeddings = np.asarray(clf.embed(dataset[rows], **(embed_kwargs or {})))
        known = embeddings[len(unlabelled) :]
        _check_finite("embed", known, labelled)
        with _naming_samples("embed", unlabelled):
            picks = diversity.k_center(
                embeddings[: len(unlabelled)], n, labelled=known, metric=self.metric
            )
        places: NDArray[np.int64] = picks.rows
        return unlabelled[places]

    def __str__(self) -> str:
        return f"CoreSet(metric={self.metric!r})"


def _on_host(rows: Any) -> NDArray[np.int64]:
    """Row numbers as small-text has them, also of a tensor on a GPU."""
    return np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)


def _is_array(dataset: Any) -> bool:
    """Whether this is a representation of the samples, which no classifier can read."""
    return hasattr(dataset, "shape")


def _indices(indices_unlabeled: Any, n: int) -> NDArray[np.int64]:
    """The samples to pick from."""
    if n < 1:
        raise ValueError(f"n: wanted at least 1, got {n}")
    return np.asarray(indices_unlabeled).astype(np.int64, copy=False)


def _check_finite(name: str, known: Any, labelled: NDArray[np.int64]) -> None:
    """Names the first labelled sample, by its index in the dataset, that is not finite.

    Args:
        name: where the embeddings are from.
        known: [L, ...], those of the labelled samples.
        labelled: [L], their indices.
    """
    finite = known.isfinite() if isinstance(known, Tensor) else np.isfinite(known)
    for index, of_sample in zip(labelled, _on_host(finite), strict=True):
        if not of_sample.all():
            raise ValueError(f"{name}: sample {index} has NaN or an infinite value")


@contextmanager
def _naming_samples(name: str, indices: NDArray[np.int64] | None = None) -> Iterator[None]:
    """Names the samples that are invalid by their indices in the dataset.

    Args:
        name: where the values are from.
        indices: of the rows that are scored; None: all samples.
    """
    try:
        yield
    except fastal.InvalidRows as error:
        rows = error.rows if indices is None else indices[error.rows].tolist()
        raise error.renamed(f"{name}: sample", rows) from error
