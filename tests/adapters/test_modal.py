"""The strategies for modAL against that library's own, and against definitions."""

import doctest
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("modAL", reason="modAL is missing; scripts/test-adapters modal has it")

import pandas as pd
from modAL import ActiveLearner, Committee, batch, disagreement, uncertainty
from scipy.sparse import coo_matrix, csr_matrix
from scipy.special import softmax
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastal
from fastal.adapters import modal
from fastal.testing import check_select
from tests.support.adapter_pages import page_code

# teach() of modAL says to scikit-learn what later versions call otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:'force_all_finite' was renamed:FutureWarning")

N = 200
X, TRUTH = make_blobs(N + 30, n_features=3, centers=4, cluster_std=4, random_state=0)
KNOWN, KNOWN_TRUTH, POOL = X[:30], TRUTH[:30], X[30:]

OF_ONE = ["uncertainty_sampling", "margin_sampling", "entropy_sampling"]
OF_MEMBERS = ["consensus_entropy_sampling", "max_disagreement_sampling"]
BY_PREDICTIONS = [*OF_ONE, "ratio_sampling", *OF_MEMBERS, "vote_entropy_sampling", "bald_sampling"]


def learner(strategy=uncertainty.uncertainty_sampling, estimator=None, known=KNOWN, **arguments):
    estimator = estimator or LogisticRegression(C=0.1)
    return ActiveLearner(estimator, strategy, known, KNOWN_TRUTH, **arguments)


def committee(strategy=disagreement.vote_entropy_sampling, *estimators, known=KNOWN):
    estimators = estimators or (LogisticRegression(C=0.1), GaussianNB(), LogisticRegression(C=9))
    return Committee([learner(estimator=e, known=known) for e in estimators], strategy)


def model_for(name):
    """A fitted learner or committee for a strategy."""
    is_of_one = name in (*OF_ONE, "ratio_sampling", "ranked_batch_sampling", "core_set_sampling")
    return (learner if is_of_one else committee)(getattr(modal, name))


class Given:
    """What stands for a learner: the pool is what it predicts."""

    on_transformed = False
    X_training = None

    def predict_proba(self, x):
        return x.mean(1) if not isinstance(x, list) and x.ndim == 3 else x

    def vote_proba(self, x):
        return x


def in_order(found, best_is_least=False):
    rows, metrics = found
    order = np.argsort(metrics if best_is_least else -metrics, kind="stable")
    return rows[order], metrics[order]


@pytest.mark.parametrize("model", [learner(), committee()], ids=["learner", "committee"])
@pytest.mark.parametrize("name", OF_ONE)
def test_picks_and_metrics_are_those_of_modal(name, model):
    for k in (1, 17, N):
        rows, metrics = getattr(modal, name)(model, POOL, k)
        want = in_order(getattr(uncertainty, name)(model, POOL, k), name == "margin_sampling")
        assert rows.tolist() == want[0].tolist()
        np.testing.assert_allclose(metrics, want[1], rtol=1e-12, atol=1e-15)
        assert (rows.dtype, metrics.dtype) == (np.int64, np.float64)


@pytest.mark.parametrize("name", OF_MEMBERS)
def test_picks_and_metrics_of_committees_are_those_of_modal(name):
    model = committee()
    for k in (1, 17, N):
        rows, metrics = getattr(modal, name)(model, POOL, k)
        want = in_order(getattr(disagreement, name)(model, POOL, k))
        assert rows.tolist() == want[0].tolist()
        np.testing.assert_allclose(metrics, want[1], rtol=1e-9, atol=1e-15)


def test_the_ratio_is_that_of_the_two_largest_probabilities():
    model = learner()
    found = {}
    for row, p in enumerate(model.predict_proba(POOL)):
        *_, second, first = sorted(p)
        found[row] = second / first
    rows, metrics = modal.ratio_sampling(model, POOL, 9)
    assert rows.tolist() == sorted(found, key=found.get, reverse=True)[:9]
    np.testing.assert_allclose(metrics, [found[row] for row in rows], rtol=1e-12)


def test_bald_is_the_mean_divergence_of_the_members():
    model = committee()
    found = {}
    for row, members in enumerate(model.vote_proba(POOL)):
        mean = [math.fsum(of_class) / len(members) for of_class in members.T]
        terms = [p * math.log(p / m) for one in members for p, m in zip(one, mean, strict=True)]
        found[row] = math.fsum(terms) / len(members)
    rows, metrics = modal.bald_sampling(model, POOL, 9)
    assert rows.tolist() == sorted(found, key=found.get, reverse=True)[:9]
    np.testing.assert_allclose(metrics, [found[row] for row in rows], rtol=1e-9)
    largest = modal.max_disagreement_sampling(model, POOL, 9)[0]
    assert rows.tolist() != largest.tolist()


def spread(votes):
    return -math.fsum(n / len(votes) * math.log(n / len(votes)) for n in Counter(votes).values())


def test_vote_entropy_has_the_metrics_of_modal_and_ties_go_to_the_first():
    model = committee()
    rows, metrics = modal.vote_entropy_sampling(model, POOL, 60)
    want = in_order(disagreement.vote_entropy_sampling(model, POOL, 60))
    np.testing.assert_allclose(metrics, want[1], rtol=1e-12, atol=1e-15)
    entropies = [round(spread(votes), 12) for votes in model.vote(POOL).tolist()]
    assert 1 < len(set(entropies)) < 4
    assert rows.tolist() == sorted(range(N), key=lambda row: -entropies[row])[:60]


def test_members_may_know_different_classes():
    parts = [KNOWN_TRUTH != 3, KNOWN_TRUTH != 0]
    model = Committee(
        [ActiveLearner(GaussianNB(), X_training=KNOWN[p], y_training=KNOWN_TRUTH[p]) for p in parts]
    )
    for name in OF_MEMBERS:
        rows, metrics = getattr(modal, name)(model, POOL, 17)
        want = in_order(getattr(disagreement, name)(model, POOL, 17))
        np.testing.assert_allclose(metrics, want[1], rtol=1e-6)
        assert len(set(rows)) == 17


def test_votes_may_be_text_and_need_no_probabilities():
    names = np.array(["a", "bb", "ccc", "d"])
    members = [
        ActiveLearner(Perceptron(random_state=s, max_iter=3, tol=None), X_training=KNOWN,
                      y_training=names[KNOWN_TRUTH])
        for s in range(3)
    ]  # fmt: skip
    model = Committee(members, modal.vote_entropy_sampling)
    rows, _, metrics = model.query(POOL, n_instances=11, return_metrics=True)
    votes = zip(*(member.predict(POOL) for member in members), strict=True)
    entropies = [round(spread(of_row), 12) for of_row in votes]
    assert rows.tolist() == sorted(range(N), key=lambda row: -entropies[row])[:11]
    np.testing.assert_allclose(metrics, [entropies[row] for row in rows], atol=1e-12)
    with pytest.raises(ValueError, match="could not convert string"):  # modAL puts votes in floats
        disagreement.vote_entropy_sampling(model, POOL)


def unfitted(name):
    members = [ActiveLearner(LogisticRegression()) for _ in range(2)]
    return members[0] if name in (*OF_ONE, "ratio_sampling") else Committee(members)


@pytest.mark.parametrize("name", BY_PREDICTIONS)
def test_before_the_first_fit_all_rows_tie_with_the_metric_of_modal(name):
    model, strategy = unfitted(name), getattr(modal, name)
    rows, metrics = strategy(model, POOL, 5)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert metrics.tolist() == [float(name == "uncertainty_sampling")] * 5
    own = {**vars(uncertainty), **vars(disagreement)}.get(name)
    # modAL asks for the votes of classes that are not known yet
    if own and name != "vote_entropy_sampling":
        assert own(model, POOL, 5)[1].tolist() == metrics.tolist()
    drawn = set()
    for seed in (0, 0, 1):
        np.random.seed(seed)  # noqa: NPY002 (modAL draws from it too)
        drawn.add(tuple(strategy(model, POOL, 5, random_tie_break=True)[0].tolist()))
    assert len(drawn) == 2


@pytest.mark.parametrize("name", BY_PREDICTIONS)
def test_rows_with_equal_scores_are_picked_at_random_if_asked(name):
    model = model_for(name)
    same = np.repeat(POOL[:1], 50, axis=0)
    strategy = getattr(modal, name)
    assert strategy(model, same, 3)[0].tolist() == [0, 1, 2]
    drawn = {tuple(strategy(model, same, 3, random_tie_break=True)[0].tolist()) for _ in range(9)}
    assert len(drawn) > 5
    if name != "vote_entropy_sampling":
        _, metrics = strategy(model, POOL, N)
        assert strategy(model, POOL, N, random_tie_break=True)[1].tolist() == metrics.tolist()


@pytest.mark.parametrize("name", [*OF_ONE, "ratio_sampling"])
def test_a_single_class_is_certain_and_modal_gives_it_a_margin_of_zero(name):
    model = ActiveLearner(GaussianNB(), X_training=KNOWN, y_training=np.zeros(30))
    assert model.predict_proba(POOL).shape == (N, 1)
    rows, metrics = getattr(modal, name)(model, POOL, 3)
    assert rows.tolist() == [0, 1, 2]
    assert metrics.tolist() == [float(name == "margin_sampling")] * 3
    assert uncertainty.margin_sampling(model, POOL, 3)[1].tolist() == [0, 0, 0]


def test_one_column_of_a_sigmoid_is_refused_where_modal_gives_an_answer():
    p = np.linspace(0.02, 0.98, 9)[:, None]
    assert uncertainty.uncertainty_sampling(Given(), p)[0].tolist() == [0]  # 1 - p is largest
    with pytest.raises(ValueError, match=r"predict_proba: one column that is not all 1"):
        modal.uncertainty_sampling(Given(), p)
    assert modal.uncertainty_sampling(Given(), np.hstack([1 - p, p]))[0].tolist() == [4]


def test_rows_that_are_no_distribution_are_named_where_modal_gives_an_answer():
    p = np.full((5, 2), 0.5)
    p[3] = [4, 3]
    assert np.isfinite(uncertainty.entropy_sampling(Given(), p, 5)[1]).all()
    for name in [*OF_ONE, "ratio_sampling"]:
        with pytest.raises(ValueError, match=r"predict_proba: row 3 has .* a sum other"):
            getattr(modal, name)(Given(), p)
    for name in ["bald_sampling", *OF_MEMBERS]:
        with pytest.raises(ValueError, match=r"predict_proba: row 3 has"):
            getattr(modal, name)(Given(), np.stack([np.full((5, 2), 0.5), p], 1))


def test_modal_picks_a_row_of_nan_first_if_ties_are_random():
    p = np.array([[0.9, 0.1], [np.nan, np.nan], [0.5, 0.5]])
    with np.errstate(invalid="ignore"):
        assert uncertainty.uncertainty_sampling(Given(), p, 1, True)[0].tolist() == [1]
    with pytest.raises(ValueError, match=r"predict_proba: row 1 has NaN") as caught:
        modal.uncertainty_sampling(Given(), p, 1, True)
    assert isinstance(caught.value.__cause__, fastal.InvalidRows)


def test_modal_takes_two_bare_rows_for_a_row_and_its_metric():
    """So every strategy here returns a pair, for any number of rows."""
    bare = learner(lambda model, x: np.array([3, 7]))
    rows, _, metrics = bare.query(POOL, return_metrics=True)
    assert (rows, metrics) == (3, 7)
    for name in [*BY_PREDICTIONS, "ranked_batch_sampling", "core_set_sampling"]:
        rows, picked, metrics = model_for(name).query(POOL, n_instances=2, return_metrics=True)
        assert rows.shape == metrics.shape == (2,)
        assert picked.tolist() == POOL[rows].tolist()


def apart(x, y):
    """Half the cosine distance."""
    return (1 - np.dot(x, y) / math.dist(x, 0 * x) / math.dist(y, 0 * y)) / 2


def ranked(probabilities, pool, known, k):
    """Ranked batches by their definition."""
    picked, worth = [], []
    centres = list(known)
    for _ in range(k):
        alpha = (len(pool) - len(picked)) / (len(pool) + len(known))
        found = {}
        for row, x in enumerate(pool):
            if row not in picked:
                doubt = (1 - max(probabilities[row])) * len(probabilities[row])
                doubt /= len(probabilities[row]) - 1
                distance = min((apart(x, centre) for centre in centres), default=0)
                found[row] = alpha * distance + (1 - alpha) * doubt
        picked.append(max(found, key=found.get))
        worth.append(found[picked[-1]])
        centres.append(pool[picked[-1]])
    return picked, worth


@pytest.mark.full
def test_a_ranked_batch_is_that_of_its_definition():
    model = learner()
    want, worth = ranked(model.predict_proba(POOL), POOL, KNOWN, 12)
    rows, metrics = modal.ranked_batch_sampling(model, POOL, 12)
    assert rows.tolist() == want
    np.testing.assert_allclose(metrics, worth, rtol=1e-5)
    pair = committee(modal.ranked_batch_sampling)
    assert rows.tolist() != modal.ranked_batch_sampling(pair, POOL, 12)[0].tolist()
    want, _ = ranked(pair.predict_proba(POOL), POOL, KNOWN, 12)  # its members share KNOWN
    assert modal.ranked_batch_sampling(pair, POOL, 12)[0].tolist() == want


def test_modal_ranks_for_a_committee_as_if_nothing_were_labelled():
    model = committee()
    assert model.X_training is None
    first, _ = batch.select_cold_start_instance(POOL, "euclidean", None)
    assert batch.uncertainty_batch_sampling(model, POOL, 1)[0].tolist() == [first]
    model.learner_list = [learner(known=np.vstack([POOL[[first]], KNOWN[1:]]))]
    assert batch.uncertainty_batch_sampling(model, POOL, 1)[0].tolist() == [first]  # labelled
    assert modal.ranked_batch_sampling(model, POOL, 1)[0].tolist() != [first]


def test_modal_ranks_the_first_row_of_a_cold_start_twice():
    pool = np.array([[0.0], [0.0], [0.1], [9.0]])
    found, _ = batch.uncertainty_batch_sampling(ActiveLearner(LogisticRegression()), pool, 4)
    assert len(set(found)) < 4
    rows, _ = modal.ranked_batch_sampling(ActiveLearner(LogisticRegression()), pool, 4)
    assert sorted(rows) == [0, 1, 2, 3]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_each_pick_of_a_core_set_is_the_farthest_from_all_before(metric):
    distance = math.dist if metric == "euclidean" else lambda x, y: 2 * apart(x, y)
    centres, want, distances = list(KNOWN), [], []
    for _ in range(9):
        nearest = [min(distance(x, centre) for centre in centres) for x in POOL]
        want.append(int(np.argmax(nearest)))
        distances.append(nearest[want[-1]])
        centres.append(POOL[want[-1]])
    for model in (learner(), committee()):
        rows, metrics = modal.core_set_sampling(model, POOL, 9, metric=metric)
        assert rows.tolist() == want
        np.testing.assert_allclose(metrics, distances, rtol=1e-5)
    assert modal.core_set_sampling(ActiveLearner(LogisticRegression()), POOL)[0].tolist() == [0]


EMBEDDED = ["ranked_batch_sampling", "core_set_sampling"]


@pytest.mark.full
@pytest.mark.parametrize("form", [csr_matrix, coo_matrix, pd.DataFrame, np.ndarray.tolist])
@pytest.mark.parametrize("name", [*BY_PREDICTIONS, *EMBEDDED])
def test_pools_are_sparse_or_frames_or_lists(name, form):
    strategy, of_members = getattr(modal, name), isinstance(model_for(name), Committee)

    def model(known):
        if of_members:
            return committee(strategy, *(LogisticRegression(C=c) for c in (0.01, 1)), known=known)
        return learner(strategy, known=known)

    want, metrics = strategy(model(KNOWN), POOL, 7)
    if form is np.ndarray.tolist and name in (*OF_MEMBERS, "bald_sampling"):
        with pytest.raises(AttributeError, match="shape"):  # in vote_proba of modAL
            model(form(KNOWN)).vote_proba(form(POOL))
        return
    rows, found = strategy(model(form(KNOWN)), form(POOL), 7)
    assert rows.tolist() == want.tolist()
    np.testing.assert_allclose(found, metrics, rtol=1e-5, atol=1e-9)


def test_a_sparse_pool_is_made_dense_in_parts(monkeypatch):
    model = learner()
    want = modal.core_set_sampling(model, POOL, 7)
    monkeypatch.setattr(modal, "_DENSE_ROWS", 13)
    rows, metrics = modal.core_set_sampling(model, csr_matrix(POOL), 7)
    assert rows.tolist() == want[0].tolist()
    np.testing.assert_allclose(metrics, want[1], rtol=1e-6)


@pytest.mark.parametrize("name", EMBEDDED)
def test_rows_may_have_several_axes_or_be_transformed_first(name):
    cubes = SimpleNamespace(
        predict_proba=lambda x: np.full((len(x), 2), 0.5),
        X_training=KNOWN.reshape(30, 3, 1),
        on_transformed=False,
    )
    flat = SimpleNamespace(**{**vars(cubes), "X_training": KNOWN})
    strategy = getattr(modal, name)
    want = strategy(flat, POOL, 5)[0].tolist()
    assert strategy(cubes, POOL.reshape(N, 3, 1), 5)[0].tolist() == want

    scaler = StandardScaler().fit(KNOWN)
    steep = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    model = learner(strategy, steep, on_transformed=True)
    flat = learner(strategy, known=scaler.transform(KNOWN))
    want = strategy(flat, scaler.transform(POOL), 5)[0].tolist()
    assert model.query(POOL, n_instances=5)[0].tolist() == want
    pair = Committee([model, model], strategy, on_transformed=True)
    assert pair.query(POOL, n_instances=5)[0].tolist() == want


def test_frames_lose_their_way_in_modal_itself():
    """Rows are right; what modAL returns with them is not, if its columns have numbers as names."""
    frame = pd.DataFrame(POOL)
    model = learner(modal.margin_sampling)
    close = POOL[model.query(POOL, n_instances=1)[0]]
    first = pd.DataFrame(np.vstack([close, POOL]))  # so that row 0 is picked
    rows, picked = model.query(first)
    assert rows.tolist() == [0]
    assert picked.shape == (N + 1, 1)  # column 0
    of_frame = learner(modal.margin_sampling, known=pd.DataFrame(KNOWN))
    with pytest.raises(AttributeError, match="append"):
        of_frame.teach(frame[:1], TRUTH[:1])


@pytest.mark.full
@pytest.mark.parametrize("name", [*BY_PREDICTIONS, *EMBEDDED])
def test_a_loop_labels_rows_and_learns(name):
    model, pool, truth = model_for(name), POOL.copy(), TRUTH[30:].copy()
    before = model.score(POOL, TRUTH[30:])
    for _ in range(4):
        rows, picked = model.query(pool, n_instances=20)
        model.teach(picked, truth[rows])
        pool, truth = np.delete(pool, rows, axis=0), np.delete(truth, rows)
    assert len(pool) == N - 80
    assert model.score(POOL, TRUTH[30:]) >= before - 0.05


def test_arguments_for_predictions_are_passed_on():
    asked = []

    class Tall(Given):
        def predict_proba(self, x, tall):
            asked.append(tall)
            return x

        def vote_proba(self, x, tall):
            return self.predict_proba(x, tall)[:, None]

        def predict(self, x, tall):
            return self.predict_proba(x, tall)[:, 0]

        def __iter__(self):
            return iter([self, self])

    p = np.array([[0.5, 0.5], [0.1, 0.9]])
    for name in [*BY_PREDICTIONS, "ranked_batch_sampling"]:
        getattr(modal, name)(Tall(), p, n_instances=1, tall=name)
    assert set(asked) == {*BY_PREDICTIONS, "ranked_batch_sampling"}


@pytest.mark.parametrize("name", [*BY_PREDICTIONS, *EMBEDDED])
def test_bad_numbers_of_rows_are_named(name):
    model, strategy = model_for(name), getattr(modal, name)
    for k in (0, -3, N + 1):
        with pytest.raises(ValueError, match=rf"n_instances: wanted 1 to {N}, .* got {k}"):
            strategy(model, POOL, k)
    for k in (1.5, "3", None):
        with pytest.raises(TypeError, match="n_instances: wanted an integer, got"):
            strategy(model, POOL, k)
    with pytest.raises(ValueError, match="n_instances: wanted 1 to 200"):
        model.query(POOL, n_instances=0)


def test_bad_predictions_are_named():
    several = [np.full((4, 2), 0.5), np.full((4, 3), 1 / 3)]
    with pytest.raises(ValueError, match=r"predict_proba: wanted an array .* a list of 2"):
        modal.margin_sampling(Given(), several)
    with pytest.raises(ValueError, match=r"predict_proba: wanted \[rows, classes\], .*\(4,\)"):
        modal.margin_sampling(Given(), np.ones(4))
    forest = RandomForestClassifier(5, random_state=0)
    model = ActiveLearner(
        forest, X_training=KNOWN, y_training=np.stack([KNOWN_TRUTH, KNOWN_TRUTH], 1)
    )
    with pytest.raises(ValueError, match=r"a list of 2"):
        modal.entropy_sampling(model, POOL)
    pair = Committee([learner(), learner()])
    pair.learner_list = [model, model]
    with pytest.raises(ValueError, match=r"predict: wanted a label for each row, got .*\(200, 2\)"):
        modal.vote_entropy_sampling(pair, POOL)


def test_bad_rows_are_named():
    model, spoiled = Given(), POOL.copy()
    spoiled[4, 1] = np.nan
    model.predict_proba = lambda x: np.full((N, 2), 0.5)
    with pytest.raises(ValueError, match=r"^X: row 4 has NaN"):
        modal.core_set_sampling(model, spoiled)
    with pytest.raises(ValueError, match=r"^predict_proba, or X: row 4 \(embeddings\) has NaN"):
        modal.ranked_batch_sampling(model, spoiled, 3)
    known = KNOWN.copy()
    known[[2, 5], 0] = np.nan, np.inf
    model.X_training = known
    pair = committee()
    pair.learner_list[1].X_training = known
    for name in EMBEDDED:
        for spoiled_model in (model, pair):
            with pytest.raises(ValueError, match=r"^X_training: row 2 has NaN"):
                getattr(modal, name)(spoiled_model, POOL, 3)
    model.X_training = None
    for name in EMBEDDED:
        with pytest.raises(ValueError, match=r"X: wanted rows of numbers, got ndarray <U"):
            getattr(modal, name)(model, POOL.astype(str), 3)
    with pytest.raises(ValueError, match="metric"):
        modal.core_set_sampling(learner(), POOL, metric="manhattan")


@pytest.mark.parametrize("name", EMBEDDED)
def test_another_learner_with_predict_proba_is_enough(name):
    given = SimpleNamespace(predict_proba=learner().predict_proba, X_training=KNOWN)
    found = getattr(modal, name)(given, POOL, 5)
    assert found[0].tolist() == getattr(modal, name)(learner(), POOL, 5)[0].tolist()


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ("least_confidence", "uncertainty_sampling"),
        ("margin", "margin_sampling"),
        ("ratio", "ratio_sampling"),
        ("entropy", "entropy_sampling"),
    ],
)
def test_strategies_pass_the_public_checks(by, name):
    def select(pool, k):
        with np.errstate(invalid="ignore"):  # rows that cannot be scored
            probabilities = softmax(pool.astype(np.float64), axis=1)
        return getattr(modal, name)(Given(), probabilities, min(k, len(pool)))[0], None

    check_select(select, by=by, exclude=False)


def test_other_errors_of_a_classifier_pass():
    class Broken(Given):
        def predict_proba(self, x):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        modal.margin_sampling(Broken(), POOL)


def test_nothing_is_written_to_the_pool():
    for name in [*BY_PREDICTIONS, *EMBEDDED]:
        pool = POOL.copy()
        pool.flags.writeable = False
        getattr(modal, name)(model_for(name), pool, 3)


def test_the_examples_of_the_page_run():
    names = {}
    for block in page_code("modal"):
        exec(block, names)
    assert len(page_code("modal")) > 1


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(modal, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted > 40
    assert found.failed == 0
