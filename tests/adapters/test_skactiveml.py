"""The strategies for scikit-activeml against that library's own, and against definitions."""

import doctest
import math
from functools import partial

import numpy as np
import pytest

pytest.importorskip(
    "skactiveml", reason="skactiveml is missing; scripts/test-adapters skactiveml has it"
)

from scipy.stats import entropy
from skactiveml import pool
from skactiveml.base import SkactivemlClassifier
from skactiveml.classifier import ParzenWindowClassifier, SklearnClassifier
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

import fastal
from fastal import diversity
from fastal.adapters import skactiveml
from fastal.adapters.skactiveml import Badge, CoreSet, Disagreement, TypiClust, Uncertainty
from fastal.testing import check_select

N = 60


class Softmax(SkactivemlClassifier):
    """A classifier that is fitted already: its logits are the samples."""

    def fit(self, X, y, sample_weight=None):
        return self

    def predict_proba(self, X, with_embeddings=False):
        powers = np.exp(X - X.max(1, keepdims=True))
        found = powers / powers.sum(1, keepdims=True)
        return (found, 3 * X[:, :2]) if with_embeddings else found


class Member(Softmax):
    """One of an ensemble: it weighs the samples by a factor of each class."""

    def __init__(self, missing_label=np.nan, seed=0, n_classes=4):
        super().__init__(missing_label=missing_label)
        self.seed, self.n_classes = seed, n_classes
        self.classes_ = np.arange(n_classes)

    def predict_proba(self, X):
        factors = np.random.default_rng(self.seed).uniform(0, 2, self.n_classes)
        return super().predict_proba(X * factors)


def ensemble_of(strategy, n_classes=4):
    return [Member(strategy.missing_label, seed, n_classes) for seed in range(5)]


def samples(n=N, width=4, n_labelled=8, seed=0):
    rng = np.random.default_rng(seed)
    y = np.full(n, np.nan)
    y[rng.choice(n, n_labelled, replace=False)] = np.arange(n_labelled) % width
    return rng.standard_normal((n, width)), y


def given(strategy, X, y, **arguments):
    """The arguments of a query: those with a classifier get one that is fitted."""
    if isinstance(strategy, (Uncertainty, Badge, pool.UncertaintySampling, pool.Badge)):
        arguments.update(clf=Softmax(missing_label=strategy.missing_label), fit_clf=False)
    elif isinstance(strategy, (Disagreement, pool.GreedyBALD, pool.QueryByCommittee)):
        ensemble = ensemble_of(strategy, np.asarray(X).shape[1])
        arguments = {"ensemble": ensemble, "fit_ensemble": False} | arguments
    return {"X": X, "y": y, **arguments}


def query(strategy, X, y, **arguments):
    return strategy.query(**given(strategy, X, y, **arguments))


STRATEGIES = [Uncertainty, Disagreement, CoreSet, Badge, TypiClust]
each = pytest.mark.parametrize("kind", STRATEGIES)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize(
    ("ours", "theirs", "scale"),
    [
        ("margin", "margin_sampling", lambda _: 1),
        ("least_confidence", "least_confident", lambda n: n / (n - 1)),
        ("entropy", "entropy", lambda n: 1 / math.log(n)),
    ],
)
def test_uncertainty_has_the_picks_and_the_scaled_utilities_of_uncertainty_sampling(
    n_classes, ours, theirs, scale
):
    X, y = samples(width=n_classes)
    own = pool.UncertaintySampling(theirs)
    for candidates in (None, [0, 5, 7, 8, 9, 20, 31], samples(12, n_classes, seed=3)[0]):
        how = {"candidates": candidates, "batch_size": 7, "return_utilities": True}
        want, want_utilities = query(own, X, y, **how)
        found, utilities = query(Uncertainty(ours), X, y, **how)
        assert found.tolist() == want.tolist()
        np.testing.assert_allclose(utilities, scale(n_classes) * want_utilities, rtol=1e-5)


class Committee(Member):
    """An ensemble that puts out the predictions of all members."""

    def all_of_them(self, X):
        return np.stack([member.predict_proba(X) for member in ensemble_of(self)])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("bald", pool.GreedyBALD),
        ("kl_to_mean", partial(pool.QueryByCommittee, "KL_divergence")),
        ("vote_entropy", partial(pool.QueryByCommittee, "vote_entropy")),
        ("variation_ratio", partial(pool.QueryByCommittee, "variation_ratios")),
    ],
)
def test_disagreement_has_the_utilities_of_the_librarys_committees(ours, theirs):
    X, y = samples()
    sampling = {"sample_predictions_method_name": "all_of_them", "random_state": 0}
    for candidates in (None, [0, 5, 7, 8, 9, 20, 31], samples(12, seed=3)[0]):
        how = {"ensemble": Committee(), "fit_ensemble": False, "candidates": candidates}
        how |= {"batch_size": 5, "return_utilities": True}
        want, of_theirs = theirs(**sampling).query(X, y, **how)
        found, utilities = Disagreement(ours, **sampling).query(X, y, **how)
        np.testing.assert_allclose(utilities[0], of_theirs[0], rtol=1e-5, atol=1e-6)
        if ours in ("bald", "kl_to_mean"):  # votes tie, and each draws among equal ones
            assert found.tolist() == want.tolist()


def test_an_ensemble_may_sample_predictions_or_hold_members():
    X, y = samples()
    want = query(Disagreement(random_state=0), X, y, batch_size=5)
    sampling = Disagreement(sample_predictions_method_name="all_of_them", random_state=0)
    committee = Committee()
    found = sampling.query(X, y, committee, fit_ensemble=False, batch_size=5)
    assert found.tolist() == want.tolist()
    committee.estimators_ = ensemble_of(committee)
    found = Disagreement(random_state=0).query(X, y, committee, fit_ensemble=False, batch_size=5)
    assert found.tolist() == want.tolist()


@pytest.mark.parametrize(
    ("labels", "missing"), [([0.0, 1.0, 2.0], np.nan), (["a", "b", "c"], None)]
)
def test_the_trees_of_a_forest_are_members(labels, missing):
    X, y = samples(200, 3, n_labelled=40)
    known = np.flatnonzero(~np.isnan(y))
    named = np.full(200, missing)
    named[known] = [labels[value] for value in X[known].argmax(1)]
    forest = RandomForestClassifier(9, max_depth=3, random_state=0)
    ensemble = SklearnClassifier(forest, classes=labels, missing_label=missing)
    how = {"X": X, "y": named, "ensemble": ensemble, "batch_size": 8, "return_utilities": True}
    _, of_theirs = pool.GreedyBALD(missing_label=missing).query(**how)
    _, utilities = Disagreement(missing_label=missing).query(**how)
    np.testing.assert_allclose(utilities[0], of_theirs[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", [{"bootstrap_features": True}, {"max_features": 0.5}])
def test_members_are_asked_with_the_features_that_they_see(how):
    X, y = samples(200, 4, n_labelled=40)
    bagging = BaggingClassifier(DecisionTreeClassifier(max_depth=3), 9, random_state=0, **how)
    ensemble = SklearnClassifier(bagging, classes=range(4)).fit(X, y)
    assert any(seen.tolist() != [0, 1, 2, 3] for seen in ensemble.estimators_features_)
    mean = ensemble.predict_proba(X)
    members = [
        tree.predict_proba(X[:, seen])
        for tree, seen in zip(ensemble.estimators_, ensemble.estimators_features_, strict=True)
    ]
    np.testing.assert_allclose(np.mean(members, 0), mean)
    want = entropy(mean, axis=1) - np.mean([entropy(p, axis=1) for p in members], 0)
    _, utilities = Disagreement("bald").query(
        X, y, ensemble, fit_ensemble=False, candidates=np.arange(200), return_utilities=True
    )
    np.testing.assert_allclose(utilities[0], want, rtol=1e-4, atol=1e-5)


def test_members_with_other_classes_are_refused():
    X, y = samples()
    committee = Committee()
    committee.classes_ = np.array([1, 2, 3, 4])
    committee.estimators_ = [Member(n_classes=4), Member(n_classes=2)]  # of places 0 and 1
    with pytest.raises(ValueError, match=r"^ensemble: member 0 has the classes \[0, 1, 2, 3\]"):
        Disagreement().query(X, y, committee, fit_ensemble=False)
    committee.classes_ = np.arange(4)
    with pytest.raises(ValueError, match=r"^ensemble: member 1 knows the classes \[0, 1\]; wanted"):
        Disagreement().query(X, y, committee, fit_ensemble=False)


def test_bad_ensembles_are_named():
    X, y = samples()
    sampling = {"sample_predictions_method_name": "all_of_them"}
    for ensemble, options, error, message in [
        ([], {}, ValueError, "ensemble: wanted at least one classifier, got none"),
        ("forest", {}, TypeError, "`ensemble`"),
        (["tree"], {}, TypeError, "`ensemble`"),
        (
            Member(),
            {},
            TypeError,
            "ensemble: wanted a list of classifiers, or one with estimators_",
        ),
        ([Member()], sampling, ValueError, "sample_predictions_method_name: wanted None, since"),
        (Member(), sampling, ValueError, "Member has no method 'all_of_them'"),
        (Member(), {"sample_predictions_dict": {}}, ValueError, "sample_predictions_dict: wanted"),
    ]:
        with pytest.raises(error, match=message):
            Disagreement(**options).query(X, y, ensemble, fit_ensemble=False)
    with pytest.raises(TypeError, match="`fit_ensemble`"):
        Disagreement().query(X, y, ensemble_of(Disagreement()), "yes")
    with pytest.raises(ValueError, match=r"^method: wanted one of .*'bald'"):
        query(Disagreement("margin"), X, y)


def test_the_ratio_is_that_of_the_two_largest_probabilities():
    X, y = samples()
    unlabelled = [row for row in range(N) if math.isnan(y[row])]
    logits = {row: sorted(X[row], reverse=True) for row in unlabelled}
    ratio = {row: math.exp(second - first) for row, (first, second, *_) in logits.items()}
    found, utilities = query(Uncertainty("ratio"), X, y, batch_size=9, return_utilities=True)
    assert found.tolist() == sorted(unlabelled, key=ratio.get, reverse=True)[:9]
    np.testing.assert_allclose(utilities[0, unlabelled], list(ratio.values()), rtol=1e-5)


class Table(Softmax):
    """Softmax of the rows of a table that the samples number."""

    table = None

    def predict_proba(self, X):
        with np.errstate(invalid="ignore"):  # rows that cannot be scored
            return super().predict_proba(self.table[X[:, 0].astype(int)])


@pytest.mark.parametrize("method", fastal.Scores._fields)
def test_uncertainty_passes_the_public_checks(method):
    def select(pool, k, exclude=()):
        y = np.full(len(pool), np.nan)
        y[list(exclude)] = 0
        model = Table()
        model.table = pool
        rows, utilities = Uncertainty(method, random_state=0).query(
            np.arange(float(len(pool)))[:, None], y, model, fit_clf=False,
            batch_size=min(k, len(pool) - len(exclude)), return_utilities=True,
        )  # fmt: skip
        return rows, utilities[np.arange(len(rows)), rows]

    check_select(select, by=method, ties="any")


def test_equal_scores_are_broken_at_random():
    X, y = np.zeros((N, 3)), np.full(N, np.nan)
    drawn = {tuple(query(Uncertainty(random_state=s), X, y, batch_size=3)) for s in range(5)}
    assert len(drawn) == 5


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_core_set_has_the_picks_and_the_utilities_of_the_librarys_own(dtype):
    X, y = samples(seed=1)
    X = (1000 * X).astype(dtype)
    for candidates in (None, np.arange(30), (1000 * samples(12, seed=3)[0]).astype(dtype)):
        how = {"candidates": candidates, "batch_size": 9, "return_utilities": True}
        want, want_utilities = pool.CoreSet().query(X, y, **how)
        found, utilities = CoreSet().query(X, y, **how)
        assert found.tolist() == want.tolist()
        np.testing.assert_allclose(utilities, want_utilities, rtol=1e-5)


def test_without_labels_core_set_draws_the_first_pick():
    X, _ = samples(seed=2)
    y = np.full(N, np.nan)
    firsts = set()
    for seed in range(4):
        found, utilities = CoreSet(random_state=seed).query(
            X, y, batch_size=5, return_utilities=True
        )
        for place, row in enumerate(found):
            apart = [min((math.dist(x, X[p]) for p in found[:place]), default=0.0) for x in X]
            assert place == 0 or row == np.argmax(apart)
            np.testing.assert_allclose(np.nan_to_num(utilities[place]), apart, atol=1e-6)
        firsts.add(found[0])
    assert len(firsts) > 1


def gradients(probabilities, x):
    """The gradient of the loss of each sample, multiplied out, if its prediction were right."""
    found = []
    for p, row in zip(probabilities, x, strict=True):
        a = [value - (place == np.argmax(p)) for place, value in enumerate(p)]
        found.append([left * right for left in a for right in row])
    return np.array(found)


def shares(g, picked):
    """What k-means++ draws the next pick by; the squared lengths before the first."""
    centres = [g[row] for row in picked] or [0 * g[0]]
    squares = [min(math.dist(one, centre) ** 2 for centre in centres) for one in g]
    return np.array(squares) / math.fsum(squares)


@pytest.mark.parametrize("flag", [None, "with_embeddings", {"with_embeddings": True}])
def test_utilities_of_badge_are_the_probabilities_of_k_means_plus_plus(flag):
    X, y = samples(seed=4)
    places = np.flatnonzero(np.isnan(y))
    embeddings = X if flag is None else 3 * X[:, :2]
    g = gradients(Softmax().predict_proba(X), embeddings)[places]
    found, utilities = query(Badge(flag, random_state=0), X, y, batch_size=6, return_utilities=True)
    assert found[0] == places[np.argmax(shares(g, []))]
    for place, of_pick in enumerate(utilities):
        want = shares(g, np.searchsorted(places, found[:place]))
        np.testing.assert_allclose(np.nan_to_num(of_pick[places]), want, rtol=1e-9, atol=1e-12)
    assert np.isnan(utilities[:, ~np.isnan(y)]).all()


@pytest.mark.full
def test_badge_draws_samples_without_a_gradient_as_k_means_plus_plus_and_the_library_never():
    """The library takes the smaller of the squared distance and the squared length."""
    X = np.array([[3.0, 2.5], [0.0, 0.0], [-1.0, -0.5], [3.2, 2.4]])
    y = np.full(4, np.nan)
    want = shares(gradients(Softmax().predict_proba(X), X), [0])
    how = {"batch_size": 2, "return_utilities": True}
    own, own_utilities = query(pool.Badge(random_state=0), X, y, **how)
    found, utilities = query(Badge(random_state=0), X, y, **how)
    assert own[0] == found[0] == 0
    np.testing.assert_allclose(np.nan_to_num(utilities[1]), want, atol=1e-12)
    assert own_utilities[1, 1] == 0 < 0.1 < want[1]

    n = 400
    seconds = [query(Badge(random_state=s), X, y, batch_size=2)[1] for s in range(n)]
    counts = np.bincount(seconds, minlength=4)
    deviations = np.sqrt(n * want * (1 - want))
    assert (abs(counts - n * want) <= 4 * deviations).all()
    assert abs(counts[1] - n * own_utilities[1, 1]) > 4 * deviations[1]


def test_badge_gives_samples_that_equal_picks_no_share():
    X = np.repeat([[3.0, 1.0], [1.0, 3.0]], 5, axis=0)
    found, utilities = query(
        Badge(random_state=0), X, np.full(10, np.nan), batch_size=4, return_utilities=True
    )
    assert {row // 5 for row in found[:2]} == {0, 1}
    assert len(set(found)) == 4
    assert (np.nan_to_num(utilities[2:]) == 0).all()


def test_typiclust_is_that_of_fastal_over_the_unlabelled_samples():
    X, y = samples(seed=5)
    places, known = np.flatnonzero(np.isnan(y)), ~np.isnan(y)
    found, utilities = TypiClust(neighbours=3, random_state=0).query(
        X, y, batch_size=5, return_utilities=True
    )
    assert np.isnan(y[found]).all()
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    for place, row in enumerate(found):
        assert np.isfinite(utilities[place, row])
        assert np.nanmax(utilities[place]) == utilities[place, row] >= 0.5
        nearest = min(math.dist(units[row], units[other]) for other in places if other != row)
        assert utilities[place, row] <= 1 / nearest * (1 + 1e-5)
    assert (np.isneginf(utilities[0]) == (np.isnan(y) & (np.arange(N) != found[0]))).all()
    assert np.isnan(utilities[:, known]).all()
    one = TypiClust(max_clusters=1, random_state=0).query(X, y, batch_size=5)
    want = diversity.typiclust(X[places], 5, labelled=X[known], max_clusters=1)
    assert one.tolist() == places[want.rows].tolist()


@each
def test_candidates_may_be_none_or_indices_or_samples(kind):
    X, y = samples()
    places = np.flatnonzero(np.isnan(y))
    how = {"batch_size": 4, "return_utilities": True}
    found, utilities = query(kind(random_state=0), X, y, **how)
    by_index = query(kind(random_state=0), X, y, candidates=places[::-1], **how)
    by_sample = query(kind(random_state=0), X, y, candidates=X[places], **how)
    assert found.tolist() == by_index[0].tolist() == places[by_sample[0]].tolist()
    np.testing.assert_array_equal(utilities, by_index[1])
    np.testing.assert_array_equal(utilities[:, places], by_sample[1])
    assert (np.isnan(utilities).sum(1) == 8 + np.arange(4)).all()
    assert utilities.shape == (4, N)
    assert utilities.dtype == np.float64
    few = places[3:7]
    assert sorted(query(kind(), X, y, candidates=few, batch_size=4)) == few.tolist()


@each
def test_labelled_candidates_are_left_out_except_where_predictions_score_them(kind):
    X, y = samples()
    places = [*np.flatnonzero(~np.isnan(y)), *np.flatnonzero(np.isnan(y))[:3]]
    if kind in (Uncertainty, Disagreement):
        assert len(query(kind(), X, y, candidates=places, batch_size=11)) == 11
        return
    with pytest.warns(UserWarning, match="batch_size: wanted 4 candidates .* there are 3"):
        found = query(kind(), X, y, candidates=places, batch_size=4)
    assert sorted(found) == places[8:]


@each
@pytest.mark.parametrize(
    ("missing", "labels", "dtype"),
    [(np.nan, [0.0, 1.0], float), (-1, [0, 1], int), (None, ["a", "b"], object), ("", "ab", str)],
)
def test_labels_are_missing_as_the_library_says(kind, missing, labels, dtype):
    X, _ = samples()
    y = np.full(N, missing, dtype=dtype if dtype is not str else "<U1")
    y[[4, 9]] = list(labels)
    strategy = kind(missing_label=missing, random_state=0)
    found = query(strategy, X, y, batch_size=N - 2)
    assert sorted({*range(N)} - {*found}) == [4, 9]


@each
def test_the_same_random_state_gives_the_same_picks_and_nothing_is_changed(kind):
    X, y = samples()
    before = X.copy(), y.copy()
    for array in (X, y):
        array.flags.writeable = False
    for state in (3, np.random.RandomState(3)):
        strategy = clone(kind(random_state=state))
        first = query(strategy, X, y, batch_size=5)
        assert query(strategy, X, y, batch_size=5).tolist() == first.tolist()
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


@each
def test_parameters_are_kept_as_they_are_given(kind):
    values = {name: object() for name in kind().get_params()}
    assert kind(**values).get_params() == values
    assert {"missing_label", "random_state"} <= values.keys()


@pytest.mark.parametrize("kind", [Uncertainty, Badge])
def test_a_copy_of_the_classifier_is_fitted_with_the_weights(kind):
    X, y = samples(width=2)
    y[~np.isnan(y)] %= 2
    model, weights = ParzenWindowClassifier(classes=[0, 1]), np.linspace(0.1, 9, N)
    fitted = clone(model).fit(X, y, weights)
    want = kind(random_state=0).query(X, y, fitted, fit_clf=False, batch_size=6)
    found = kind(random_state=0).query(X, y, model, sample_weight=weights, batch_size=6)
    assert found.tolist() == want.tolist()
    assert not hasattr(model, "classes_")


@each
def test_a_larger_batch_than_there_are_candidates_takes_all_with_a_warning(kind):
    X, y = samples()
    with pytest.warns(UserWarning, match=f"'batch_size={N}' is larger"):
        found = query(kind(), X, y, batch_size=N)
    assert sorted(found) == np.flatnonzero(np.isnan(y)).tolist()


@each
def test_the_librarys_wrapper_takes_them(kind):
    X, y = samples()
    wrapper = pool.SubSamplingWrapper(kind(random_state=0), max_candidates=20, random_state=0)
    arguments = given(kind(), X, y, batch_size=3, return_utilities=True)
    found, utilities = wrapper.query(**arguments)
    assert len(set(found)) == 3
    assert np.isnan(y[found]).all()
    assert np.isfinite(utilities[0]).sum() == (1 if kind is TypiClust else 20)


@each
def test_bad_arguments_are_named(kind):
    X, y = samples()
    for arguments, error, message in [
        ({"candidates": [-1, 3]}, ValueError, "candidates: wanted indices from 0, got -1"),
        ({"candidates": [N]}, ValueError, "must be less than"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 1.5}, TypeError, "batch_size"),
        ({"return_utilities": "yes"}, TypeError, "return_utilities"),
    ]:
        with pytest.raises(error, match=message):
            query(kind(), X, y, **arguments)
    with pytest.raises(ValueError, match="state"):
        query(kind(random_state="state"), X, y)
    with (
        pytest.warns(UserWarning, match="batch_size"),
        pytest.raises(ValueError, match="candidates: wanted at least one sample without a label"),
    ):
        query(kind(), X, np.zeros(N))


@pytest.mark.parametrize("kind", [Uncertainty, Badge])
def test_a_bad_classifier_is_named(kind):
    X, y = samples()
    for clf, fit_clf, message in [
        ("forest", True, "`clf`"),
        (Softmax(), "yes", "`fit_clf`"),
        (Softmax(missing_label=-1), True, "missing_label"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            kind().query(X, y, clf, fit_clf)


class Wrong(Softmax):
    def predict_proba(self, X):
        return np.where(np.arange(len(X))[:, None] == 2, 0.8, super().predict_proba(X))


@pytest.mark.parametrize("kind", [Uncertainty, Badge])
def test_bad_probabilities_are_named_by_the_candidate(kind):
    X, y = samples()
    with pytest.raises(ValueError, match=r"^predict_proba: candidate 2 has") as caught:
        kind().query(X, y, Wrong(), fit_clf=False)
    assert isinstance(caught.value.__cause__, fastal.InvalidRows)


def test_other_parameters_are_checked():
    X, y = samples()
    for method, error in [("margin_sampling", ValueError), (1, TypeError)]:
        with pytest.raises(error, match=r"method: wanted one of .*'margin'"):
            query(Uncertainty(method), X, y)
    with pytest.raises(TypeError, match="clf_embedding_flag_name"):
        query(Badge(clf_embedding_flag_name=3), X, y)
    for kind in (CoreSet, TypiClust):
        with pytest.raises(ValueError, match=r"X: wanted \[samples, features\], got shape \(52, 2"):
            kind().query(X.reshape(N, 2, 2), y)
    with pytest.raises(ValueError, match="neighbours"):
        TypiClust(neighbours=0).query(X, y)
    with pytest.raises(ValueError, match="max_clusters"):
        TypiClust(max_clusters=0).query(X, y)


@each
def test_utilities_are_built_only_if_they_are_asked_for(kind, monkeypatch):
    asked, answer = [], skactiveml._Request.answer

    def recorded(request, picked, utilities):
        asked.append(utilities is not None)
        return answer(request, picked, utilities)

    monkeypatch.setattr(skactiveml._Request, "answer", recorded)
    query(kind(), *samples())
    query(kind(), *samples(), return_utilities=True)
    assert asked == [False, True]


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(skactiveml, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0
