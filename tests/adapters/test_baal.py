"""The heuristic for baal against that library's own, in its loop, and against definitions."""

import doctest
import math
import warnings
import weakref

import numpy as np
import pytest
import torch

from tests.support.adapter_pages import page_code

with warnings.catch_warnings():
    # Importing baal calls functions that its version of structlog has deprecated.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="structlog")
    pytest.importorskip("baal", reason="baal is missing; scripts/test-adapters baal has it")
    from baal import ModelWrapper
    from baal.active import ActiveLearningDataset, ActiveLearningLoop
    from baal.active.heuristics import (
        BALD,
        Certainty,
        CombineHeuristics,
        Entropy,
        Margin,
        Precomputed,
        Variance,
    )
    from baal.active.heuristics.stochastics import PowerSampling
    from baal.bayesian.dropout import patch_module
    from baal.modelwrapper import TrainingArgs

import fastal
from fastal.adapters import baal
from fastal.adapters.baal import Uncertainty
from fastal.testing import check_scores, check_select

pytestmark = [
    # The loggers of baal ask threads for their names in a way that Python has deprecated.
    pytest.mark.filterwarnings("ignore:getName:DeprecationWarning:baal"),
    # Its mean loss keeps the gradients.
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning:baal"),
]

N, C, K = 60, 5, 7


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def logits_of(*shape, seed=0):
    return 2 * np.random.default_rng(seed).standard_normal(shape)


def loop_over(predictions, heuristic, query_size=8, **options):
    """A loop over samples whose predictions are given, of which the first three are labelled."""
    dataset = ActiveLearningDataset(np.arange(len(predictions)))
    dataset.label([0, 1, 2])

    def get_probabilities(pool):
        rows = np.array([pool[place] for place in range(len(pool))])
        return predictions[rows] if isinstance(predictions, np.ndarray) else predictions(rows)

    return dataset, ActiveLearningLoop(dataset, get_probabilities, heuristic, query_size, **options)


def labelled_by(predictions, heuristic, query_size=8):
    """The samples that a step of the loop has labelled."""
    dataset, loop = loop_over(predictions, heuristic, query_size)
    assert loop.step()
    return set(np.flatnonzero(dataset.labelled)) - {0, 1, 2}


PAIRS = [
    ("bald", BALD(), lambda theirs: theirs),
    ("mean_entropy", Entropy(), lambda theirs: theirs),
    ("entropy", Entropy(), lambda theirs: theirs / math.log(C)),
    ("margin", Margin(), lambda theirs: 1 - theirs),
    ("least_confidence", Certainty(), lambda theirs: C * (1 - theirs) / (C - 1)),
    ("variance", Variance(), lambda theirs: theirs),
]


@pytest.mark.parametrize(("by", "own", "scale"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_scores_and_ranks_of_probabilities_are_those_of_the_librarys_own(by, own, scale):
    p = softmax(logits_of(N, C, K))
    ranks, scores = Uncertainty(by, kind="probs").get_ranks(p)
    want_ranks, want = own.get_ranks(p)
    np.testing.assert_allclose(scores, scale(want), rtol=1e-5, atol=1e-7)
    assert ranks.tolist() == want_ranks.tolist()
    assert labelled_by(p, Uncertainty(by, kind="probs")) == labelled_by(p, own)


@pytest.mark.parametrize(
    ("by", "own"),
    [("margin", Margin()), ("entropy", Entropy()), ("least_confidence", Certainty())],
)
def test_predictions_may_have_no_draws(by, own):
    p = softmax(logits_of(N, C))
    found = Uncertainty(by, kind="probs")(p).tolist()
    assert found == own(p).tolist() == Uncertainty(by)(np.log(p)).tolist()
    assert found == Uncertainty(by)(np.log(p)[..., None]).tolist()  # one draw
    for ratio, row in zip(Uncertainty("ratio").get_uncertainties(np.log(p)), p, strict=True):
        second, first = sorted(row)[-2:]
        assert ratio == pytest.approx(second / first, rel=1e-5)


@pytest.mark.parametrize("by", fastal.DrawsScores._fields)
@pytest.mark.parametrize("kind", ["logits", "log_probs", "probs"])
def test_every_score_is_that_of_the_draws_by_their_definition(by, kind):
    logits = logits_of(N, C, K, seed=1)
    p = softmax(logits)
    given = {"logits": logits, "log_probs": np.log(p), "probs": p}[kind]
    found = Uncertainty(by, kind=kind).get_uncertainties(given)
    want = [getattr(fastal.score(row.T[None], kind="probs", draws_axis=1), by)[0] for row in p]
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=1e-7)
    assert found.dtype == np.float32
    assert found.flags.writeable


def test_entropy_and_margin_of_baal_average_logits_before_they_are_probabilities():
    """Of draws that are sure of different classes, baal's mean is unsure for a wrong reason."""
    logits = logits_of(N, C, K, seed=2)
    for by, own in [("mean_entropy", Entropy()), ("margin", Margin())]:
        want = Uncertainty(by, kind="probs").get_ranks(softmax(logits).mean(-1, keepdims=True))
        ranks, scores = Uncertainty(by).get_ranks(logits)
        assert ranks.tolist() == want[0].tolist()
        np.testing.assert_allclose(scores, want[1], rtol=1e-5)
        wrong = own(softmax(logits.mean(-1)))
        assert own(logits).tolist() == wrong.tolist() != ranks.tolist()
    assert BALD()(logits).tolist() == Uncertainty("bald")(logits).tolist()


def test_certainty_and_variance_of_baal_are_those_of_the_logits():
    logits = np.array([[9.0, 9.0], [1.0, 0.0]])  # a tie, and a row that is surer
    assert Certainty()(logits).tolist() == [1, 0]
    assert Uncertainty("least_confidence")(logits).tolist() == [0, 1]
    draws = np.array([[[9.0, 5.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # [N, C, draws]
    assert Variance()(draws).tolist() == [0, 1]
    assert Uncertainty("variance")(draws).tolist() == [1, 0]


def test_baal_takes_logits_that_look_like_probabilities_for_such_chunk_by_chunk():
    looks_alike, other = np.array([[0.9, 0.1]]), np.array([[3.0, 1.0]])

    def entropies(heuristic, *chunks):
        return heuristic.get_uncertainties_generator(iter(chunks))

    own = Entropy()
    alone = entropies(own, looks_alike, other)
    together = entropies(own, np.concatenate([looks_alike, other]))
    assert alone[0] != together[0]
    ours = Uncertainty("entropy")
    assert (
        entropies(ours, looks_alike, other).tolist()
        == entropies(ours, np.concatenate([looks_alike, other])).tolist()
    )


def test_equal_scores_rank_the_first_sample_first_and_baal_ranks_the_last():
    p = np.full((5, 2, 3), 0.5)
    assert BALD()(p).tolist() == [4, 3, 2, 1, 0]
    assert Uncertainty("bald", kind="probs")(p).tolist() == [0, 1, 2, 3, 4]
    drawn = {tuple(Uncertainty(kind="probs", ties="random", seed=s)(p)) for s in range(5)}
    assert len(drawn) > 1


@pytest.mark.parametrize("query_size", [None, 1, 9, N, 2 * N])
def test_ranks_are_all_or_as_many_as_are_asked_for(query_size):
    logits = logits_of(N, C, K)
    every = Uncertainty("bald")(logits).tolist()
    ranks, scores = Uncertainty("bald", query_size=query_size).get_ranks(logits)
    assert ranks.tolist() == every[:query_size]
    assert scores.shape == (N,)


@pytest.mark.parametrize("query_size", [None, 8])
def test_a_generator_of_chunks_gives_the_same_samples_in_the_loop(query_size):
    logits = logits_of(N, C, K)
    want = labelled_by(logits, Uncertainty("bald", query_size=query_size))
    for size in (1, 7, N):

        def chunks(rows, size=size):
            return (logits[rows[first : first + size]] for first in range(0, len(rows), size))

        dataset, loop = loop_over(np.arange(N), Uncertainty("bald", query_size=query_size))
        loop.get_probabilities = lambda pool, chunks=chunks: chunks(
            np.array([pool[place] for place in range(len(pool))])
        )
        assert loop.step()
        assert set(np.flatnonzero(dataset.labelled)) - {0, 1, 2} == want


def test_a_chunk_is_not_kept():
    alive, most = weakref.WeakSet(), 0

    def chunks():
        nonlocal most
        for seed in range(9):
            chunk = torch.from_numpy(logits_of(4, C, K, seed=seed))
            alive.add(chunk)
            most = max(most, len(alive))
            yield chunk
            del chunk

    assert len(Uncertainty("bald")(chunks())) == 36
    assert most == 2  # the one that is asked for, and the one before it


@pytest.mark.parametrize("reduction", ["mean", "max", "min", "sum"])
def test_pixels_become_one_score_by_the_reduction(reduction):
    logits = logits_of(6, C, 4, 3, K)
    want = BALD(reduction=reduction).get_ranks(logits)
    found = Uncertainty("bald", reduction=reduction).get_ranks(logits)
    assert found[0].tolist() == want[0].tolist()
    np.testing.assert_allclose(found[1], want[1], rtol=1e-5)
    own = Uncertainty("bald", reduction=lambda scores: scores[:, 1, 2])
    np.testing.assert_allclose(
        own.get_uncertainties(logits), BALD().compute_score(logits)[:, 1, 2], rtol=1e-5
    )
    assert Uncertainty("bald").compute_score(logits).shape == (6, 4, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(N, C), (N, C, K), (4, C, 3, K)])
def test_tensors_of_any_dtype_are_scored_as_they_are(dtype, shape):
    logits = torch.from_numpy(logits_of(*shape)).to(dtype)
    heuristic = Uncertainty("margin", reduction="mean" if len(shape) > 3 else "none")
    found = heuristic.get_uncertainties(logits)
    assert type(found) is np.ndarray
    want = heuristic.get_uncertainties(logits.double().numpy())
    np.testing.assert_allclose(found, want, rtol=2e-5)


def test_combine_heuristics_takes_it():
    p = softmax(logits_of(N, C, K))
    own = CombineHeuristics([BALD(), Entropy()], weights=[0.7, 0.3])
    ours = [Uncertainty(by, kind="probs") for by in ("bald", "mean_entropy")]
    assert CombineHeuristics(ours, weights=[0.7, 0.3])([p, p]).tolist() == own([p, p]).tolist()


def test_power_sampling_of_baal_fails_in_the_loop_and_noise_works():
    p = softmax(logits_of(N, C, K))
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        labelled_by(p, PowerSampling(BALD(), query_size=8))
    heuristic = Uncertainty("bald", kind="probs", noise="power", query_size=8)
    assert len(labelled_by(p, heuristic)) == 8


@pytest.mark.full
def test_noise_draws_by_the_power_of_the_scores_anew_in_each_call():
    p = softmax(logits_of(12, C, K))
    n, beta = 3000, 2.0
    heuristic = Uncertainty("bald", kind="probs", noise="power", beta=beta, query_size=3)
    drawn = [heuristic(p) for _ in range(n)]
    powers = BALD().get_uncertainties(p) ** beta
    counts = np.bincount([ranks[0] for ranks in drawn], minlength=12)
    want = powers / powers.sum()
    deviations = np.sqrt(n * want * (1 - want))
    assert (abs(counts - n * want) <= 4.5 * deviations).all()
    assert (abs(counts - n / 12) > 4.5 * deviations).any()  # not uniform
    again = Uncertainty("bald", kind="probs", noise="power", beta=beta, query_size=3)
    assert [again(p).tolist() for _ in range(5)] == [ranks.tolist() for ranks in drawn[:5]]
    other = Uncertainty("bald", kind="probs", noise="power", beta=beta, query_size=3, seed=1)
    assert [other(p).tolist() for _ in range(5)] != [ranks.tolist() for ranks in drawn[:5]]


@pytest.mark.parametrize("noise", ["power", "softmax", "softrank"])
def test_the_first_of_all_draws_are_the_draws_of_a_query_size(noise):
    logits = logits_of(N, C, K)
    every = Uncertainty("bald", noise=noise)(logits)
    assert sorted(every) == [*range(N)]
    few = Uncertainty("bald", noise=noise, query_size=9)(logits)
    assert few.tolist() == every[:9].tolist()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its open file
def test_the_loop_may_limit_the_samples_and_keep_the_scores(tmp_path):
    logits = logits_of(N, C, K)
    dataset, loop = loop_over(
        logits, Uncertainty("bald"), max_sample=20, uncertainty_folder=str(tmp_path)
    )
    assert loop.step()
    assert dataset.labelled.sum() == 11
    assert len([*tmp_path.iterdir()]) == 1


def test_scores_of_fastal_can_be_given_as_they_are():
    logits = logits_of(N, C, K)
    scores = fastal.score(np.moveaxis(logits, 2, 1), draws_axis=1).bald
    assert labelled_by(scores, Precomputed(reverse=True)) == labelled_by(
        logits, Uncertainty("bald")
    )


@pytest.mark.full
@pytest.mark.parametrize("streams", [False, True])
def test_a_model_with_dropout_is_queried(streams, capsys):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(4, 3))
    network = patch_module(network, inplace=False)
    model = ModelWrapper(network, TrainingArgs(workers=0, batch_size=8))
    rows = torch.utils.data.TensorDataset(torch.randn(N, 4), torch.zeros(N, dtype=torch.long))
    dataset = ActiveLearningDataset(rows)
    dataset.label([0, 1])
    predict = model.predict_on_dataset_generator if streams else model.predict_on_dataset
    heuristic = Uncertainty("bald", query_size=6)
    loop = ActiveLearningLoop(dataset, predict, heuristic, 6, iterations=5, verbose=False)
    assert loop.step()
    assert loop.step()
    assert dataset.labelled.sum() == 14


def bad(name, value):
    return {"by": "margin", name: value}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (bad("by", "certainty"), "by: wanted one of bald, .*, got 'certainty'"),
        (bad("kind", "multilabel_logits"), "kind: wanted one of logits, .*'multilabel_logits'"),
        (bad("query_size", 0), "query_size: wanted an int from 1, or None, got 0"),
        (bad("query_size", True), "query_size: .* got True"),
        (bad("query_size", 2.0), r"query_size: .* got 2\.0"),
        (bad("reduction", "median"), "reduction: wanted a callable or one of .*, got 'median'"),
        (bad("noise", "gibbs"), "noise: wanted one of power, softmax, softrank"),
        (bad("beta", 0), "beta: wanted a finite number above 0"),
        (bad("seed", -1), "seed: wanted 0 to"),
        (bad("ties", "last"), "ties: wanted one of first, random"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Uncertainty(**arguments)


@pytest.mark.parametrize(
    ("by", "predictions", "error", "message"),
    [
        ("bald", np.zeros((3, 2)), ValueError, r"by='bald' wants \[N, C, draws\], got .*\(3, 2\)"),
        ("margin", np.zeros(3), ValueError, r"by='margin' wants \[N, C\], got shape \(3,\)"),
        ("margin", np.zeros((3, 2, 4, 5)), ValueError, r"reduction: wanted .* shape \(3, 4\)"),
        ("margin", np.zeros((0, 2)), ValueError, "wanted at least one sample"),
        ("margin", "logits", TypeError, "predictions: wanted an array, got str"),
        ("margin", [np.zeros((3, 2))] * 2, ValueError, "list of 2; .* CombineHeuristics"),
        ("margin", (chunk for chunk in ()), ValueError, "at least one chunk"),
    ],
)
def test_bad_predictions_are_named(by, predictions, error, message):
    with pytest.raises(error, match=message):
        Uncertainty(by).get_ranks(predictions)


@pytest.mark.parametrize("shape", [(5, C), (5, C, K), (5, C, 3, K)])
def test_invalid_samples_are_named_by_their_number_in_all_chunks(shape):
    """baal gives them a score that ranks them last, and warns."""
    logits = logits_of(*shape)
    broken = logits.copy()
    broken[(3, *[1] * (len(shape) - 1))] = np.nan
    with pytest.warns(UserWarning, match="Invalid value"):
        assert 3 in Entropy(reduction="mean")(broken)[-1:]
    heuristic = Uncertainty(reduction="mean" if len(shape) > 3 else "none")
    pixel = ": pixel 1" if len(shape) > 3 else ""
    with pytest.raises(ValueError, match=rf"^predictions: sample 3{pixel} has .*NaN") as caught:
        heuristic(broken)
    assert isinstance(caught.value.__cause__, fastal.InvalidRows)
    with pytest.raises(ValueError, match=rf"^predictions: sample 8{pixel} has"):
        heuristic(chunk for chunk in (logits, broken))


def test_scores_pass_the_public_checks():
    def score(x, kind):
        return {by: Uncertainty(by, kind=kind).compute_score(x) for by in fastal.Scores._fields}

    check_scores(score, n_classes=[2, 33])


@pytest.mark.parametrize("size", [7, 500])
def test_ranks_pass_the_public_checks(size):
    def select(pool, k):
        chunks = (pool[first : first + size] for first in range(0, len(pool), size))
        rows, scores = Uncertainty("margin", query_size=k).get_ranks(chunks)
        return rows, scores[rows]

    check_select(select, exclude=False)


def test_the_wrong_kind_is_said():
    with pytest.raises(ValueError, match="as logits have"):
        Uncertainty(kind="probs")(logits_of(N, C, K))


@pytest.mark.full
def test_the_example_of_the_page_runs():
    torch.manual_seed(0)
    names = {}
    for block in page_code("baal"):
        exec(block, names)
    assert names["dataset"].labelled.sum() == 10 + 5 * 20


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(baal, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0
