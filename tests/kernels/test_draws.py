"""The kernel of scores of draws: agreement with the definitions, and the memory it accesses."""

import importlib
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.argument_values import DRAWS_SCORES
from fastal.ops import reference
from fastal.scoring.by_draws import DrawsScore
from fastal.scoring.model_output import ModelOutput
from fastal_kernels import draws as kernels
from fastal_kernels.draws import draws
from fastal_kernels.launch import drawn
from tests.support.draws import (
    assert_draws,
    draws_in_regimes,
    draws_oracle,
    draws_to_any_digit,
)
from tests.support.matrices import DEVICE, INVALID, INVALID_PROBS, KERNEL_DTYPES

SENTINEL = -1234.0
# By code path: one lane of two and of four classes; lanes with absent classes; lanes of several
# warps; one tile of 1024 classes, not full; several tiles.
NARROW = [(1, 2), (2, 2), (20, 3), (10, 10), (3, 33)]
WIDE = [(100, 5), (3, 300), (5, 1000), (2, 1025), (3, 2050)]
SEVERAL_TILES = 1500
TILED = pytest.param(SEVERAL_TILES, marks=pytest.mark.full)


def scored(x, measures=DRAWS_SCORES, **options):
    found = draws(x.to(DEVICE), measures, **options)
    return {name: scores.cpu() for name, scores in zip(measures, found, strict=True)}


def test_twins_share_name_and_signature():
    native = importlib.import_module("fastal_kernels.native.draws")
    for twin in (reference, native):
        assert inspect.signature(draws) == inspect.signature(twin.draws)


# --- agreement with the definitions


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize(("n_draws", "n_classes"), NARROW)
def test_every_regime_and_dtype(n_draws, n_classes, dtype):
    x = draws_in_regimes(n_draws, n_classes, dtype)
    assert_draws(scored(x), draws_oracle(x))


@pytest.mark.full
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize(("n_draws", "n_classes"), WIDE)
def test_every_regime_and_dtype_of_many_values(n_draws, n_classes, dtype):
    x = draws_in_regimes(n_draws, n_classes, dtype)[:: 7 if n_classes >= 300 else 2]
    assert_draws(scored(x), draws_oracle(x))


@pytest.mark.full
@pytest.mark.slow  # the native kernel has this test too, which takes a moment
def test_131072_classes():
    x = draws_in_regimes(2, 131_072, torch.float32)[[2, 4, 27, 46]]
    assert_draws(scored(x), draws_oracle(x))


@pytest.mark.parametrize("n_classes", [2, 5, 40, TILED])
def test_confidence_beyond_float64(n_classes):
    generator = torch.Generator().manual_seed(0)
    gaps = torch.arange(1.0, 86.0, 28 if n_classes > 100 else 12)
    x = torch.zeros(len(gaps), 3, n_classes)
    x[:, :, 0] = gaps[:, None]
    x[:, :, 1] -= torch.rand(len(gaps), 3, generator=generator)
    for dtype in KERNEL_DTYPES:
        assert_draws(scored(x.to(dtype)), draws_to_any_digit(x.to(dtype)))


@pytest.mark.parametrize("temperature", [0.05, 1.7, 300.0])
@pytest.mark.parametrize("n_classes", [5, TILED])
def test_a_temperature_divides_the_logits(n_classes, temperature):
    x = draws_in_regimes(3, n_classes, torch.float32)[:: 2 if n_classes < 100 else 25]
    truth = draws_to_any_digit(x, temperature=temperature)
    assert_draws(scored(x, temperature=temperature), truth)
    assert_draws(scored(x, kind="log_probs", temperature=temperature), truth)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["probs", "log_probs"])
@pytest.mark.parametrize(("n_draws", "n_classes"), [*NARROW, *WIDE])
def test_probabilities(kind, n_draws, n_classes):
    for dtype in KERNEL_DTYPES if n_classes < 100 else [torch.bfloat16]:
        x = draws_in_regimes(n_draws, n_classes, torch.float64)[:: 7 if n_classes >= 1000 else 1]
        x = torch.log_softmax(x, 2)
        x = (x.exp() if kind == "probs" else x).to(dtype)
        x = x[(x > -math.inf).any(2).all(1)]
        assert_draws(scored(x, kind=kind), draws_oracle(x, kind))


def test_probabilities_within_rounding_of_0_are_valid():
    x = torch.tensor([[[1.0005, -9e-4, 0.0], [0.5, 0.5, -1e-3]]])
    assert_draws(scored(x, kind="probs"), draws_oracle(x, "probs"))


@pytest.mark.parametrize("n_classes", [2, 10, 300, SEVERAL_TILES])
def test_equal_draws_disagree_exactly_not(n_classes):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 1, n_classes, generator=generator).expand(-1, 7, -1)
    scores = scored(x)
    for name in ("bald", "kl_to_mean", "variance", "variation_ratio", "vote_entropy"):
        assert (scores[name] == 0).all(), name
        assert not scores[name].signbit().any(), name


@pytest.mark.parametrize(
    ("n_classes", "classes"), [(3, [0, 1, 2]), (300, [7, 8, 290]), (3000, [3, 1500, 2900])]
)
def test_a_vote_is_for_the_first_of_equal_values(n_classes, classes):
    x = torch.full((1, 4, n_classes), -9.0)
    x[..., classes] = torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 1], [2, 2, 2]])
    assert scored(x)["variation_ratio"].item() == 0.25


def test_bald_of_random_draws():
    """Published values: see the tests of the definition."""
    p = np.random.RandomState(0).random(4000).reshape(10, 200, 2)
    p /= p.sum(2, keepdims=True)
    bald = scored(torch.tensor(p).float().transpose(0, 1), kind="probs")["bald"]
    assert bald.argmax().item() == 147
    assert bald.max().item() == pytest.approx(0.26082314, rel=1e-6)


# --- what is asked for


@pytest.mark.parametrize("n_classes", [10, TILED])
def test_a_score_has_the_same_bits_whatever_else_is_asked_for(n_classes):
    x = draws_in_regimes(3, n_classes, torch.float32)[:: 3 if n_classes < 100 else 25]
    every = scored(x)
    for name in DRAWS_SCORES:
        assert torch.equal(scored(x, [name])[name], every[name]), name
    first, second = draws(x.to(DEVICE), ["margin", "margin"])
    assert torch.equal(first, second)
    assert draws(x.to(DEVICE), []) == []


def test_an_unknown_measure_is_a_key_error():
    with pytest.raises(KeyError, match="doubt"):
        draws(torch.zeros(1, 1, 2, device=DEVICE), ["doubt"])


# --- through the public functions


# Two roundings to float32 of sums in different orders; BALD is off by some 2^-50 besides.
def assert_same_scores(found, want):
    assert found._fields == want._fields == DRAWS_SCORES
    for name, one, other in zip(found._fields, found, want, strict=True):
        torch.testing.assert_close(one, other, rtol=2.0**-23, atol=1e-14, equal_nan=True, msg=name)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.7}, {"kind": "probs"}])
def test_scores_equal_those_of_torch(options):
    x = torch.randn(40, 5, 7, generator=torch.Generator().manual_seed(0))
    x = torch.softmax(x, 2) if options.get("kind") == "probs" else x
    x[3, 2, 1] = math.nan
    options |= {"draws_axis": 1, "on_invalid": "skip"}
    found = fastal.score(x, backend="triton", **options)
    assert_same_scores(found, fastal.score(x, backend="torch", **options))
    assert found.bald.isnan().tolist() == [row == 3 for row in range(40)]


def test_picks_equal_those_of_torch():
    x = torch.randn(40, 7, 5, generator=torch.Generator().manual_seed(0))
    options = {"k": 6, "by": "bald", "draws_axis": 2, "class_axis": 1, "temperature": 0.5}
    found = fastal.select(x, backend="triton", **options)
    assert found.rows.tolist() == fastal.select(x, backend="torch", **options).rows.tolist()
    measure = DrawsScore(("bald",), ModelOutput(draws_axis=2, class_axis=1))
    assert measure.choose(x, "triton") == "triton"
    assert measure.choose(x.double(), "auto") == "torch"


# --- invalid items


@pytest.mark.parametrize("kind", ["logits", "probs"])
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", [4, TILED])
def test_one_invalid_draw_makes_an_item_invalid(kind, dtype, n_classes):
    cases = INVALID_PROBS if kind == "probs" else INVALID
    good = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype)
    x = good.expand(len(cases) + 2, 3, 4).clone()
    for item, case in enumerate(cases.values(), 1):
        x[item, item % 3] = torch.tensor(case, dtype=dtype)
    fill = 0.0 if kind == "probs" else -math.inf
    absent = torch.full((len(x), 3, n_classes - 4), fill, dtype=dtype)
    for y in (torch.cat([x, absent], 2), torch.cat([absent, x], 2)):
        for name, values in scored(y, kind=kind).items():
            invalid = dict(zip(cases, values[1:-1].isnan().tolist(), strict=True))
            assert all(invalid.values()), (name, invalid)
            assert not values[[0, -1]].isnan().any()


# --- items, layouts and memory


@pytest.mark.parametrize("n_items", [0, 1, 127, 129])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_any_number_of_items(n_items, n_classes):
    x = draws_in_regimes(2, n_classes, torch.float32).repeat(2, 1, 1)[:n_items]
    assert_draws(scored(x), draws_oracle(x))


@pytest.mark.parametrize("n_classes", [5, TILED])
def test_every_layout_has_the_same_bits(n_classes):
    """NaN surrounds the slices: an element beyond an item would make it invalid."""
    x = draws_in_regimes(3, n_classes, torch.float32)[:: 3 if n_classes < 100 else 25]
    wide = torch.full((len(x), 7, n_classes + 3), math.nan, device=DEVICE)
    wide[:, 1:7:2, 2:-1] = x.to(DEVICE)
    layouts = {
        "draws first": x.transpose(0, 1).contiguous().to(DEVICE).transpose(0, 1),
        "classes first": x.permute(2, 0, 1).contiguous().to(DEVICE).permute(1, 2, 0),
        "slices": wide[:, 1:7:2, 2:-1],
    }
    want = scored(x)
    for name, y in layouts.items():
        for score, values in scored(y).items():
            assert torch.equal(values, want[score]), (name, score)


@settings(max_examples=8, deadline=None)
@given(
    shape=st.sampled_from([(3, 2), (20, 10), (2, 33), (2, 300)]),
    start=st.integers(0, 20),
    n_items=st.integers(0, 40),
)
def test_no_bit_depends_on_the_other_items(shape, start, n_items):
    x = draws_in_regimes(*shape, torch.float32)
    whole, part = scored(x), scored(x[start : start + n_items])
    for name, values in part.items():
        assert torch.equal(values, whole[name][start : start + n_items])


def test_a_program_may_score_several_items_in_turn(monkeypatch):
    x = draws_in_regimes(2, SEVERAL_TILES, torch.float32)[::20]
    want = scored(x)
    monkeypatch.setattr(kernels, "_MOST_PROGRAMS", 2)
    for name, values in scored(x).items():
        assert torch.equal(values, want[name]), name


@pytest.mark.parametrize(("n_items", "n_classes"), [(1, 3), (129, 3), (5, 40), (2, 1500)])
def test_only_the_outputs_are_written(monkeypatch, n_items, n_classes):
    buffers = []

    def guarded_empty(m, n, *, dtype, device):
        buffers.append(torch.full((m * n + 4096,), SENTINEL, dtype=dtype, device=device))
        return buffers[-1][2048 : 2048 + m * n].view(m, n)

    monkeypatch.setattr(kernels.torch, "empty", guarded_empty)
    found = draws(torch.zeros(n_items, 2, n_classes, device=DEVICE), ["margin", "bald"])
    (buffer,) = buffers
    assert (found[0] == 1).all() and (found[1] == 0).all()
    assert (buffer[:2048] == SENTINEL).all()
    assert (buffer[2048 + 2 * n_items :] == SENTINEL).all()


@given(n_classes=st.one_of(st.integers(2, 1500), st.integers(2, 262_144)))
def test_a_program_has_whole_warps(n_classes):
    config = drawn(n_classes)
    for n in (config.V, config.R, config.G):
        assert n > 0 and n & (n - 1) == 0
    assert config.threads in (128, 256)
    assert config.R == 1 or config.V * config.G >= n_classes  # several tiles are of one item


# --- the tests can fail


@pytest.mark.parametrize("name", ["bald", "variance", "mean_entropy"])
def test_wrong_formulas_are_caught(name):
    x = draws_in_regimes(10, 10, torch.float32)
    p = torch.softmax(x, 2)  # float32 exponentials
    m = p.mean(1)
    entr = torch.special.entr
    wrong = {
        "bald": (entr(m).sum(1) - entr(p).sum(2).mean(1)).clamp(min=0),
        "variance": ((p * p).mean(1) - m * m).mean(1).clamp(min=0),
        "mean_entropy": entr(m).sum(1),
    }
    with pytest.raises(AssertionError, match=name):
        assert_draws({name: wrong[name]}, draws_oracle(x))
