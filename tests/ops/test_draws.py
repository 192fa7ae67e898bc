"""Scores of draws: every regime, dtype and layout against the definitions."""

import functools
import importlib
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.base.argument_values import DRAWS_SCORES
from fastal.ops.reference import draws
from fastal_kernels import measures
from tests.support.draws import (
    assert_draws,
    draws_in_regimes,
    draws_oracle,
    draws_to_any_digit,
)
from tests.support.matrices import DTYPES, INVALID, INVALID_PROBS

SHAPES = [(1, 2), (2, 2), (10, 3), (100, 5), (3, 31), (3, 32), (5, 1000), (2, 1025)]


def scored(x, **options):
    return dict(zip(DRAWS_SCORES, draws(x, DRAWS_SCORES, **options), strict=True))


@functools.cache
def in_regimes(n_draws, n_classes, dtype):
    x = draws_in_regimes(n_draws, n_classes, dtype)
    return x, draws_oracle(x)


def test_kernels_know_the_same_scores():
    assert measures.DRAWS_SCORES == DRAWS_SCORES


def test_the_two_oracles_agree():
    x = draws_in_regimes(3, 5, torch.float64)
    x = x[(x.abs().amax((1, 2)) < 100)]  # the others have differences that long double cannot hold
    rough, fine = draws_oracle(x), draws_to_any_digit(x)
    for name in DRAWS_SCORES:
        np.testing.assert_allclose(rough[name], fine[name], rtol=1e-6, atol=1e-17, err_msg=name)


@pytest.mark.full
@pytest.mark.parametrize(("n_draws", "n_classes"), SHAPES)
def test_every_regime_and_dtype(n_draws, n_classes):
    for dtype in DTYPES:
        x, truth = in_regimes(n_draws, n_classes, dtype)
        assert_draws(scored(x), truth)


@pytest.mark.full
def test_many_classes():
    x = draws_in_regimes(2, 131_072, torch.float32)[::5]
    assert_draws(scored(x), draws_oracle(x))


@pytest.mark.parametrize("n_classes", [2, 5, 40])
def test_confidence_beyond_float64(n_classes):
    generator = torch.Generator().manual_seed(0)
    gaps = torch.arange(1.0, 86.0, 4)
    x = torch.zeros(len(gaps), 3, n_classes)
    x[:, :, 0] = gaps[:, None]
    x[:, :, 1] -= torch.rand(len(gaps), 3, generator=generator)
    for dtype in DTYPES:
        assert_draws(scored(x.to(dtype)), draws_to_any_digit(x.to(dtype)))


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.7, 300.0])
def test_a_temperature_divides_the_logits(temperature):
    for dtype in DTYPES:
        x, _ = in_regimes(3, 10, dtype)
        truth = draws_to_any_digit(x, temperature=temperature)
        assert_draws(scored(x, temperature=temperature), truth)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["probs", "log_probs"])
@pytest.mark.parametrize(("n_draws", "n_classes"), SHAPES)
def test_probabilities(kind, n_draws, n_classes):
    for dtype in DTYPES:
        x = torch.log_softmax(draws_in_regimes(n_draws, n_classes, torch.float64), 2)
        x = (x.exp() if kind == "probs" else x).to(dtype)
        x = x[(x > -math.inf).any(2).all(1)]
        assert_draws(scored(x, kind=kind), draws_oracle(x, kind))


def test_probabilities_within_rounding_of_0_are_valid():
    x = torch.tensor([[[1.0005, -9e-4, 0.0], [0.5, 0.5, -1e-3]]])
    assert_draws(scored(x, kind="probs"), draws_oracle(x, "probs"))


def test_equal_draws_disagree_exactly_not():
    generator = torch.Generator().manual_seed(1)
    for n_classes in (2, 10, 31, 300):
        x = torch.randn(50, 1, n_classes, generator=generator).expand(-1, 7, -1)
        scores = scored(x)
        for name in ("bald", "kl_to_mean", "variance", "variation_ratio", "vote_entropy"):
            assert (scores[name] == 0).all(), name
            assert not scores[name].signbit().any(), name


def test_a_vote_is_for_the_first_of_equal_values():
    x = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [2.0, 2.0, 2.0]]])
    assert scored(x)["variation_ratio"].item() == 0.25


# --- values that other works publish


def test_divergences_of_two_draws():
    p = torch.tensor([[[0.3, 0.7], [0.4, 0.6]], [[0.2, 0.8], [0.5, 0.5]]], dtype=torch.float64)
    scores = scored(p.transpose(0, 1), kind="probs")
    want = [0.00670178182226764, 0.005059389928987596]
    for name in ("kl_to_mean", "bald"):
        assert scores[name].tolist() == pytest.approx(want, rel=1e-6)


def votes_for(classes):
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_votes_of_three_draws():
    scores = scored(votes_for([[0, 1, 2], [0, 0, 1], [2, 2, 2]]))
    two_to_one = -2 / 3 * math.log(2 / 3) - 1 / 3 * math.log(1 / 3)
    assert scores["vote_entropy"].tolist() == pytest.approx([math.log(3), two_to_one, 0])
    scores = scored(votes_for([[0, 0, 2], [1, 0, 2], [2, 1, 2], [0, 0, 0]]))
    assert scores["variation_ratio"].tolist() == pytest.approx([1 / 3, 2 / 3, 1 / 3, 0])


def test_bald_of_random_draws():
    p = np.random.RandomState(0).random(4000).reshape(10, 200, 2)
    p /= p.sum(2, keepdims=True)
    bald = scored(torch.tensor(p).transpose(0, 1), kind="probs")["bald"]
    assert bald.argmax().item() == 147
    assert bald.max().item() == pytest.approx(0.26082314, rel=1e-6)


# --- what is asked for


def test_scores_come_in_the_order_asked_for():
    x, _ = in_regimes(3, 10, torch.float32)
    every = scored(x)
    for asked in (["margin", "bald"], ["variance"], ["vote_entropy", "vote_entropy"], []):
        for name, got in zip(asked, draws(x, asked), strict=True):
            assert got.dtype == torch.float32
            assert torch.equal(got, every[name])


def test_an_unknown_measure_is_a_key_error():
    with pytest.raises(KeyError, match="doubt"):
        draws(torch.zeros(0, 1, 2), ["doubt"])


def test_no_items_have_no_scores():
    assert [len(score) for score in draws(torch.zeros(0, 3, 2), DRAWS_SCORES)] == [0] * 11


def test_defaults_are_logits_as_they_are():
    defaults = [p.default for p in inspect.signature(draws).parameters.values()][2:]
    assert defaults == ["logits", 1.0]


# --- invalid items


@pytest.mark.parametrize("kind", ["logits", "probs"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_invalid_draw_makes_an_item_invalid(kind, dtype):
    cases = INVALID_PROBS if kind == "probs" else INVALID
    good = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype)
    for wide in (False, True):  # narrow blocks are transposed
        x = good.expand(len(cases) + 2, 3, 4).clone()
        for item, case in enumerate(cases.values(), 1):
            x[item, item % 3] = torch.tensor(case, dtype=dtype)
        if wide:
            fill = 0.0 if kind == "probs" else -math.inf
            x = torch.cat([x, torch.full((len(x), 3, 60), fill, dtype=dtype)], 2)
        for name, values in scored(x, kind=kind).items():
            invalid = dict(zip(cases, values[1:-1].isnan().tolist(), strict=True))
            assert all(invalid.values()), (name, wide, invalid)
            assert not values[[0, -1]].isnan().any()


# --- blocks and layouts


@settings(max_examples=30, deadline=None)
@given(
    n_classes=st.sampled_from([2, 3, 31, 32, 65]),
    block_bytes=st.integers(1, 1 << 14),
    start=st.integers(0, 20),
)
def test_no_score_depends_on_its_block(n_classes, block_bytes, start):
    x = draws_in_regimes(3, n_classes, torch.float32)
    module = importlib.import_module("fastal.ops.reference.draws")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", block_bytes)
        cut = draws(x[start:], DRAWS_SCORES)
    for one, other in zip(draws(x, DRAWS_SCORES), cut, strict=True):
        assert torch.equal(one[start:], other)


@pytest.mark.parametrize("n_classes", [5, 40])
def test_every_layout(n_classes):
    x, truth = in_regimes(3, n_classes, torch.float32)
    wide = torch.full((len(x), 7, n_classes + 3), math.nan)
    wide[:, 1:7:2, 2:-1] = x
    layouts = {
        "draws first": x.transpose(0, 1).contiguous().transpose(0, 1),
        "classes first": x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "slices": wide[:, 1:7:2, 2:-1],
    }
    for name, y in layouts.items():
        before = y.clone()
        assert_draws(scored(y), truth)
        assert torch.equal(y, before), name


# --- the tests can fail


def wrong(name, x):
    """A plausible formula that is wrong."""
    p = torch.softmax(x, 2)
    m = p.mean(1)
    if name == "bald":  # float32 exponentials
        return (torch.special.entr(m).sum(1) - torch.special.entr(p).sum(2).mean(1)).clamp(min=0)
    if name == "variance":  # the difference of two squares
        return ((p * p).mean(1) - m * m).mean(1).clamp(min=0)
    if name == "expected_entropy":  # the logarithm of a rounded p
        return torch.special.entr(p).sum(2).mean(1)
    if name == "vote_entropy":  # in bits
        return torch.tensor(draws_oracle(x)["vote_entropy"] / math.log(2))
    return torch.special.entr(m).sum(1)  # the mean entropy of one class at nearly 1


@pytest.mark.parametrize(
    "name", ["bald", "variance", "expected_entropy", "vote_entropy", "mean_entropy"]
)
def test_wrong_formulas_are_caught(name):
    x, truth = in_regimes(10, 10, torch.float32)
    assert_draws(scored(x), truth)
    with pytest.raises(AssertionError, match=name):
        assert_draws({name: wrong(name, x)}, truth)
