"""The strategies for small-text against that library's own, in its learner."""

import doctest

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from tests.support.adapter_pages import page_code

small_text = pytest.importorskip(
    "small_text", reason="small_text is missing; scripts/test-adapters small_text has it"
)

import dill  # noqa: E402
from small_text import (  # noqa: E402
    BALD,
    BreakingTies,
    Classifier,
    EmptyPoolException,
    GreedyCoreset,
    LeastConfidence,
    PoolBasedActiveLearner,
    PoolExhaustedException,
    PredictionEntropy,
    SklearnDataset,
    SubsamplingQueryStrategy,
    greedy_coreset,
)

import fastal  # noqa: E402
from fastal import diversity  # noqa: E402
from fastal.adapters import small_text as adapter  # noqa: E402
from fastal.adapters.small_text import CoreSet, Uncertainty  # noqa: E402
from fastal.testing import check_select  # noqa: E402

N, C, D, DRAWS = 80, 5, 6, 9
LABELLED, IGNORED = np.arange(0, 20, 2), np.array([1, 33])
UNLABELLED = np.setdiff1d(np.arange(N), [*LABELLED, *IGNORED])
PICKS = 7

# Its data sets call a function of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The function get_flattened_unique_labels:DeprecationWarning:small_text"
)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Known(Classifier):
    """A classifier whose logits are the samples, and that counts the samples that it reads.

    Embeddings are the samples; draws are the logits with a noise that they themselves seed.
    """

    def __init__(self, several_labels=False):
        self.several_labels = several_labels
        self.n_read = 0

    def fit(self, train_set, validation_set=None):
        return self

    def predict(self, dataset):
        raise NotImplementedError

    def predict_proba(self, dataset, dropout_sampling=1):
        self.n_read += len(dataset)
        if self.several_labels:
            return 1 / (1 + np.exp(-dataset.x))
        if dropout_sampling == 1:
            return softmax(dataset.x)
        waves = np.cos(np.arange(1, dropout_sampling + 1)[:, None] * 7 * dataset.x[:, None])
        return softmax(dataset.x[:, None] + 3 * waves)

    def embed(self, dataset, scale=1.0, pbar=None):
        self.n_read += len(dataset)
        return scale * dataset.x


class Factory:
    """Makes the one classifier that it has."""

    def __init__(self, classifier):
        self.classifier = classifier

    def new(self):
        return self.classifier


def samples(width=C, seed=0):
    return 2 * np.random.default_rng(seed).standard_normal((N, width))


def data(x):
    return SklearnDataset(x, np.arange(N) % 3, target_labels=np.arange(3))


def learner(strategy, x, several_labels=False):
    """A learner, and its classifier."""
    classifier = Known(several_labels)
    found = PoolBasedActiveLearner(Factory(classifier), strategy, data(x))
    y = LABELLED % 3
    if several_labels:
        y = csr_matrix(np.eye(C, dtype=int)[y])
    if hasattr(found, "initialize_data"):
        found.initialize_data(LABELLED, y, retrain=False)
    else:  # 2.0
        found.initialize(LABELLED, retrain=False)
        found.y = y
    found.indices_ignored = IGNORED
    found._clf = classifier
    return found, classifier


def query(strategy, x=None, n=PICKS, **options):
    return learner(strategy, samples() if x is None else x)[0].query(n, **options).tolist()


PAIRS = [
    ("margin", BreakingTies, 1),
    ("least_confidence", LeastConfidence, 1),
    ("entropy", PredictionEntropy, -1),
]


@pytest.mark.parametrize(("by", "own", "sign"), PAIRS)
@pytest.mark.parametrize("n", [1, PICKS, len(UNLABELLED)])
def test_uncertainty_has_the_picks_of_the_librarys_own_in_their_order(by, own, sign, n):
    own = own()
    want = query(own, n=n)
    confidence = sign * own.scores_  # of all samples
    want.sort(key=lambda row: confidence[row])
    assert query(Uncertainty(by), n=n) == want


def test_the_ratio_is_that_of_the_two_largest_probabilities():
    p = np.sort(softmax(samples()))
    ratio = p[:, -2] / p[:, -1]
    want = sorted(UNLABELLED.tolist(), key=lambda row: -ratio[row])[:PICKS]
    assert query(Uncertainty("ratio")) == want


@pytest.mark.parametrize(("by", "own", "sign"), PAIRS)
def test_only_unlabelled_samples_are_predicted(by, own, sign):
    for strategy, want in ((own(), N), (Uncertainty(by), len(UNLABELLED))):
        active, classifier = learner(strategy, samples())
        active.query(PICKS)
        assert classifier.n_read == want


@pytest.mark.parametrize("kind", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_representation_is_scored_without_the_classifier(kind, is_mapped, tmp_path):
    logits = samples()
    p = softmax(logits)
    given = {"logits": logits, "log_probs": np.log(p), "probs": p}[kind]
    if is_mapped:
        np.save(tmp_path / "x.npy", given)
        given = np.load(tmp_path / "x.npy", mmap_mode="r")
    active, classifier = learner(Uncertainty(kind=kind), logits)
    assert active.query(PICKS, representation=given).tolist() == query(Uncertainty())
    assert classifier.n_read == 0
    own, classifier = learner(BreakingTies(), logits)
    with pytest.raises(AttributeError, match="'x'"):  # it gives the array to the classifier
        own.query(PICKS, representation=given)


@pytest.mark.parametrize("strategy", [Uncertainty, CoreSet])
def test_a_representation_may_be_a_tensor(strategy):
    active, _ = learner(strategy(), samples())
    found = active.query(PICKS, representation=torch.from_numpy(samples()))
    assert type(found) is np.ndarray
    assert found.dtype == np.int64
    assert found.tolist() == query(strategy(), representation=samples())


def test_bald_has_the_picks_of_the_librarys_own():
    strategy = Uncertainty("bald", dropout_samples=DRAWS)
    active, classifier = learner(strategy, samples())
    found = active.query(PICKS).tolist()
    assert sorted(found) == sorted(query(BALD(DRAWS)))
    assert classifier.n_read == len(UNLABELLED)
    draws = Known().predict_proba(data(samples()), dropout_sampling=DRAWS)
    given = Uncertainty("bald", dropout_samples=DRAWS, kind="probs")
    assert query(given, representation=draws) == found
    mean = Uncertainty("margin", kind="probs")
    assert query(Uncertainty("margin", dropout_samples=DRAWS)) == query(
        mean, representation=draws.mean(1)
    )


@pytest.mark.parametrize("aggregate", ["mean", "max", "sum"])
def test_samples_with_several_labels_are_scored_label_by_label(aggregate):
    x = samples()
    active, _ = learner(Uncertainty("least_confidence", aggregate=aggregate), x, True)
    p = 1 / (1 + np.exp(-x))
    scores = getattr(2 * np.minimum(p, 1 - p), aggregate)(1)
    want = sorted(UNLABELLED.tolist(), key=lambda row: -scores[row])[:PICKS]
    assert active.query(PICKS).tolist() == want
    given = Uncertainty("least_confidence", kind="multilabel_logits", aggregate=aggregate)
    active, _ = learner(given, x, True)
    assert active.query(PICKS, representation=x).tolist() == want
    active, _ = learner(Uncertainty(), x, True)
    with pytest.raises(ValueError, match="aggregate: wanted 'mean' or another for samples with"):
        active.query(PICKS)
    with pytest.raises(ValueError, match="aggregate: wanted None for samples with one label"):
        query(Uncertainty(aggregate="mean"))


def test_equal_scores_give_the_lowest_index_or_draw():
    x = np.zeros((N, C))
    assert query(Uncertainty(), x) == UNLABELLED[:PICKS].tolist()
    drawn = {tuple(query(Uncertainty(ties="random", seed=seed), x)) for seed in range(5)}
    assert len(drawn) == 5
    strategy = Uncertainty(ties="random")
    active, _ = learner(strategy, x)
    assert active.query(PICKS).tolist() != active.query(PICKS).tolist()


def test_noise_draws_anew_in_each_query_and_repeats_with_the_seed():
    first, again = ([query(s) for _ in range(4)] for s in (noisy(), noisy()))
    assert first == again
    assert len({tuple(rows) for rows in first}) == 4
    assert first != [query(noisy(seed=1)) for _ in range(4)]


def noisy(**options):
    return Uncertainty(noise="power", **options)


def test_a_loop_labels_other_samples_in_each_round():
    active, _ = learner(Uncertainty(), samples())
    seen = []
    for _ in range(5):
        rows = active.query(10)
        active.update(rows % 3)
        seen += rows.tolist()
    assert len(set(seen)) == 50
    assert {*seen} <= {*UNLABELLED.tolist()}


@pytest.mark.parametrize("strategy", [Uncertainty, CoreSet])
def test_the_librarys_subsampling_takes_them(strategy):
    found = query(SubsamplingQueryStrategy(strategy(), subsample_size=30))
    assert len(set(found)) == PICKS
    assert {*found} <= {*UNLABELLED.tolist()}
    found = query(SubsamplingQueryStrategy(strategy(), subsample_size=30), representation=samples())
    assert {*found} <= {*UNLABELLED.tolist()}


@pytest.mark.parametrize("strategy", [Uncertainty(ties="random"), CoreSet()])
def test_a_learner_with_them_can_be_saved(strategy):
    active, _ = learner(strategy, samples())
    loaded = dill.loads(dill.dumps(active))
    assert loaded.query(PICKS).tolist() == active.query(PICKS).tolist()


@pytest.mark.filterwarnings("ignore:Default distance metric has changed")
@pytest.mark.parametrize(
    ("metric", "own"),
    [
        ("cosine", {"normalize": True}),
        ("euclidean", {"normalize": False}),
    ],
)
def test_core_set_has_the_picks_of_the_librarys_own(metric, own):
    x = samples(D)
    want = query(GreedyCoreset("euclidean", **own), x)
    assert query(CoreSet(metric), x) == want
    assert query(CoreSet(metric), x, representation=x) == want
    assert query(CoreSet(metric), x, representation=x.astype(np.float32)) == want


def test_core_set_embeds_neither_ignored_samples_nor_a_representation():
    x = samples(D)
    active, classifier = learner(CoreSet(), x)
    active.query(PICKS)
    assert classifier.n_read == len(UNLABELLED) + len(LABELLED)
    active, classifier = learner(CoreSet(), x)
    active.query(PICKS, representation=x)
    assert classifier.n_read == 0


def test_arguments_of_embed_are_passed_on():
    x = samples(D)
    far = query(CoreSet("euclidean"), x, query_strategy_kwargs={"embed_kwargs": {"scale": 0.0}})
    assert far == UNLABELLED[:PICKS].tolist()


def test_core_set_needs_no_labelled_samples():
    x = samples(D)
    found = CoreSet("euclidean").query(Known(), data(x), UNLABELLED, np.array([], int), None, n=4)
    assert found.tolist() == UNLABELLED[diversity.k_center(
        x[UNLABELLED], 4, metric="euclidean"
    ).rows].tolist()  # fmt: skip
    assert found.tolist() == CoreSet("euclidean").query(
        None, x, UNLABELLED, np.array([], int), None, n=4
    ).tolist()  # fmt: skip


def duplicates():
    """Ten samples that are labelled, ten near copies of them, and ten that are new."""
    rng = np.random.default_rng(0)
    known = rng.standard_normal((10, D)).astype(np.float32)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    new = rng.standard_normal((10, D)).astype(np.float32)
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    return np.concatenate([known, new, known])


@pytest.mark.filterwarnings("ignore:invalid value encountered in arccos:RuntimeWarning:small_text")
def test_the_cosine_core_set_of_small_text_picks_duplicates_first():
    """The similarity of a float32 row to itself may be above 1, where arccos is NaN."""
    x, n_nan = duplicates(), 0
    with np.errstate(invalid="ignore"):
        n_nan = np.isnan(np.arccos(x @ x.T).min(1)[20:]).sum()
    assert n_nan > 0
    unlabelled, labelled = np.arange(20), np.arange(20, 30)
    own = greedy_coreset(x, unlabelled, labelled, n_nan, normalized=True)
    assert {*own} <= {*range(10)}
    found = CoreSet().query(None, x, unlabelled, labelled, None, n=10)
    assert {*found} == {*range(10, 20)}


@pytest.mark.filterwarnings("ignore:Default distance metric has changed")
def test_embeddings_that_small_text_is_given_are_read_in_another_order_than_the_data():
    """It takes the first of them for the unlabelled samples, and the last for the labelled ones."""
    x = samples(D)
    own = GreedyCoreset("euclidean", normalize=False)
    right, given = query(own, x), {"embeddings": x}
    assert query(own, x, query_strategy_kwargs=given) != right
    in_its_order = {"embeddings": x[[*UNLABELLED, *LABELLED]]}
    assert query(own, x, query_strategy_kwargs=in_its_order) == right
    assert query(CoreSet("euclidean"), x, representation=x) == right


@pytest.mark.skipif(not hasattr(small_text.query_strategies.base, "argselect"), reason="since 2.0")
def test_argselect_of_small_text_breaks_no_ties_among_the_largest():
    from small_text.query_strategies.base import argselect

    values = np.ones(100)
    drawn = {tuple(sorted(argselect(values, 3))) for _ in range(20)}
    assert len(drawn) == 1
    assert len({tuple(sorted(argselect(values, 3, maximum=False))) for _ in range(20)}) > 1


def broken():
    x = samples()
    x[[40, 41, LABELLED[3]]] = np.nan
    return x


@pytest.mark.parametrize("strategy", [Uncertainty, CoreSet])
def test_invalid_samples_are_named_by_their_index(strategy):
    x = broken()
    if strategy is CoreSet:
        named = f"sample {LABELLED[3]} has NaN or an infinite value"
        for values in (x, torch.from_numpy(x)):
            with pytest.raises(ValueError, match=f"^representation: {named}"):
                query(strategy(), representation=values)
        with pytest.raises(ValueError, match=f"^embed: {named}"):
            query(strategy(), x)
        x[LABELLED[3]] = 1
    with pytest.raises(ValueError, match=r"^representation: sample 40 has NaN.* 40, 41$") as caught:
        query(strategy(), representation=x)
    assert isinstance(caught.value.__cause__, fastal.InvalidRows)
    with pytest.raises(ValueError, match=r"^(predict_proba|embed): sample 40 has NaN.* 40, 41$"):
        query(strategy(), x)
    x = samples()
    x[IGNORED] = np.nan
    assert len(query(strategy(), representation=x)) == PICKS


@pytest.mark.parametrize("by", fastal.Scores._fields)
@pytest.mark.parametrize("kind", ["representation", "predictions"])
def test_uncertainty_passes_the_public_checks(by, kind):
    def select(pool, k, exclude=()):
        unlabelled = np.setdiff1d(np.arange(len(pool)), exclude)
        dataset = pool
        if kind == "predictions":
            dataset = SklearnDataset(
                pool.astype(np.float64), np.zeros(len(pool), int), target_labels=np.arange(1)
            )
        with np.errstate(invalid="ignore"):  # rows that cannot be scored
            rows = Uncertainty(by).query(
                Known(), dataset, unlabelled, np.asarray(exclude), np.zeros(1),
                min(k, len(unlabelled)),
            )  # fmt: skip
        return rows, None

    check_select(select, by=by)


def test_probabilities_that_are_none_are_named():
    with pytest.raises(ValueError, match=r"representation: .*as logits have"):
        query(Uncertainty(kind="probs"), representation=samples())


@pytest.mark.parametrize("strategy", [Uncertainty, CoreSet])
def test_pools_without_enough_samples_are_refused_as_by_the_library(strategy):
    x = samples()
    with pytest.raises(PoolExhaustedException):
        query(strategy(), n=len(UNLABELLED) + 1)
    with pytest.raises(EmptyPoolException):
        strategy().query(Known(), data(x), np.array([], int), LABELLED, LABELLED % 3)
    with pytest.raises(ValueError, match="n: wanted at least 1, got 0"):
        query(strategy(), n=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "confidence"}, "by: wanted one of bald, .*, got 'confidence'"),
        ({"by": "bald"}, "dropout_samples: wanted a number of draws, for by='bald'"),
        ({"dropout_samples": 0}, "dropout_samples: wanted an int from 1, or None, got 0"),
        ({"dropout_samples": 3, "aggregate": "max"}, "aggregate: wanted None with dropout"),
        ({"kind": "scores"}, "kind: wanted one of logits"),
        ({"kind": "multilabel_probs"}, "aggregate: wanted mean"),
        ({"noise": "gibbs"}, "noise: wanted one of power"),
        ({"beta": 0}, "beta: wanted a finite number above 0"),
        ({"seed": -1}, "seed: wanted 0 to"),
        ({"ties": "last"}, "ties: wanted one of first, random"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Uncertainty(**arguments)


def test_a_bad_metric_and_a_classifier_without_embeddings_are_named():
    with pytest.raises(ValueError, match="metric: wanted one of cosine, euclidean, got 'l1'"):
        CoreSet("l1")
    with pytest.raises(TypeError, match="clf: wanted a classifier with embed, got object"):
        CoreSet().query(object(), data(samples()), UNLABELLED, LABELLED, None)


def test_they_print_their_arguments():
    assert str(Uncertainty("ratio")) == "Uncertainty(by='ratio')"
    assert str(CoreSet()) == "CoreSet(metric='cosine')"


@pytest.mark.full
def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in page_code("small_text"):
        if not hasattr(PoolBasedActiveLearner, "initialize_data"):  # 2.0
            block = block.replace("initialize_data(start, truth[start])", "initialize(start)")
        exec(block, names)
    assert len(names["learner"].indices_labeled) == 12 + 5 * 20
    assert len(names["rows"]) == 20


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(adapter, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0
