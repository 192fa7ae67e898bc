"""Query strategies of modAL that fastal computes.

They take the place of modAL's own. Those with the same name have the same arguments, the same picks
and the same metrics. A strategy returns a pair: the rows, best first, and their metrics.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from modAL.models.base import BaseCommittee, BaseLearner
from modAL.utils.data import data_shape
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.special import rel_entr
from scipy.stats import entropy
from sklearn.exceptions import NotFittedError
from torch import Tensor

import fastal
from fastal import combine, diversity

__all__ = [
    "bald_sampling",
    "consensus_entropy_sampling",
    "core_set_sampling",
    "entropy_sampling",
    "margin_sampling",
    "max_disagreement_sampling",
    "ranked_batch_sampling",
    "ratio_sampling",
    "uncertainty_sampling",
    "vote_entropy_sampling",
]

Classifier: TypeAlias = "BaseLearner | BaseCommittee"
Answer: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]

_SEEDS = 1 << 31  # what `numpy.random.randint` can draw from on every platform
_DENSE_ROWS = 1024  # rows of a sparse matrix that are dense at a time


def uncertainty_sampling(
    classifier: Classifier,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_proba_kwargs: Any,
) -> Answer:
    """Picks the rows whose most probable class has the least probability.

    It takes the place of `modAL.uncertainty.uncertainty_sampling`. The picks are the same, except
    among rows whose scores differ by less than 1e-6: fastal's scores are float32.

    Args:
        classifier: an `ActiveLearner`, a `Committee` or another learner with `predict_proba`.
        X: [N, ...], the pool: anything that the classifier takes, such as a NumPy array, a sparse
            matrix or a DataFrame.
        n_instances: how many rows to pick, from 1 to N.
        random_tie_break: whether rows with equal scores are picked at random, by a seed from
            NumPy's global random state. Else the first of them are picked.
        predict_proba_kwargs: further arguments for `predict_proba`.

    Returns:
        The rows [n_instances] int64, best first, and their metrics [n_instances] float64. Here the
        metric is 1 - p1, where p1 >= p2 are the two largest probabilities of a row. A classifier
        that was trained on one class gives 0. A classifier that is not fitted gives 1, as in
        modAL, so all rows tie.

    Raises:
        ValueError, TypeError: a bad argument, or bad probabilities; the message names it.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner
        >>> from sklearn.linear_model import LogisticRegression
        >>> from fastal.adapters.modal import uncertainty_sampling
        >>> X, y = np.array([[0.0], [4.0]]), np.array([0, 1])
        >>> learner = ActiveLearner(LogisticRegression(), uncertainty_sampling, X, y)
        >>> pool = np.array([[0.5], [2.0], [3.5]])
        >>> learner.query(pool, return_metrics=True)
        (array([1]), array([[2.]]), array([0.499999...]))
    """
    return _by_predictions(
        classifier.predict_proba, X, n_instances, random_tie_break, predict_proba_kwargs,
        by="least_confidence", metric=lambda p: 1 - p.max(1), unfitted=1.0,
    )  # fmt: skip


def margin_sampling(
    classifier: Classifier,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_proba_kwargs: Any,
) -> Answer:
    """Picks the rows whose two most probable classes are nearest to each other.

    It takes the place of `modAL.uncertainty.margin_sampling`. The picks are the same, except among
    rows whose scores differ by less than 1e-6.

    Args:
        classifier: as for `uncertainty_sampling`.
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_proba_kwargs: as for `uncertainty_sampling`.

    Returns:
        As `uncertainty_sampling`. The metric is p1 - p2, so here the best row has the smallest. It
        is 1 for a classifier that was trained on one class, where modAL says 0. It is 0 for a
        classifier that is not fitted.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner
        >>> from sklearn.linear_model import LogisticRegression
        >>> from fastal.adapters.modal import margin_sampling
        >>> X, y = np.array([[0.0], [4.0]]), np.array([0, 1])
        >>> learner = ActiveLearner(LogisticRegression(), margin_sampling, X, y)
        >>> learner.query(np.array([[0.5], [2.0], [3.0]]), n_instances=2)[0]
        array([1, 2])
    """
    return _by_predictions(
        classifier.predict_proba, X, n_instances, random_tie_break, predict_proba_kwargs,
        by="margin", metric=_margin,
    )  # fmt: skip


def ratio_sampling(
    classifier: Classifier,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_proba_kwargs: Any,
) -> Answer:
    """Picks the rows with the largest ratio of the second largest probability to the largest.

    modAL has no such strategy.

    Args:
        classifier: as for `uncertainty_sampling`.
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_proba_kwargs: as for `uncertainty_sampling`.

    Returns:
        As `uncertainty_sampling`. The metric is p2 / p1. It is 0 for a classifier that is not
        fitted.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner
        >>> from sklearn.linear_model import LogisticRegression
        >>> from fastal.adapters.modal import ratio_sampling
        >>> X, y = np.array([[0.0], [4.0]]), np.array([0, 1])
        >>> learner = ActiveLearner(LogisticRegression(), ratio_sampling, X, y)
        >>> learner.query(np.array([[0.5], [2.0], [3.0]]), n_instances=2)[0]
        array([1, 2])
    """
    return _by_predictions(
        classifier.predict_proba, X, n_instances, random_tie_break, predict_proba_kwargs,
        by="ratio", metric=_ratio,
    )  # fmt: skip


def entropy_sampling(
    classifier: Classifier,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_proba_kwargs: Any,
) -> Answer:
    """Picks the rows whose probabilities have the largest entropy.

    It takes the place of `modAL.uncertainty.entropy_sampling`. The picks are the same, except among
    rows whose scores differ by less than 1e-6.

    Args:
        classifier: as for `uncertainty_sampling`.
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_proba_kwargs: as for `uncertainty_sampling`.

    Returns:
        As `uncertainty_sampling`. The metric is the entropy in nats. It is 0 for a classifier that
        is not fitted.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner
        >>> from sklearn.linear_model import LogisticRegression
        >>> from fastal.adapters.modal import entropy_sampling
        >>> X, y = np.array([[0.0], [4.0]]), np.array([0, 1])
        >>> learner = ActiveLearner(LogisticRegression(), entropy_sampling, X, y)
        >>> learner.query(np.array([[0.5], [2.0], [3.0]]), n_instances=2)[0]
        array([1, 2])
    """
    return _by_predictions(
        classifier.predict_proba, X, n_instances, random_tie_break, predict_proba_kwargs,
        by="entropy", metric=_entropy,
    )  # fmt: skip


def vote_entropy_sampling(
    committee: BaseCommittee,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_kwargs: Any,
) -> Answer:
    """Picks the rows on which the votes of a committee are most spread out.

    It takes the place of `modAL.disagreement.vote_entropy_sampling`. There are few distinct values,
    so many rows tie. The picks have the same metrics.

    Args:
        committee: a `Committee`, whose learners need `predict` alone. Labels may be text.
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_kwargs: further arguments for `predict`.

    Returns:
        As `uncertainty_sampling`. The metric is the entropy of the shares of votes, in nats. It is
        0 for a committee that is not fitted.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner, Committee
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from fastal.adapters.modal import vote_entropy_sampling
        >>> X, y = np.array([[0.0], [1.0], [4.0]]), np.array(["no", "yes", "yes"])
        >>> members = [
        ...     ActiveLearner(KNeighborsClassifier(k), X_training=X, y_training=y) for k in (1, 3)
        ... ]
        >>> committee = Committee(members, vote_entropy_sampling)
        >>> committee.query(np.array([[0.2], [3.0]]), return_metrics=True)
        (array([0]), array([[0.2]]), array([0.69314718]))
    """
    try:
        shares = _shares([member.predict(X, **predict_kwargs) for member in committee])
    except NotFittedError:
        return _all_alike(X, n_instances, random_tie_break, 0.0)
    scores = fastal.score(shares, kind="probs").entropy
    rows = _rows(scores, n_instances, random_tie_break, by="score")
    return rows, _entropy(shares[rows])


def consensus_entropy_sampling(
    committee: BaseCommittee,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_proba_kwargs: Any,
) -> Answer:
    """Picks the rows whose mean probabilities over a committee have the largest entropy.

    It takes the place of `modAL.disagreement.consensus_entropy_sampling`. The picks are the same,
    except among rows whose scores differ by less than 1e-6.

    Args:
        committee: a `Committee`, whose learners need `predict_proba`.
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_proba_kwargs: as for `uncertainty_sampling`.

    Returns:
        As `uncertainty_sampling`. The metric is the entropy in nats. It is 0 for a committee that
        is not fitted.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner, Committee
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from fastal.adapters.modal import consensus_entropy_sampling
        >>> X, y = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1])
        >>> learner = ActiveLearner(GaussianNB(), X_training=X, y_training=y)
        >>> committee = Committee([learner], consensus_entropy_sampling)
        >>> committee.query(np.array([[0.2], [2.0]]))[0]
        array([1])
    """
    return entropy_sampling(committee, X, n_instances, random_tie_break, **predict_proba_kwargs)


def max_disagreement_sampling(
    committee: BaseCommittee,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_proba_kwargs: Any,
) -> Answer:
    """Picks the rows with the member that is farthest from the consensus of a committee.

    It takes the place of `modAL.disagreement.max_disagreement_sampling`. The picks are the same,
    except among rows whose scores differ by less than 1e-6.

    Args:
        committee: as for `consensus_entropy_sampling`.
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_proba_kwargs: as for `uncertainty_sampling`.

    Returns:
        As `uncertainty_sampling`. The metric is the largest divergence (Kullback-Leibler, in nats)
        of a member's probabilities from the mean probabilities. It is 0 for a committee that is
        not fitted.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner, Committee
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from fastal.adapters.modal import max_disagreement_sampling
        >>> X, y = np.array([[0.0], [1.0], [4.0]]), np.array([0, 1, 1])
        >>> members = [
        ...     ActiveLearner(KNeighborsClassifier(k), X_training=X, y_training=y) for k in (1, 3)
        ... ]
        >>> committee = Committee(members, max_disagreement_sampling)
        >>> committee.query(np.array([[3.0], [0.2]]))[0]
        array([1])
    """
    return _by_predictions(
        committee.vote_proba, X, n_instances, random_tie_break, predict_proba_kwargs,
        by=_largest_divergence, metric=lambda p: _divergences(p).max(1),
    )  # fmt: skip


def bald_sampling(
    committee: BaseCommittee,
    X: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    **predict_proba_kwargs: Any,
) -> Answer:
    """Picks the rows with the largest mean divergence of the members from their consensus.

    modAL has no such strategy. `max_disagreement_sampling` has the largest divergence in place of
    the mean.

    Args:
        committee: as for `consensus_entropy_sampling`.
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_proba_kwargs: as for `uncertainty_sampling`.

    Returns:
        As `uncertainty_sampling`. The metric is `bald` of `fastal.score`, in nats. It is 0 for a
        committee that is not fitted.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner, Committee
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from fastal.adapters.modal import bald_sampling
        >>> X, y = np.array([[0.0], [1.0], [4.0]]), np.array([0, 1, 1])
        >>> members = [
        ...     ActiveLearner(KNeighborsClassifier(k), X_training=X, y_training=y) for k in (1, 3)
        ... ]
        >>> committee = Committee(members, bald_sampling)
        >>> committee.query(np.array([[3.0], [0.2]]))[0]
        array([1])
    """
    return _by_predictions(
        committee.vote_proba, X, n_instances, random_tie_break, predict_proba_kwargs,
        by="bald", metric=lambda p: _divergences(p).mean(1),
    )  # fmt: skip


def ranked_batch_sampling(
    classifier: Classifier, X: Any, n_instances: int = 20, **predict_proba_kwargs: Any
) -> Answer:
    """Picks rows one by one, each far from all labelled and picked rows, and uncertain.

    It is `fastal.combine.ranked_batch` with least confidence. It takes the place of
    `modAL.batch.uncertainty_batch_sampling`, with another distance: half the cosine distance.
    So the picks differ.

    Args:
        classifier: as for `uncertainty_sampling`. The labelled rows are its `X_training`; for a
            `Committee`, those of all learners. With `on_transformed=True`, the distances are
            those of the transformed rows.
        X: [N, ...], the pool, of numbers. A sparse matrix is made dense 1,024 rows at a time.
        n_instances: how many rows to pick, from 1 to N. X is read once for each.
        predict_proba_kwargs: as for `uncertainty_sampling`.

    Returns:
        The rows [n_instances] int64 in the order of picking, and what they were worth when they
        were picked [n_instances] float64, from 0 to 1. If the classifier is not fitted, the
        distance alone decides.

    Raises:
        ValueError, TypeError: as `uncertainty_sampling`; or X is not of finite numbers.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner
        >>> from sklearn.linear_model import LogisticRegression
        >>> from fastal.adapters.modal import ranked_batch_sampling
        >>> X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
        >>> learner = ActiveLearner(LogisticRegression(), ranked_batch_sampling, X, y)
        >>> pool = np.array([[1.0, 0.1], [1.0, 1.0], [-1.0, -1.0]])
        >>> learner.query(pool, n_instances=2)[0]
        array([2, 1])
    """
    rows, known = _embeddings(classifier, X)
    n_rows = data_shape(X)[0]
    k = _count(n_instances, n_rows)
    try:
        probabilities = _with_two_classes(classifier.predict_proba(X, **predict_proba_kwargs))
    except NotFittedError:
        probabilities = np.full((n_rows, 2), 0.5)
    with _naming_rows("predict_proba, or X"):
        picks = combine.ranked_batch(
            probabilities, rows, k, labelled=known, by="least_confidence", kind="probs"
        )
    return picks.rows, picks.scores.astype(np.float64)


def core_set_sampling(
    classifier: Classifier, X: Any, n_instances: int = 1, metric: str = "euclidean"
) -> Answer:
    """Picks rows one by one, each the farthest from all labelled and picked rows.

    It is `fastal.diversity.k_center`. It asks the classifier for no prediction. modAL has no such
    strategy.

    Args:
        classifier: as for `ranked_batch_sampling`.
        X: as for `ranked_batch_sampling`.
        n_instances: how many rows to pick, from 1 to N. X is read once for each.
        metric: "euclidean" or "cosine".

    Returns:
        The rows [n_instances] int64 in the order of picking, and their distances to the nearest row
        that was labelled or picked before, [n_instances] float64. Without labelled rows, the
        first pick is row 0.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Example:
        >>> import numpy as np
        >>> from modAL import ActiveLearner
        >>> from sklearn.linear_model import LogisticRegression
        >>> from fastal.adapters.modal import core_set_sampling
        >>> X, y = np.array([[0.0], [1.0]]), np.array([0, 1])
        >>> learner = ActiveLearner(LogisticRegression(), core_set_sampling, X, y)
        >>> learner.query(np.array([[2.0], [9.0], [5.0]]), n_instances=2, return_metrics=True)
        (array([1, 2]), array([[9.],
               [5.]]), array([8., 4.]))
    """
    rows, known = _embeddings(classifier, X)
    k = _count(n_instances, data_shape(X)[0])
    with _naming_rows("X"):
        picks = diversity.k_center(rows, k, labelled=known, metric=metric)
    return picks.rows, picks.scores.astype(np.float64)


def _by_predictions(
    predict: Callable[..., Any],
    X: Any,
    n_instances: int,
    random_tie_break: bool,
    predict_kwargs: Mapping[str, Any],
    *,
    by: Any,
    metric: Callable[[NDArray[Any]], NDArray[Any]],
    unfitted: float = 0.0,
) -> Answer:
    """Picks by a score of what is predicted, and says what modAL says of the picks.

    Args:
        predict: of the learner, from X to probabilities [N, C], or of each member, [N, L, C].
        X: as for `uncertainty_sampling`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        predict_kwargs: further arguments for `predict`.
        by: the score, as for `fastal.select`.
        metric: from the probabilities of the picks to their metrics.
        unfitted: the metric of all rows if the learner is not fitted.
    """
    try:
        probabilities = _with_two_classes(predict(X, **predict_kwargs))
    except NotFittedError:
        return _all_alike(X, n_instances, random_tie_break, unfitted)
    draws = {"draws_axis": 1} if isinstance(by, str) and probabilities.ndim == 3 else {}
    rows = _rows(probabilities, n_instances, random_tie_break, by=by, kind="probs", **draws)
    return rows, metric(probabilities[rows].astype(np.float64))


def _all_alike(X: Any, n_instances: int, random_tie_break: bool, metric: float) -> Answer:
    """Picks from rows that all have the same metric, since no learner is fitted."""
    rows = _rows(np.zeros(data_shape(X)[0]), n_instances, random_tie_break, by="score")
    return rows, np.full(len(rows), metric)


def _rows(
    pool: NDArray[Any], n_instances: int, random_tie_break: bool, **how: Any
) -> NDArray[np.int64]:
    """The best rows of a pool.

    Args:
        pool: [N, ...], as for `fastal.select`.
        n_instances: as for `uncertainty_sampling`.
        random_tie_break: as for `uncertainty_sampling`.
        how: further arguments for `fastal.select`.
    """
    k = _count(n_instances, len(pool))
    if random_tie_break:
        how.update(ties="random", seed=np.random.randint(_SEEDS))  # noqa: NPY002 (as modAL does)
    with _naming_rows("predict_proba"):
        return np.asarray(fastal.select(pool, k, **how).rows)


def _count(n_instances: Any, n_rows: int) -> int:
    """How many rows to pick; TypeError or ValueError if it cannot be."""
    try:
        k = operator.index(n_instances)
    except TypeError:
        raise TypeError(f"n_instances: wanted an integer, got {n_instances!r}") from None
    if not 1 <= k <= n_rows:
        raise ValueError(f"n_instances: wanted 1 to {n_rows}, the rows of X, got {k}")
    return k


def _with_two_classes(predicted: Any) -> NDArray[Any]:
    """Probabilities [..., C] with C >= 2: beside a class that is certain, another that is not.

    Raises:
        ValueError: they are neither [N, C] nor [N, L, C], or a single column is not all 1.
    """
    if isinstance(predicted, list):  # one array for each output
        raise ValueError(
            f"predict_proba: wanted an array [rows, classes], got a list of {len(predicted)}"
        )
    found = np.asarray(predicted)
    if found.ndim not in (2, 3):
        raise ValueError(f"predict_proba: wanted [rows, classes], got shape {found.shape}")
    if found.shape[-1] != 1:
        return found
    if not (found == 1).all():
        raise ValueError(
            "predict_proba: one column that is not all 1; wanted a column for each class, such as "
            "np.hstack([1 - p, p])"
        )
    return np.concatenate((found, np.zeros_like(found)), -1)


@contextmanager
def _naming_rows(what: str) -> Iterator[None]:
    """Names the rows of X, numbered from 0, that are invalid.

    Args:
        what: what has them.
    """
    try:
        yield
    except fastal.InvalidRows as error:
        raise error.renamed(f"{what}: row", error.rows) from error


def _shares(votes: Sequence[Any]) -> NDArray[np.float64]:
    """The shares of votes that classes got, [N, C], C >= 2, smallest first.

    They are sorted so that rows with equal shares have equal scores, whichever classes got them.

    Args:
        votes: what each member predicts, [N] labels.
    """
    labels = np.stack(votes, 1)
    if labels.ndim != 2:
        raise ValueError(f"predict: wanted a label for each row, got shape {np.shape(votes[0])}")
    classes, places = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(labels), max(len(classes), 2)))
    for of_member in places.reshape(labels.shape).T:
        counts[np.arange(len(labels)), of_member] += 1
    return np.sort(counts, 1) / len(votes)


def _margin(p: NDArray[Any]) -> NDArray[Any]:
    """The largest probability less the second largest, [n] of [n, C]."""
    ordered = np.sort(p, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _ratio(p: NDArray[Any]) -> NDArray[Any]:
    """The second largest probability divided by the largest, [n] of [n, C]."""
    ordered = np.sort(p, axis=1)
    return np.asarray(ordered[:, -2] / ordered[:, -1])


def _entropy(p: NDArray[Any]) -> NDArray[Any]:
    """The entropy in nats, [n] of [n, C]."""
    return np.asarray(entropy(p, axis=1))


def _divergences(p: NDArray[Any]) -> NDArray[Any]:
    """The divergences of members from their mean, [n, L] of [n, L, C]."""
    consensus = p.mean(1)
    of_members = [rel_entr(p[:, member], consensus).sum(1) for member in range(p.shape[1])]
    return np.stack(of_members, 1)


def _largest_divergence(chunk: Tensor) -> NDArray[Any]:
    """The largest divergence of a member, [n] of [n, L, C]; NaN if one has no distribution."""
    p = chunk.numpy()
    is_valid = (np.abs(p.sum(2) - 1) <= 1e-3) & (p >= 0).all(2)
    return np.where(is_valid.all(1), _divergences(p).max(1), np.nan)


def _embeddings(classifier: Classifier, X: Any) -> tuple[Any, NDArray[Any] | None]:
    """The pool and the labelled rows, as `diversity.k_center` takes them; None: no such rows.

    Raises:
        ValueError: they are not numbers, or those of labelled rows are not finite.
    """
    members = classifier if isinstance(classifier, BaseCommittee) else [classifier]
    found = [getattr(member, "X_training", None) for member in members]
    known = [_known(_transformed(classifier, x)) for x in found if x is not None]
    pool = _transformed(classifier, X)
    rows = _DenseChunks(pool) if issparse(pool) else _matrix(pool, "X")
    if not known:
        return rows, None
    # The members of a committee share rows, which count once.
    return rows, known[0] if len(known) == 1 else np.unique(np.concatenate(known), axis=0)


def _known(x: Any) -> NDArray[Any]:
    """The labelled rows of a learner [n, D].

    Raises:
        ValueError: they are not finite numbers.
    """
    rows = _matrix(x, "X_training")
    broken = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(broken):
        raise ValueError(f"X_training: row {broken[0]} has NaN or an infinite value")
    return rows


def _transformed(classifier: Classifier, X: Any) -> Any:
    """The rows, or what the classifier makes of them if its strategy is to see that."""
    if getattr(classifier, "on_transformed", False):
        return classifier.transform_without_estimating(X)
    return X


def _matrix(x: Any, name: str) -> NDArray[Any]:
    """Rows as an array [n, D] in a floating dtype that holds them.

    Raises:
        ValueError: they are not numbers.
    """
    found = x.toarray() if issparse(x) else np.asarray(x)
    if not found.ndim or found.dtype.kind not in "biuf":
        raise ValueError(f"{name}: wanted rows of numbers, got {type(x).__name__} {found.dtype}")
    rows = found.reshape(len(found), -1)
    return rows.astype(np.result_type(rows, np.float32), copy=False)


class _DenseChunks:
    """The rows of a sparse matrix as dense chunks, as often as they are asked for."""

    def __init__(self, x: Any) -> None:
        self._x = x.tocsr()

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """The chunks."""
        for first in range(0, self._x.shape[0], _DENSE_ROWS):
            yield _matrix(self._x[first : first + _DENSE_ROWS], "X")
