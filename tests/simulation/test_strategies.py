"""Strategies that are functions, and what is refused."""

import re

import numpy as np
import pytest
import torch

import fastal
from fastal import diversity
from tests.support.simulation import CLASSES, N, X, Y, fit, predict

HOW = {"rounds": 3, "batch": 5, "seeds": [3], "initial": 12}
N_POOL = N - round(0.2 * N)


def simulate(strategies=("margin",), *, fit=fit, predict=predict, x=X, y=Y, **how):
    return fastal.simulate(fit, predict, x, y, strategies, **{**HOW, **how})


def by_margin(given):
    return fastal.select(given.predictions, given.k, exclude=given.labelled)


@pytest.mark.parametrize(
    "form",
    [
        lambda picks: picks,
        lambda picks: picks.rows,
        lambda picks: picks.rows.tolist(),
        lambda picks: torch.from_numpy(picks.rows),
        lambda picks: picks.rows.astype(np.uint8),
    ],
)
def test_a_function_has_the_curve_of_the_strategy_that_it_calls(form):
    found = simulate({"margin": "margin", "mine": lambda given: form(by_margin(given))})
    assert found.strategies == ("margin", "mine")
    assert (found.scores[0] == found.scores[1]).all()


def test_a_name_may_stand_for_another():
    found = simulate({"baseline": "random", "random": "random"}, seeds=2)
    assert (found.scores[0] == found.scores[1]).all()


def test_a_round_says_what_is_known():
    rounds = []

    def strategy(given):
        rounds.append(given)
        return diversity.k_center(
            np.ascontiguousarray(given.x[:, 1:]), given.k, exclude=given.labelled,
            labelled=given.x[given.labelled, 1:],
        )  # fmt: skip

    simulate({"core-set": strategy}, seeds=2)
    assert [given.number for given in rounds] == [1, 2, 3] * 2
    assert len({given.seed for given in rounds}) == 6
    assert [len(given.labelled) for given in rounds] == [12, 17, 22] * 2
    for given in rounds:
        numbers = given.x[:, 0].astype(int)
        assert len(numbers) == N_POOL
        assert (np.diff(numbers) > 0).all()
        assert (given.labels == Y[numbers[given.labelled]]).all()
        want = predict(fit(X[numbers[given.labelled]], given.labels, 0), given.x)
        assert (given.predictions == want).all()
        assert (given.predict(given.model, given.x[:4]) == predict(given.model, given.x[:4])).all()
        assert given.k == 5


def test_predictions_of_the_pool_are_computed_once_if_they_are_used():
    n_calls = 0

    def counted(weights, x):
        nonlocal n_calls
        n_calls += 1
        return predict(weights, x)

    def twice(given):
        assert given.predictions is given.predictions
        return by_margin(given)

    simulate({"twice": twice}, predict=counted)
    assert n_calls == 3 + 4
    n_calls = 0
    simulate({"none": lambda given: fastal.select(
        given.x, given.k, "random", exclude=given.labelled)}, predict=counted)  # fmt: skip
    assert n_calls == 4


def free(given):
    return np.setdiff1d(np.arange(N_POOL), given.labelled)[: given.k]


BAD_PICKS = {
    "too few": (lambda r: free(r)[:4], ValueError, "wanted 5 rows, got 4"),
    "none": (lambda r: [], ValueError, "wanted 5 rows, got 0"),
    "too many": (lambda r: np.arange(6), ValueError, "wanted 5 rows, got 6"),
    "labelled": (lambda r: np.r_[free(r)[:4], r.labelled[0]], ValueError, "has a label already"),
    "repeated": (lambda r: free(r)[[0, 1, 2, 3, 3]], ValueError, "is picked twice"),
    "outside": (lambda r: np.r_[free(r)[:4], N_POOL], ValueError, "row 192 is not in the pool of"),
    "negative": (lambda r: np.r_[free(r)[:4], -1], ValueError, "row -1 is not in the pool of 192"),
    "floats": (lambda r: free(r) * 1.0, TypeError, "wanted Picks or row numbers [5], got float64"),
    "a mask": (lambda r: np.arange(N_POOL) < 5, TypeError, "got bool of shape (192,)"),
    "a matrix": (lambda r: free(r)[None], TypeError, "got int64 of shape (1, 5)"),
    "nothing": (lambda r: None, TypeError, "got object of shape ()"),
}


@pytest.mark.parametrize("fault", BAD_PICKS)
def test_wrong_rows_are_refused(fault):
    strategy, kind, message = BAD_PICKS[fault]
    with pytest.raises(kind, match=re.escape(message)) as caught:
        simulate({"mine": strategy})
    assert str(caught.value).startswith("strategies: 'mine' in round 1: ")


def test_wrong_rows_of_a_later_round_name_it():
    with pytest.raises(ValueError, match="'mine' in round 2: row 0 has a label already"):
        simulate({"mine": lambda r: [0, *np.setdiff1d(np.arange(1, N_POOL), r.labelled)[:4]]
                  if r.number > 1 or 0 not in r.labelled else free(r)}, seeds=[1])  # fmt: skip


BAD_ARGUMENTS = {
    "a name alone": ({"strategies": "margin"}, TypeError, "strategies: wanted a list of"),
    "a number": ({"strategies": 3}, TypeError, "strategies: wanted a list of"),
    "no strategy": ({"strategies": []}, ValueError, "strategies: wanted at least one, got none"),
    "twice": ({"strategies": ["margin", "margin"]}, ValueError, "wanted each name once"),
    "unknown": ({"strategies": ["doubt"]}, ValueError, "strategies: wanted one of least_confid"),
    "draws": ({"strategies": ["bald"]}, ValueError, "got 'bald'"),
    "unknown in a mapping": ({"strategies": {"a": 3}}, ValueError, "got 3"),
    "no name": ({"strategies": {3: "margin"}}, TypeError, "strategies: wanted names, got 3"),
    "rounds": ({"rounds": 0}, ValueError, "rounds: wanted at least 1, got 0"),
    "batch": ({"batch": 1.5}, TypeError, "batch: wanted an integer, got 1.5"),
    "initial": ({"initial": 0}, ValueError, "initial: wanted at least 1, got 0"),
    "no seeds": ({"seeds": []}, ValueError, "seeds: wanted at least one"),
    "0 seeds": ({"seeds": 0}, ValueError, "seeds: wanted at least 1, got 0"),
    "seeds": ({"seeds": "3"}, TypeError, "seeds: wanted a number of seeds, or a list"),
    "a seed": ({"seeds": [-1]}, ValueError, "seed: wanted 0 to 2^64 - 1, got -1"),
    "a seed twice": ({"seeds": [1, 1]}, ValueError, "and each once, got [1, 1]"),
    "test": ({"test": 1.0}, ValueError, "test: wanted a share above 0 and below 1, got 1.0"),
    "test rows": ({"test": "x"}, TypeError, "test: wanted a number, got 'x'"),
    "test of three": ({"test": (X, Y, Y)}, ValueError, "wanted a share or (x, y), got 3 values"),
    "test labels": ({"test": (X, Y[1:])}, ValueError, "test[1]: wanted a label for each of 240"),
    "labels": ({"y": Y[:-1]}, ValueError, "y: wanted a label for each of 240 rows of x, got 239"),
    "no rows": ({"x": X[:0], "y": Y[:0]}, ValueError, "x: wanted at least one row, got none"),
    "no array": ({"x": iter(X)}, TypeError, "x: wanted an array, a table or a list of rows, got"),
    "too many": ({"batch": 70}, ValueError, "= 222 rows to label, but the pool has 192 after 48"),
    "kind": ({"kind": "multilabel_logits"}, ValueError, "kind: wanted one of logits, probs"),
    "metric": ({"metric": "f1"}, ValueError, "metric: wanted 'accuracy' or a function"),
    "text": ({"y": Y.astype(str)}, ValueError, "y: wanted class numbers [N] from 0 on"),
    "one-hot": ({"y": np.eye(CLASSES)[Y]}, ValueError, "got float64 of shape (240, 4)"),
    "negative": ({"y": Y - 1}, ValueError, "y: wanted class numbers from 0 on, got -1"),
    "fit": ({"fit": None}, TypeError, "fit: wanted a function, got None"),
    "predict": ({"predict": 3}, TypeError, "predict: wanted a function, got 3"),
    "resume": ({"resume": True}, ValueError, "resume: wanted checkpoint, the folder"),
}


@pytest.mark.parametrize("fault", BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_before_any_model_is_fitted(fault):
    arguments, kind, message = BAD_ARGUMENTS[fault]

    def never(x, y, seed):
        pytest.fail("a model was fitted")

    with pytest.raises(kind, match=re.escape(message)):
        simulate(**{"fit": never, **arguments})


def with_nan(weights, x):
    found = predict(weights, x)
    found[7:9, 1] = np.nan
    return found


BAD_RESULTS = {
    "a list": ({"predict": lambda w, x: predict(w, x).tolist()}, TypeError, "got list"),
    "one row": ({"predict": lambda w, x: predict(w, x)[:1]}, ValueError,
                "predict: wanted a prediction for each of 48 rows, got shape (1, 4)"),
    "classes": ({"predict": lambda w, x: predict(w, x).argmax(1)}, ValueError,
                "predict: wanted [n, classes], got shape (48,)"),
    "a class less": ({"predict": lambda w, x: predict(w, x)[:, :3]}, ValueError,
                     "predict: the test data has the class 3, but there are 3 columns"),
    "nan": ({"predict": with_nan}, ValueError,
            "predict: 2 of 48 test rows have NaN, the first is row 7"),
    "a metric of text": ({"metric": lambda y, p: "good"}, TypeError, "metric: wanted a number"),
    "a metric of nan": ({"metric": lambda y, p: np.nan}, ValueError,
                        "metric: wanted a finite number, got nan"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_RESULTS)
def test_a_bad_result_of_a_function_is_refused(fault):
    arguments, kind, message = BAD_RESULTS[fault]
    with pytest.raises(kind, match=re.escape(message)):
        simulate(**arguments)


def test_invalid_predictions_of_the_pool_are_refused():
    def nan_in_pool(weights, x):
        return with_nan(weights, x) if len(x) == N_POOL else predict(weights, x)

    with pytest.raises(fastal.InvalidRows):
        simulate(predict=nan_in_pool)
