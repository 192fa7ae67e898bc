"""Query strategies of scikit-activeml that fastal computes.

They take the place of that library's strategies: the same `query`, the same indices, the same
utilities. Utilities [batch_size, N] are built only if they are asked for.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from skactiveml.base import SingleAnnotatorPoolQueryStrategy, SkactivemlClassifier
from skactiveml.utils import MISSING_LABEL, check_equal_missing_label, check_type, is_labeled
from sklearn.base import clone
from sklearn.metrics import pairwise_distances_argmin_min

import fastal
from fastal import diversity

__all__ = ["Badge", "CoreSet", "Disagreement", "TypiClust", "Uncertainty"]

Answer: TypeAlias = NDArray[np.int64] | tuple[NDArray[np.int64], NDArray[np.float64]]

_METHODS = "least_confidence", "margin", "ratio", "entropy"
_OF_COMMITTEES = "bald", "kl_to_mean", "vote_entropy", "variation_ratio"
_SEEDS = 1 << 31  # what `RandomState.randint` can draw from on every platform


@dataclass(frozen=True)
class _Request:
    """What a call of `query` asks for.

    Attributes:
        x: [N, ...], all samples.
        y: [N], their labels.
        samples: [n, ...], the candidates.
        numbers: [n] int64, what the candidates are called in the answer.
        n_numbers: how many such numbers there are.
        known: [L, ...], the samples that have labels.
        batch_size: how many candidates to pick, from 1 to n.
        seed: drawn from the random state.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    samples: NDArray[Any]
    numbers: NDArray[np.int64]
    n_numbers: int
    known: NDArray[Any]
    batch_size: int
    seed: int

    def answer(self, picked: NDArray[np.int64], utilities: Iterable[NDArray[Any]] | None) -> Answer:
        """What `query` returns.

        Args:
            picked: [batch_size], places in `samples`.
            utilities: for each pick, the utilities of all candidates [n]; None: not asked for.
        """
        rows = self.numbers[picked]
        if utilities is None:
            return rows
        table = np.full((len(rows), self.n_numbers), np.nan)
        for place, of_candidates in enumerate(utilities):
            table[place, self.numbers] = of_candidates
            table[place, rows[:place]] = np.nan
        return rows, table


class _Strategy(SingleAnnotatorPoolQueryStrategy):
    """What the strategies share: the checks of scikit-activeml, and its order of arguments."""

    def _request(
        self, arguments: tuple[Any, Any, Any, Any, Any], *, allows_labelled: bool = False
    ) -> _Request:
        """The arguments of a call, checked.

        Args:
            arguments: X, y, candidates, batch_size and return_utilities.
            allows_labelled: whether a sample with a label may be a candidate, if the caller names
                it. Else such candidates are left out.
        """
        x, y, candidates, batch_size, _ = self._validate_data(*arguments)
        if candidates is not None and candidates.ndim == 1 and candidates.min() < 0:
            raise ValueError(f"candidates: wanted indices from 0, got {candidates.min()}")
        is_known = is_labeled(y, missing_label=self.missing_label_)
        samples, numbers = self._transform_candidates(candidates, x, y)
        n_numbers = len(samples) if numbers is None else len(x)
        if numbers is None:
            numbers = np.arange(n_numbers)
        elif not allows_labelled and is_known[numbers].any():
            numbers = numbers[~is_known[numbers]]
            samples = x[numbers]
        if not len(samples):
            raise ValueError("candidates: wanted at least one sample without a label, got none")
        if batch_size > len(samples):
            warnings.warn(
                f"batch_size: wanted {batch_size} candidates without a label; there are "
                f"{len(samples)}, all picked",
                stacklevel=3,
            )
            batch_size = len(samples)
        seed = int(self.random_state_.randint(_SEEDS))
        return _Request(x, y, samples, numbers, n_numbers, x[is_known], batch_size, seed)

    def _fitted(
        self, request: _Request, clf: Any, fit_clf: Any, sample_weight: Any, name: str = "clf"
    ) -> Any:
        """The classifier, or a copy that is fitted."""
        check_type(clf, name, SkactivemlClassifier)
        check_equal_missing_label(clf.missing_label, self.missing_label_)
        check_type(fit_clf, f"fit_{name}", bool)
        if not fit_clf:
            return clf
        weights = () if sample_weight is None else (sample_weight,)
        return clone(clf).fit(request.x, request.y, *weights)


class Uncertainty(_Strategy):
    """Uncertainty sampling by one of fastal's four scores.

    It takes the place of `skactiveml.pool.UncertaintySampling`. The picks are the same, except
    among candidates whose scores differ by less than 1e-6: fastal's scores are float32.

    Args:
        method: "least_confidence", "margin", "ratio" or "entropy"; see `fastal.score`.
        missing_label: the value in y of a sample without a label.
        random_state: None, an int or a `numpy.random.RandomState`. It breaks ties.

    Example:
        >>> import numpy as np
        >>> from skactiveml.classifier import ParzenWindowClassifier
        >>> from fastal.adapters.skactiveml import Uncertainty
        >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
        >>> y = np.array([0, np.nan, np.nan, np.nan, 1])
        >>> Uncertainty("margin").query(X, y, ParzenWindowClassifier(classes=[0, 1]))
        array([2])
    """

    def __init__(
        self, method: str = "margin", missing_label: Any = MISSING_LABEL, random_state: Any = None
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.method = method

    def query(
        self,
        X: Any,
        y: Any,
        clf: Any,
        fit_clf: bool = True,
        sample_weight: Any = None,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Answer:
        """Picks the most uncertain candidates.

        Args:
            X: [N, D], all samples.
            y: [N], their labels, with `missing_label` for those without.
            clf: a `SkactivemlClassifier` with at least two classes.
            fit_clf: whether to fit a copy of `clf` first. False: `clf` is fitted already.
            sample_weight: [N], weights for the fit; None: all are equal.
            candidates: the samples to pick from: indices of X, or samples [n, D]; None: those
                without a label. Indices may name samples with labels.
            batch_size: how many to pick, at least 1. If there are fewer candidates, a warning
                is given and all are picked.
            return_utilities: whether to return the utilities too.

        Returns:
            Indices [batch_size], best first: of X, or of `candidates` if these are samples. With
            `return_utilities`, a pair: also the utilities [batch_size, N or n] float64, a row for
            each pick. They are the scores, from 0 to 1, and NaN for samples that are no candidates
            and for earlier picks.

        Raises:
            ValueError, TypeError: a bad argument, or bad probabilities; the message names it.
        """
        request = self._request(
            (X, y, candidates, batch_size, return_utilities), allows_labelled=True
        )
        _check_method(self.method, _METHODS)
        fitted = self._fitted(request, clf, fit_clf, sample_weight)
        probabilities = np.asarray(fitted.predict_proba(request.samples))
        with _naming_candidates():
            picks = fastal.select(
                probabilities, request.batch_size, self.method, kind="probs", ties="random",
                seed=request.seed,
            )  # fmt: skip
        if not return_utilities:
            return request.answer(picks.rows, None)
        scores = getattr(fastal.score(probabilities, kind="probs"), self.method)
        return request.answer(picks.rows, [scores] * len(picks))


class Disagreement(_Strategy):
    """Query by committee: how much the members of an ensemble disagree.

    It takes the place of `skactiveml.pool.GreedyBALD` ("bald") and `QueryByCommittee`
    ("kl_to_mean", "vote_entropy", "variation_ratio"). The picks are the same, except among
    candidates whose scores differ by less than 1e-6, and except where those clip probabilities:
    they compute with at least 1e-7.

    Args:
        method: "bald", "kl_to_mean" (the same number), "vote_entropy" or "variation_ratio"; see
            `fastal.score` of draws. A member votes for the class it finds most probable.
        sample_predictions_method_name: the method of the ensemble that puts out the probabilities
            of all members, [members, n, classes]; None: each member is asked.
        sample_predictions_dict: arguments for that method; None: none.
        missing_label: the value in y of a sample without a label.
        random_state: None, an int or a `numpy.random.RandomState`. It breaks ties.

    Example:
        >>> import numpy as np
        >>> from skactiveml.classifier import ParzenWindowClassifier
        >>> from fastal.adapters.skactiveml import Disagreement
        >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
        >>> y = np.array([0, np.nan, np.nan, np.nan, 1])
        >>> members = [
        ...     ParzenWindowClassifier(classes=[0, 1], metric_dict={"gamma": gamma})
        ...     for gamma in (0.1, 1.0)
        ... ]
        >>> Disagreement("bald", random_state=0).query(X, y, members).tolist() in ([1], [3])
        True
    """

    def __init__(
        self,
        method: str = "bald",
        sample_predictions_method_name: str | None = None,
        sample_predictions_dict: Mapping[str, Any] | None = None,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.method = method
        self.sample_predictions_method_name = sample_predictions_method_name
        self.sample_predictions_dict = sample_predictions_dict

    def query(
        self,
        X: Any,
        y: Any,
        ensemble: Any,
        fit_ensemble: bool = True,
        sample_weight: Any = None,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Answer:
        """Picks the candidates about which the members disagree most.

        Args:
            X: as for `Uncertainty.query`.
            y: as for `Uncertainty.query`.
            ensemble: a list of `SkactivemlClassifier` with the same classes; or one such that has
                `estimators_` when it is fitted, or the method to sample predictions.
            fit_ensemble: whether to fit copies first. False: the members are fitted already.
            sample_weight: as for `Uncertainty.query`.
            candidates: as for `Uncertainty.query`.
            batch_size: as for `Uncertainty.query`.
            return_utilities: as for `Uncertainty.query`.

        Returns:
            As from `Uncertainty.query`. Utilities are in nats, and those of "variation_ratio" from
            0 to 1.

        Raises:
            ValueError, TypeError: a bad argument, or bad probabilities; the message names it. Also
                if a member of `estimators_` knows other classes than the ensemble.
        """
        request = self._request(
            (X, y, candidates, batch_size, return_utilities), allows_labelled=True
        )
        _check_method(self.method, _OF_COMMITTEES)
        draws = self._draws(request, ensemble, fit_ensemble, sample_weight)
        with _naming_candidates():
            picks = fastal.select(
                draws, request.batch_size, self.method, kind="probs", ties="random",
                seed=request.seed,
            )  # fmt: skip
        if not return_utilities:
            return request.answer(picks.rows, None)
        scores = getattr(fastal.score(draws, kind="probs"), self.method)
        return request.answer(picks.rows, [scores] * len(picks))

    def _draws(
        self, request: _Request, ensemble: Any, fit_ensemble: Any, sample_weight: Any
    ) -> Any:
        """The probabilities of all members, as a pool."""
        name, arguments = self.sample_predictions_method_name, self.sample_predictions_dict
        if name is None and arguments is not None:
            raise ValueError(
                "sample_predictions_dict: wanted None, since sample_predictions_method_name is "
                f"None; got {arguments!r}"
            )
        if isinstance(ensemble, (list, tuple)):
            if name is not None:
                raise ValueError(
                    "sample_predictions_method_name: wanted None, since ensemble is a list of "
                    f"members; got {name!r}"
                )
            if not ensemble:
                raise ValueError("ensemble: wanted at least one classifier, got none")
            members = [
                self._fitted(request, member, fit_ensemble, sample_weight, "ensemble")
                for member in ensemble
            ]
            views = [request.samples] * len(members)
            return _predictions(members, members[0].classes_, views)
        fitted = self._fitted(request, ensemble, fit_ensemble, sample_weight, "ensemble")
        if name is None:
            if not hasattr(fitted, "estimators_"):
                raise TypeError(
                    "ensemble: wanted a list of classifiers, or one with estimators_ or with "
                    f"sample_predictions_method_name; got {ensemble!r}"
                )
            columns = getattr(fitted, "estimators_features_", None)  # those that a member sees
            views = (
                [request.samples] * len(fitted.estimators_)
                if columns is None
                else [request.samples[:, seen] for seen in columns]
            )
            return _predictions(fitted.estimators_, fitted.classes_, views)
        check_type(name, "sample_predictions_method_name", str)
        if not hasattr(fitted, name):
            raise ValueError(
                f"sample_predictions_method_name: {type(fitted).__name__} has no method {name!r}"
            )
        return fastal.draws(getattr(fitted, name)(request.samples, **(arguments or {})), axis=0)


class CoreSet(_Strategy):
    """Greedy k-centre by Euclidean distance.

    It takes the place of `skactiveml.pool.CoreSet`. The picks are the same, except among
    candidates whose distances are equal within a relative (D + 8) 2^-23, where the one with the
    lower index is picked.

    Args:
        missing_label: the value in y of a sample without a label.
        random_state: None, an int or a `numpy.random.RandomState`. Without labels, it draws the
            first pick.

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.skactiveml import CoreSet
        >>> X = np.array([[0.0], [1.0], [5.0], [3.0]])
        >>> CoreSet().query(X, [0, np.nan, np.nan, np.nan], batch_size=2)
        array([2, 3])
    """

    def __init__(self, missing_label: Any = MISSING_LABEL, random_state: Any = None) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)

    def query(
        self,
        X: Any,
        y: Any,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Answer:
        """Picks the candidates that are farthest from all labelled and picked samples.

        Args:
            X: as for `Uncertainty.query`.
            y: as for `Uncertainty.query`.
            candidates: as for `Uncertainty.query`, but samples of X with labels are left out.
            batch_size: as for `Uncertainty.query`.
            return_utilities: as for `Uncertainty.query`. It takes time: all distances are computed
                once more.

        Returns:
            Indices in the order of picking, as from `Uncertainty.query`. Utilities are distances to
            the nearest labelled or picked sample; 0 for the first pick if there are no labels.

        Raises:
            ValueError, TypeError: a bad argument; the message names it.
        """
        request = self._request((X, y, candidates, batch_size, return_utilities))
        samples, known = _matrix(request.samples), _matrix(request.known)
        picked = np.empty(0, np.int64)
        if not len(known):
            picked = np.array([request.seed % len(samples)])
            known = samples[picked]
        if n_left := request.batch_size - len(picked):
            farthest = diversity.k_center(
                samples, n_left, labelled=known, metric="euclidean", exclude=picked
            )
            picked = np.concatenate((picked, farthest.rows))
        if not return_utilities:
            return request.answer(picked, None)
        return request.answer(picked, _nearest(samples, _matrix(request.known), picked))


class Badge(_Strategy):
    """BADGE: k-means++ over the gradients that samples would have if their prediction were right.

    It takes the place of `skactiveml.pool.Badge`. The first pick is the same. Later picks are drawn
    by the squared distance to the nearest pick, as the method defines them. That library's class
    draws by the smaller of this and the squared length of the gradient, which is not k-means++.
    See `fastal.diversity.badge`.

    Args:
        clf_embedding_flag_name: how `predict_proba` is asked for embeddings, the input of the last
            layer: the name of an argument that is set to True, or a dictionary of arguments. None:
            it is asked for nothing. If it returns a tuple, this is (probabilities, embeddings).
            Else X are the embeddings.
        missing_label: the value in y of a sample without a label.
        random_state: None, an int or a `numpy.random.RandomState`. It makes the draws.

    Example:
        >>> import numpy as np
        >>> from skactiveml.classifier import ParzenWindowClassifier
        >>> from fastal.adapters.skactiveml import Badge
        >>> X = np.array([[1.0], [1.4], [8.0], [2.0]])
        >>> y = np.array([0, np.nan, np.nan, 1])
        >>> Badge(random_state=0).query(X, y, ParzenWindowClassifier(classes=[0, 1]))
        array([1])
    """

    def __init__(
        self,
        clf_embedding_flag_name: Any = None,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.clf_embedding_flag_name = clf_embedding_flag_name

    def query(
        self,
        X: Any,
        y: Any,
        clf: Any,
        fit_clf: bool = True,
        sample_weight: Any = None,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Answer:
        """Picks candidates that are uncertain and different.

        Args:
            X: as for `Uncertainty.query`.
            y: as for `Uncertainty.query`.
            clf: as for `Uncertainty.query`.
            fit_clf: as for `Uncertainty.query`.
            sample_weight: as for `Uncertainty.query`.
            candidates: as for `Uncertainty.query`, but samples of X with labels are left out.
            batch_size: as for `Uncertainty.query`.
            return_utilities: as for `Uncertainty.query`. It takes time: all distances are computed
                once more.

        Returns:
            Indices in the order of picking, as from `Uncertainty.query`. Utilities are what the
            draws are in proportion to, divided by their sum: squared lengths for the first pick,
            then squared distances. They are all 0 if the candidates that are left equal picks.

        Raises:
            ValueError, TypeError: a bad argument, or bad probabilities; the message names it.
        """
        request = self._request((X, y, candidates, batch_size, return_utilities))
        flags = self._embedding_flags()
        fitted = self._fitted(request, clf, fit_clf, sample_weight)
        found = fitted.predict_proba(request.samples, **flags)
        probabilities, embeddings = found if isinstance(found, tuple) else (found, request.samples)
        probabilities, embeddings = (
            np.asarray(probabilities),
            _matrix(np.asarray(embeddings), "embeddings"),
        )
        with _naming_candidates():
            picks = diversity.badge(
                probabilities, embeddings, request.batch_size, kind="probs", seed=request.seed
            )
        if not return_utilities:
            return request.answer(picks.rows, None)
        return request.answer(picks.rows, _weights(probabilities, embeddings, picks.rows))

    def _embedding_flags(self) -> Mapping[str, Any]:
        """The arguments that ask `predict_proba` for embeddings."""
        name = self.clf_embedding_flag_name
        if name is None:
            return {}
        check_type(name, "clf_embedding_flag_name", dict, str)
        return {name: True} if isinstance(name, str) else dict(name)


class TypiClust(_Strategy):
    """TypiClust: the most typical sample of each of the largest clusters without labels.

    It takes the place of `skactiveml.pool.TypiClust`, with other clusters: fastal clusters the
    candidates by cosine similarity. See `fastal.diversity.typiclust`.

    Args:
        neighbours: how many nearest neighbours count for typicality, at least 1.
        max_clusters: the most clusters, at least 1.
        missing_label: the value in y of a sample without a label.
        random_state: None, an int or a `numpy.random.RandomState`. It seeds the clusters.

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.skactiveml import TypiClust
        >>> X = np.array([[9.0, 1], [1, 9], [9, 2], [1, 8], [9, 3]])
        >>> sorted(TypiClust().query(X, np.full(5, np.nan), batch_size=2).tolist())
        [1, 2]
    """

    def __init__(
        self,
        neighbours: int = 20,
        max_clusters: int = 500,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.neighbours = neighbours
        self.max_clusters = max_clusters

    def query(
        self,
        X: Any,
        y: Any,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Answer:
        """Picks typical candidates of different clusters.

        Args:
            X: as for `Uncertainty.query`.
            y: as for `Uncertainty.query`.
            candidates: as for `Uncertainty.query`, but samples of X with labels are left out.
            batch_size: as for `Uncertainty.query`.
            return_utilities: as for `Uncertainty.query`.

        Returns:
            Indices in the order of picking, as from `Uncertainty.query`. The utility of a pick is
            its typicality. In its row, all other candidates have -inf: their typicalities are not
            kept.

        Raises:
            ValueError, TypeError: a bad argument; the message names it.
        """
        request = self._request((X, y, candidates, batch_size, return_utilities))
        picks = diversity.typiclust(
            _matrix(request.samples), request.batch_size, labelled=_matrix(request.known),
            neighbours=self.neighbours, max_clusters=self.max_clusters, seed=request.seed,
        )  # fmt: skip
        if not return_utilities:
            return request.answer(picks.rows, None)
        utilities = np.full((len(picks), len(request.samples)), -np.inf)
        utilities[np.arange(len(picks)), picks.rows] = picks.scores
        return request.answer(picks.rows, utilities)


def _check_method(method: Any, wanted: tuple[str, ...]) -> None:
    if not isinstance(method, str):
        raise TypeError(f"method: wanted one of {wanted}, got {method!r}")
    if method not in wanted:
        raise ValueError(f"method: wanted one of {wanted}, got {method!r}")


def _predictions(
    members: Iterable[Any], classes: NDArray[Any], views: Iterable[NDArray[Any]]
) -> Any:
    """The probabilities of members that are fitted, as draws.

    Args:
        members: the classifiers.
        classes: the classes of the ensemble.
        views: for each member, the samples with the features that it sees.

    Raises:
        ValueError: a member knows other classes. Their order would be a guess: members inside an
            ensemble may know classes by their values, or by their places among others.
    """
    found = []
    for place, (member, samples) in enumerate(zip(members, views, strict=True)):
        own = member.classes_
        if len(own) != len(classes):
            raise ValueError(
                f"ensemble: member {place} knows the classes {own.tolist()}; wanted members that "
                f"know all of {classes.tolist()}, so give each of them `classes`, or label a "
                "sample of each class first"
            )
        if isinstance(member, SkactivemlClassifier) and not np.array_equal(own, classes):
            raise ValueError(
                f"ensemble: member {place} has the classes {own.tolist()}, others "
                f"{classes.tolist()}; wanted the same classes in all members"
            )
        found.append(np.asarray(member.predict_proba(samples)))
    return fastal.draws(found)


@contextmanager
def _naming_candidates() -> Iterator[None]:
    """Names the candidates, numbered from 0, whose predictions are invalid."""
    try:
        yield
    except fastal.InvalidRows as error:
        raise error.renamed("predict_proba: candidate", error.rows) from error


def _matrix(x: NDArray[Any], name: str = "X") -> NDArray[Any]:
    """The same samples [n, D] in a floating dtype that holds them.

    Raises:
        ValueError: they have another shape.
    """
    if x.ndim != 2:
        raise ValueError(f"{name}: wanted [samples, features], got shape {x.shape}")
    return x.astype(np.result_type(x, np.float32), copy=False)


def _nearest(
    samples: NDArray[Any], known: NDArray[Any], picked: NDArray[np.int64]
) -> Iterator[NDArray[Any]]:
    """Before each pick, the distances of samples to the nearest known or picked one, [n]."""
    nearest = np.zeros(len(samples))
    if len(known):
        _, nearest = pairwise_distances_argmin_min(samples, known)
    yield nearest
    for number, place in enumerate(picked[:-1]):
        _, distance = pairwise_distances_argmin_min(samples, samples[[place]])
        nearest = np.minimum(nearest, distance) if number or len(known) else distance
        yield nearest


def _weights(
    probabilities: NDArray[Any], x: NDArray[Any], picked: NDArray[np.int64]
) -> Iterator[NDArray[Any]]:
    """Before each pick, the squared distances of gradients to the nearest pick, as shares [n].

    The gradient of a sample is a outer x. With a = a' + u and x = x' + v, its difference to that of
    a pick is u outer x + a' outer v. So a sample that equals a pick has distance 0 exactly.
    """
    a, x = probabilities.astype(np.float64), x.astype(np.float64)
    a[np.arange(len(a)), a.argmax(1)] -= 1
    of_x = (x * x).sum(1)
    squares = (a * a).sum(1) * of_x
    yield _shares(squares)
    squares = np.full(len(a), np.inf)
    for place in picked[:-1]:
        u, v = a - a[place], x - x[place]
        apart = (u * u).sum(1) * of_x + (a[place] ** 2).sum() * (v * v).sum(1)
        apart += 2 * (u @ a[place]) * (x * v).sum(1)
        squares = np.minimum(squares, apart.clip(min=0))
        yield _shares(squares)


def _shares(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights divided by their sum; zeros stay zeros."""
    return weights / (weights.sum() or 1.0)
