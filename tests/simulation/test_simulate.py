"""Simulated rounds of labelling: a loop written by hand has the same curves."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import fastal
from tests.support.simulation import (
    CLASSES,
    N,
    Recorder,
    X,
    Y,
    by_hand,
    fit,
    predict,
    predict_probs,
    uncertainty,
)

NAMES = ("least_confidence", "margin", "ratio", "entropy", "random")
HOW = {"rounds": 4, "batch": 7, "initial": 12}


def simulate(strategies=("margin",), *, fit=fit, predict=predict, x=X, y=Y, **how):
    return fastal.simulate(fit, predict, x, y, strategies, **{**HOW, "seeds": [3], **how})


@pytest.mark.parametrize("kind", ["logits", "probs"])
def test_a_loop_written_by_hand_has_the_same_curves_and_labels_the_same_rows(kind):
    recorder = Recorder()
    predict_as = {"logits": predict, "probs": predict_probs}[kind]
    found = simulate(NAMES, fit=recorder, predict=predict_as, kind=kind, seeds=[3, 8])
    assert found.strategies == NAMES
    assert found.seeds == (3, 8)
    assert found.n_labelled.tolist() == [12, 19, 26, 33, 40]
    last_models = iter(recorder.rows[HOW["rounds"] :: HOW["rounds"] + 1])
    for j, seed in enumerate(found.seeds):
        for i, name in enumerate(NAMES):
            scores, labelled = by_hand(name, seed, **HOW)
            assert found.scores[i, j].tolist() == scores, (name, seed)
            assert next(last_models) == labelled, (name, seed)


WRONG = {
    "the most certain rows": {"score": lambda name, p: -uncertainty(name, p)},
    "another score": {"score": lambda name, p: p[0]},
    "other test data": {"test": 0.25},
    "other initial rows": {"initial": 13},
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_loop_with_a_fault_has_another_curve(fault):
    found = simulate()
    assert found.scores[0, 0].tolist() == by_hand("margin", 3, **HOW)[0]
    assert found.scores[0, 0].tolist() != by_hand("margin", 3, **{**HOW, **WRONG[fault]})[0]


def test_labels_accumulate_and_are_those_of_their_rows():
    recorder = Recorder()
    simulate(fit=recorder)
    for before, after in zip(recorder.rows, recorder.rows[1:], strict=False):
        assert after[: len(before)] == before
        assert len(after) == len(set(after)) == len(before) + HOW["batch"]
    for rows, labels in zip(recorder.rows, recorder.labels, strict=True):
        assert labels == Y[rows].tolist()
    assert recorder.seeds == [3] * 5


@given(
    st.sampled_from(NAMES), st.integers(0, 2**64 - 1), st.integers(1, 4), st.integers(1, 30),
    st.integers(1, 40), st.floats(0.01, 0.3),
)  # fmt: skip
def test_no_row_has_two_labels_or_is_in_the_test_data(name, seed, rounds, batch, initial, test):
    recorder, tested = Recorder(), []

    def predict_seen(weights, x):
        if len(x) < N / 2:
            tested.append(x[:, 0].astype(int).tolist())
        return predict(weights, x)

    how = {"seeds": [seed], "rounds": rounds, "batch": batch, "initial": initial, "test": test}
    found = simulate([name], fit=recorder, predict=predict_seen, **how)
    last = recorder.rows[-1]
    assert len(last) == len(set(last)) == initial + rounds * batch == found.n_labelled[-1]
    assert len(tested) == rounds + 1
    assert all(rows == tested[0] for rows in tested)
    assert len(tested[0]) == max(1, round(test * N))
    assert not set(last) & set(tested[0])


def test_all_strategies_of_a_seed_begin_with_the_same_rows():
    recorder = Recorder()
    found = simulate(NAMES, fit=recorder, seeds=3)
    firsts = recorder.rows[:: HOW["rounds"] + 1]
    for j in range(3):
        of_seed = firsts[j * len(NAMES) : (j + 1) * len(NAMES)]
        assert all(rows == of_seed[0] for rows in of_seed)
        assert len(set(found.scores[:, j, 0])) == 1
    assert len({tuple(rows) for rows in firsts}) == 3


def test_a_run_depends_on_its_strategy_and_its_seed_alone():
    found = simulate(NAMES, seeds=3)
    assert found.seeds == (0, 1, 2)
    for i, name in enumerate(NAMES):
        for j in found.seeds:
            assert (simulate([name], seeds=[j]).scores == found.scores[i, j]).all()
    reversed_order = simulate(NAMES[::-1], seeds=[2, 1, 0]).scores[::-1, ::-1]
    assert (reversed_order == found.scores).all()


def test_the_whole_pool_may_get_labels():
    n_test = round(0.2 * N)
    how = {"rounds": 2, "batch": 80, "initial": N - n_test - 160}
    found = simulate(NAMES, **how)
    assert found.n_labelled[-1] == N - n_test
    with pytest.raises(ValueError, match=re.escape("= 193 rows to label, but the pool has 192")):
        simulate(**{**how, "initial": how["initial"] + 1})


def test_random_rows_need_no_prediction_of_the_pool():
    n_rows = []

    def predict_seen(weights, x):
        n_rows.append(len(x))
        return predict(weights, x)

    simulate(["random"], predict=predict_seen)
    assert n_rows == [48] * 5
    n_rows.clear()
    simulate(["margin"], predict=predict_seen)
    assert n_rows == [48, 192] * 4 + [48]


def test_test_data_may_be_given():
    recorder = Recorder()
    test = X[:40], Y[:40]
    found = simulate(fit=recorder, x=X[40:], y=Y[40:], test=test)
    weights = [fit(X[rows], Y[rows], 0) for rows in recorder.rows]
    want = [(predict(w, test[0]).argmax(1) == test[1]).mean() for w in weights]
    assert found.scores[0, 0].tolist() == want
    assert set(recorder.rows[-1]) <= set(range(40, N))


def test_initial_is_the_batch_unless_it_is_given():
    assert simulate(initial=None).n_labelled.tolist() == [7, 14, 21, 28, 35]


class Frame:
    """The interface of a table of pandas that is used here."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape
        self.iloc = self

    def __getitem__(self, rows):
        return Frame(self.values[rows])


KINDS = {
    "tensors": (torch.from_numpy(X), torch.from_numpy(Y), lambda x: x.numpy()),
    "lists": (list(X), Y.tolist(), np.array),
    "sparse": (sparse.csr_matrix(X), Y, lambda x: x.toarray()),
    "frames": (Frame(X), Y, lambda x: x.values),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_kind_have_the_same_curves(kind):
    x, y, as_array = KINDS[kind]
    found = simulate(
        NAMES, x=x, y=y, fit=lambda x, y, seed: fit(as_array(x), np.asarray(y), seed),
        predict=lambda weights, x: predict(weights, as_array(x)),
    )  # fmt: skip
    assert (found.scores == simulate(NAMES).scores).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_predictions_may_be_tensors_with_gradients(dtype):
    found = simulate(
        ["margin", "random"], predict=lambda w, x: torch.tensor(predict(w, x), dtype=dtype,
                                                                requires_grad=True),
    )  # fmt: skip
    rounded = simulate(
        ["margin", "random"],
        predict=lambda w, x: torch.tensor(predict(w, x)).to(dtype).double().numpy(),
    )
    assert (found.scores == rounded.scores).all()


def test_what_the_caller_passed_is_not_written_to():
    x, y = X.copy(), Y.copy()

    def fit_and_spoil(x, y, seed):
        weights = fit(x, y, seed)
        x[:], y[:] = 0, 0
        return weights

    def spoil(given):
        rows = fastal.select(given.predictions, given.k, exclude=given.labelled).rows
        given.labelled[:] = 0
        return rows

    found = simulate({"margin": "margin", "spoil": spoil}, fit=fit_and_spoil, x=x, y=y)
    assert (x == X).all()
    assert (y == Y).all()
    assert (found.scores == simulate().scores[0]).all()


def test_a_metric_gets_the_labels_and_predictions_of_the_test_data():
    def mean_loss(y, predictions):
        p = np.exp(predictions) / np.exp(predictions).sum(1, keepdims=True)
        return -np.log(p[np.arange(len(y)), y]).mean()

    recorder = Recorder()
    found = simulate(metric=mean_loss, fit=recorder)
    held_out = np.sort(np.random.default_rng(3).permutation(N)[:48])
    weights = fit(X[recorder.rows[2]], Y[recorder.rows[2]], 0)
    assert found.scores[0, 0, 2] == mean_loss(Y[held_out], predict(weights, X[held_out]))
    assert found.metric == "mean_loss"


def test_labels_of_a_metric_of_the_caller_may_be_anything():
    names = np.array(["a", "b", "c", "d"])[Y]
    found = simulate(
        y=names, fit=lambda x, y, seed: fit(x, np.searchsorted(["a", "b", "c", "d"], y), seed),
        metric=lambda y, predictions: (np.array(list("abcd"))[predictions.argmax(1)] == y).mean(),
    )  # fmt: skip
    assert (found.scores == simulate().scores).all()


def test_equal_predictions_count_as_the_first_class():
    found = simulate(["random"], predict=lambda w, x: np.zeros((len(x), CLASSES), np.float32))
    held_out = np.random.default_rng(3).permutation(N)[:48]
    assert (found.scores == (Y[held_out] == 0).mean()).all()


def test_progress_is_a_line_for_each_run(capsys):
    quiet = simulate(NAMES, seeds=2)
    assert capsys.readouterr() == ("", "")
    shown = simulate(NAMES, seeds=2, progress=True)
    assert (shown.scores == quiet.scores).all()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 10
    first, last = shown.scores[1, 0, [0, -1]]
    form = (
        rf"2 of 10 runs in .* s, about \d+ s left: margin, seed 0, from {first:.4f} to {last:.4f}"
    )
    assert re.fullmatch(form, lines[1])


def test_a_warning_of_every_round_is_logged_once(caplog):
    for _ in range(2):
        simulate(["margin", "entropy"], predict=predict_probs)
        (warning,) = caplog.messages
        assert "kind='probs' gives the right picks" in warning
        caplog.clear()
    fastal.select(predict_probs(fit(X, Y, 0), X), 3)
    fastal.select(predict_probs(fit(X, Y, 0), X), 3)
    assert len(caplog.messages) == 2
