"""Scores of draws on CPUs, in every variant: the definitions, layouts, threads and bits."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.base.argument_values import DRAWS_SCORES
from fastal_kernels import native
from fastal_kernels.native.draws import DTYPES, draws
from tests.support.draws import (
    assert_draws,
    draws_in_regimes,
    draws_oracle,
    draws_to_any_digit,
)
from tests.support.matrices import INVALID, INVALID_PROBS

# The last two are larger than what each lane holds of one item.
SHAPES = [(1, 2), (2, 2), (20, 10), (100, 5), (3, 31), (5, 64), (3, 1025), (5, 1000)]

pytestmark = pytest.mark.skipif(bool(native.reasons()), reason="the native kernels are missing")


@pytest.fixture(params=native.variants(), autouse=True)
def variant(request, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, request.param)
    return request.param


@functools.cache
def regimes_and_truth(n_draws, n_classes, dtype):
    x = draws_in_regimes(n_draws, n_classes, dtype)
    return x, draws_oracle(x)


def scored(x, **options):
    return dict(zip(DRAWS_SCORES, draws(x, DRAWS_SCORES, **options), strict=True))


@pytest.mark.full
@pytest.mark.parametrize(("n_draws", "n_classes"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_regime_and_dtype(n_draws, n_classes, dtype):
    x, truth = regimes_and_truth(n_draws, n_classes, dtype)
    assert_draws(scored(x), truth)


@pytest.mark.full
def test_many_classes():
    x = draws_in_regimes(2, 131_072, torch.float32)[::5]
    assert_draws(scored(x), draws_oracle(x))


@functools.cache
def confident_and_truth(n_classes, dtype):
    gaps = torch.arange(1.0, 86.0, 28 if n_classes > 100 else 4)
    x = torch.zeros(len(gaps), 3, n_classes)
    x[:, :, 0] = gaps[:, None]
    x[:, :, 1] -= torch.rand(len(gaps), 3, generator=torch.Generator().manual_seed(0))
    x = x.to(dtype)
    return x, draws_to_any_digit(x)


@pytest.mark.parametrize("n_classes", [2, 5, 40, 3000])
def test_confidence_beyond_float64(n_classes):
    for dtype in DTYPES if n_classes < 100 else [torch.float32]:
        x, truth = confident_and_truth(n_classes, dtype)
        assert_draws(scored(x), truth)


@functools.cache
def tempered_and_truth(n_classes, temperature):
    x = draws_in_regimes(3, n_classes, torch.float32)[:: 2 if n_classes < 100 else 31]
    return x, draws_to_any_digit(x, temperature=temperature)


@pytest.mark.parametrize("temperature", [0.05, 1.7, 300.0])
@pytest.mark.parametrize("n_classes", [10, 1400])
def test_a_temperature_divides_the_logits(n_classes, temperature):
    x, truth = tempered_and_truth(n_classes, temperature)
    assert_draws(scored(x, temperature=temperature), truth)


@pytest.mark.full
@pytest.mark.parametrize(("n_draws", "n_classes"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities(n_draws, n_classes, dtype):
    x = torch.log_softmax(draws_in_regimes(n_draws, n_classes, torch.float64), 2).exp().to(dtype)
    assert_draws(scored(x, kind="probs"), draws_oracle(x, "probs"))


def test_equal_draws_disagree_exactly_not():
    generator = torch.Generator().manual_seed(1)
    for n_classes in (2, 10, 300, 3000):
        x = torch.randn(50, 1, n_classes, generator=generator).expand(-1, 7, -1)
        scores = scored(x)
        for name in ("bald", "kl_to_mean", "variance", "variation_ratio", "vote_entropy"):
            assert (scores[name] == 0).all(), name
            assert not scores[name].signbit().any(), name


@pytest.mark.parametrize("n_classes", [3, 2000])
def test_a_vote_is_for_the_first_of_equal_values(n_classes):
    x = torch.full((1, 4, n_classes), -9.0)
    x[..., :3] = torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 1], [2, 2, 2]])
    assert scored(x)["variation_ratio"].item() == 0.25


@pytest.mark.parametrize("kind", ["logits", "probs"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [4, 64, 1500])
def test_one_invalid_draw_makes_an_item_invalid(kind, dtype, n_classes):
    cases = INVALID_PROBS if kind == "probs" else INVALID
    good = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype)
    x = good.expand(len(cases) + 2, 3, 4).clone()
    for item, case in enumerate(cases.values(), 1):
        x[item, item % 3] = torch.tensor(case, dtype=dtype)
    fill = 0.0 if kind == "probs" else -math.inf
    x = torch.cat([x, torch.full((len(x), 3, n_classes - 4), fill, dtype=dtype)], 2)
    for name in DRAWS_SCORES:  # each alone, since some sums are left out where nothing needs them
        (values,) = draws(x, [name], kind=kind)
        invalid = dict(zip(cases, values[1:-1].isnan().tolist(), strict=True))
        assert all(invalid.values()), (name, invalid)
        assert not values[[0, -1]].isnan().any()


@pytest.mark.parametrize("n_classes", [5, 1500])
def test_every_layout_has_the_same_bits(n_classes):
    x = draws_in_regimes(3, n_classes, torch.float32)
    wide = torch.full((len(x), 7, n_classes + 3), math.nan)
    wide[:, 1:7:2, 2:-1] = x
    layouts = {
        "draws first": x.transpose(0, 1).contiguous().transpose(0, 1),
        "classes first": x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "slices": wide[:, 1:7:2, 2:-1],
    }
    want = scored(x)
    for name, y in layouts.items():
        for score, values in scored(y).items():
            assert torch.equal(values, want[score]), (name, score)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(3, 2), (20, 10), (2, 33), (3, 1500)]),
    start=st.integers(0, 20),
    n_items=st.integers(0, 40),
)
def test_no_bit_depends_on_the_other_items(shape, start, n_items):
    x = draws_in_regimes(*shape, torch.float32)
    whole, part = scored(x), scored(x[start : start + n_items])
    for name, values in part.items():
        assert torch.equal(values, whole[name][start : start + n_items])


def test_bits_do_not_depend_on_threads(threads, monkeypatch):
    monkeypatch.setattr(native, "LEAST_SHARE", 1)
    x = torch.randn(500, 20, 10, generator=torch.Generator().manual_seed(0))
    threads(1)
    alone = scored(x)
    threads(5)
    for name, values in scored(x).items():
        assert torch.equal(values, alone[name])


def test_float32_exponentials_are_caught():
    x = draws_in_regimes(10, 10, torch.float32)
    p = torch.softmax(x, 2)
    entr = torch.special.entr
    wrong = scored(x) | {"bald": (entr(p.mean(1)).sum(1) - entr(p).sum(2).mean(1)).clamp(min=0)}
    with pytest.raises(AssertionError, match="bald"):
        assert_draws(wrong, draws_oracle(x))
