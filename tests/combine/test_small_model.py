"""The small models: logistic regression against its definition, the network, the held-out AUC."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from fastal.combine.held_out import auc, folds, held_out_auc
from fastal.combine.logistic import logistic_regression
from fastal.combine.network import network
from fastal.combine.small_model import log_odds
from fastal.combine.standard_rows import NoModel
from tests.support import transfer
from tests.support.matrices import DTYPES


def rows(n=300, width=7, seed=0):
    """Rows of columns with different means and deviations, and which of them are positive."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width)) * np.arange(1, width + 1) + 10 * np.arange(width)
    is_positive = x[:, 0] + rng.standard_normal(n) > 1.5
    return x.astype(np.float32).astype(np.float64), is_positive


def fitted(x, is_positive, l2=1.0):
    return logistic_regression(torch.from_numpy(x), torch.from_numpy(is_positive), l2)


def assert_follows(x, is_positive, l2=1.0, **how):
    others = rows(200, x.shape[1], seed=1)[0]
    got = log_odds(torch.from_numpy(others), fitted(x, is_positive, l2)).numpy()
    want, bound = transfer.log_odds(x, is_positive, others, l2, **how)
    assert (np.abs(got - want) <= bound).all(), np.abs(got - want).max()


@pytest.mark.parametrize("l2", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("width", [1, 7, 20])
def test_logistic_regression_follows_its_definition(l2, width):
    assert_follows(*rows(width=width), l2)


def test_more_columns_than_rows():
    assert_follows(*rows(30, 50))


def test_sides_that_a_plane_separates():
    x, _ = rows()
    assert_follows(x, x[:, 0] > 0)
    assert_follows(x, np.arange(len(x)) == 7)  # a single positive row


def test_constant_columns_change_nothing():
    x, is_positive = rows()
    wide = np.insert(x, 3, 0.1, 1)
    (layer,), (without,) = fitted(wide, is_positive), fitted(x, is_positive)
    assert layer.weight[0, 3] == 0
    assert layer.bias == without.bias
    assert_follows(wide, is_positive)


def test_another_library_finds_the_same_minimum():
    x, is_positive = rows()
    z = transfer.standardised(x, x)
    theirs = LogisticRegression(C=0.5, class_weight="balanced", tol=1e-10, max_iter=1000)
    want = theirs.fit(z, is_positive).decision_function(z)
    got = log_odds(torch.from_numpy(x), fitted(x, is_positive, 2.0))
    # Its solver stops at a gradient of 1e-10 for each row, so at 3e-8 for 300 rows. The weights are
    # then off by at most 3e-8 / l2, times the length of a row (below 10), and float32 by 1e-6.
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("how", [{"balanced": False}, {"bias_is_free": False}])
def test_a_wrong_loss_is_found(how):
    with pytest.raises(AssertionError):
        assert_follows(*rows(), **how)


def test_a_wrong_penalty_is_found():
    x, is_positive = rows()
    got = log_odds(torch.from_numpy(x), fitted(x, is_positive, 1.0001)).numpy()
    want, bound = transfer.log_odds(x, is_positive, x, l2=1.0)
    assert (np.abs(got - want) > bound).any()


def test_the_number_of_threads_does_not_show():
    x, is_positive = rows(2000, 40)
    before = torch.get_num_threads()
    found = []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            found.append(fitted(x, is_positive)[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one.weight, found[0].weight) for one in found)
    assert all(torch.equal(one.bias, found[0].bias) for one in found)


def test_columns_that_float32_cannot_hold_are_refused():
    x, is_positive = rows()
    for scale in (1e-60, 1e-41, 1e60):
        with pytest.raises(NoModel, match="float32 cannot hold"):
            fitted(x * scale, is_positive)


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fit", [fitted, lambda *of: network(*map(torch.from_numpy, of), 1.0, 0)])
def test_log_odds_do_not_depend_on_the_other_rows_or_their_place(dtype, fit):
    x, is_positive = rows(120, 5)
    layers = fit(x, is_positive)
    given = torch.from_numpy(x).to(dtype)
    want = torch.cat([log_odds(row[None], layers) for row in given])
    transposed = given.t().contiguous().t()
    shifted = torch.empty(given.numel() + 1, dtype=dtype)[1:].view_as(given).copy_(given)
    for of in (given, transposed, shifted, given[33:], shifted[119:]):
        assert torch.equal(log_odds(of, layers), want[len(want) - len(of) :])
    many = given.repeat(150, 1)  # more than two blocks
    assert torch.equal(log_odds(many, layers), want.repeat(150))


def test_rows_that_are_not_finite_have_no_log_odds():
    x, is_positive = rows(width=3)
    layers = fitted(x, is_positive)
    given = torch.tensor([[math.nan, 0, 0], [0, math.inf, 0], [0, 0, 0], [0, 0, -math.inf]])
    assert log_odds(given, layers).isnan().tolist() == [True, True, False, True]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_the_auc_is_the_share_of_pairs_in_order(given):
    scores = np.array([score for score, _ in given], np.float32)
    is_positive = np.array([side for _, side in given])
    if not is_positive.any() or is_positive.all():
        return
    assert math.isclose(auc(scores, is_positive), transfer.pairs_in_order(scores, is_positive))


def test_an_auc_without_halves_for_ties_is_found():
    scores, is_positive = np.zeros(4, np.float32), np.array([True, False, True, False])
    assert auc(scores, is_positive) == transfer.pairs_in_order(scores, is_positive) == 0.5


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(2, 5), st.integers(0, 2**64 - 1))
def test_folds_spread_both_sides_evenly(n_positive, n_others, n_folds, seed):
    is_positive = np.arange(n_positive + n_others) < n_positive
    fold = folds(is_positive, n_folds, seed)
    for side in (True, False):
        counts = np.bincount(fold[is_positive == side], minlength=n_folds)
        assert counts.max() - counts.min() <= 1
    assert (fold == folds(is_positive, n_folds, seed)).all()


def test_the_held_out_auc_scores_each_fold_by_a_model_of_the_others():
    x, is_positive = rows()
    fold = folds(is_positive, 5, 3)
    want = []
    for i in range(5):
        held = fold == i
        odds, _ = transfer.log_odds(x[~held], is_positive[~held], x[held])
        want.append(transfer.pairs_in_order(odds, is_positive[held]))
    given = torch.from_numpy(x), torch.from_numpy(is_positive)
    got = held_out_auc(lambda *of: logistic_regression(*of, 1.0), *given, 3)
    # The order of two rows whose odds are equal within rounding could differ; here none are.
    assert math.isclose(got, np.mean(want), rel_tol=1e-12)


def test_the_held_out_auc_of_random_sides_is_that_of_chance():
    """A model that is scored on its own training rows would look well informed."""
    rng = np.random.default_rng(0)
    x, side = (
        torch.from_numpy(rng.standard_normal((200, 60))),
        torch.from_numpy(rng.random(200) < 0.5),
    )
    found = held_out_auc(lambda *of: logistic_regression(*of, 1.0), x, side, 0)
    own = auc(log_odds(x, logistic_regression(x, side, 1.0)).numpy(), side.numpy())
    assert found < 0.6
    assert own > 0.75


@pytest.mark.full
def test_a_network_learns_what_no_plane_separates():
    x, _ = rows(400, 2)
    is_positive = np.abs(transfer.standardised(x, x)[:, 1]) > 1
    given = torch.from_numpy(x), torch.from_numpy(is_positive)
    assert held_out_auc(lambda *of: logistic_regression(*of, 1.0), *given, 0) < 0.65
    assert held_out_auc(lambda *of: network(*of, 1.0, 0), *given, 0) > 0.9


@pytest.mark.full
def test_a_network_is_that_of_its_seed_and_leaves_the_global_one_alone():
    x, is_positive = rows(100)
    given = torch.from_numpy(x), torch.from_numpy(is_positive)
    state = torch.get_rng_state()
    first, again, other = (network(*given, 1.0, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    with torch.inference_mode():
        within = network(*given, 1.0, 1)
    assert torch.equal(first[0].weight, within[0].weight)
    assert not within[0].weight.requires_grad
