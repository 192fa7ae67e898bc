"""A temperature in the Triton kernels, against the definition of softmax(x / T)."""

import math

import pytest
import torch

import fastal
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal_kernels import uncertainty as kernels
from fastal_kernels.temperature import at_temperature
from tests.support.matrices import DEVICE, KERNEL_DTYPES, regimes
from tests.support.oracle import assert_scores, definitions_to_any_digit

TEMPERATURES = [0.01, 0.5, 1.7, 30.0]


def scored(x, temperature, kind="logits"):
    return kernels.uncertainty(x.to(DEVICE), UNCERTAINTY_SCORES, kind, temperature)


def confident(n_classes, temperature):
    """Rows whose maximum is 1 to 86 T above all else."""
    gaps = torch.arange(1.0, 86.0, 3, dtype=torch.float64)
    x = torch.zeros(len(gaps), n_classes, dtype=torch.float64)
    x[:, 0] = gaps
    x[:, 1] -= torch.rand(len(gaps), generator=torch.Generator().manual_seed(0))
    return temperature * x


@pytest.mark.full
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", [2, 3, 10, 33, 200])
def test_every_regime(n_classes, dtype, temperature):
    x = regimes(n_classes, dtype)
    assert_scores(scored(x, temperature), definitions_to_any_digit(x, temperature))


@pytest.mark.parametrize("temperature", [1e-6, *TEMPERATURES, 1e6])
@pytest.mark.parametrize("n_classes", [2, 10, 40])
def test_gaps(n_classes, temperature):
    for dtype in KERNEL_DTYPES:
        largest = torch.finfo(dtype).max
        x = confident(n_classes, temperature).clamp(-largest, largest).to(dtype)
        assert_scores(scored(x, temperature), definitions_to_any_digit(x, temperature))


@pytest.mark.parametrize("temperature", [1e-6, 0.02, 60.0, 300.0, 511.0, 600.0, 1e6])
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", [3, 40, 300])
def test_the_limits_of_the_sums(n_classes, dtype, temperature):
    """Maxima on both sides of the limits from which on rows are read twice, and at the range's."""
    largest = torch.finfo(dtype).max
    limits = [2.0**19 * temperature, 2.0**15, max(0.0, 65504 - 128 * temperature), 65504.0]
    tops = [sign * limit * by for limit in limits for sign in (1, -1) for by in (0.99, 1, 1.01)]
    tops += [0.0, largest, -largest]
    x = torch.tensor(tops, dtype=torch.float64)[:, None].repeat(1, n_classes)
    x[:, 1] -= 2 * temperature
    x[:, 2] = -math.inf
    x[1::2, 0] -= 100 * temperature
    x = x.clamp(max=largest).to(dtype)
    x = x[(x > -math.inf).any(1)]
    assert_scores(scored(x, temperature), definitions_to_any_digit(x, temperature))


@pytest.mark.full
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_parts_of_a_row(dtype):
    x = 3 * torch.randn(2, 140_001, generator=torch.Generator().manual_seed(0))
    x = (64 * x).round() / 64  # few values for the definition
    x[1, ::3] = -math.inf
    x = x.to(dtype)
    assert_scores(scored(x, 0.5), definitions_to_any_digit(x, 0.5))


@pytest.mark.parametrize("n_classes", [2, 40])
def test_selections_are_by_the_same_scores(n_classes):
    x = 3 * torch.randn(300, n_classes, generator=torch.Generator().manual_seed(0))
    options = {"temperature": 4.0, "backend": "triton"}
    picks = fastal.select(x.to(DEVICE), 20, "margin", **options)
    margin = fastal.score(x.to(DEVICE), **options).margin
    assert picks.rows.tolist() == margin.argsort(descending=True, stable=True)[:20].tolist()
    assert torch.equal(picks.scores, margin[picks.rows])


@pytest.mark.parametrize("n_classes", [3, 40])
def test_log_probabilities_take_a_temperature(n_classes):
    x = torch.log_softmax(torch.randn(9, n_classes, generator=torch.Generator().manual_seed(0)), 1)
    assert_scores(scored(x, 1.7, "log_probs"), definitions_to_any_digit(x, 1.7))


# --- the tests can fail


@pytest.mark.parametrize("n_classes", [10, 40])
def test_a_division_before_the_difference_is_caught(n_classes):
    x = 1e4 + torch.randn(20, n_classes, generator=torch.Generator().manual_seed(0))
    truth = definitions_to_any_digit(x, 1.7)
    assert_scores(scored(x, 1.7), truth)
    with pytest.raises(AssertionError):
        assert_scores(scored(x * (1 / 1.7), 1.0), truth)


@pytest.mark.parametrize("name", ["log2_e", "ln_2", "minus_ln_2_low", "floor", "per_temperature"])
@pytest.mark.parametrize("n_classes", [10, 40])
def test_a_constant_of_another_temperature_is_caught(monkeypatch, n_classes, name):
    x = confident(n_classes, 1.7).float()
    truth = definitions_to_any_digit(x, 1.7)
    if (n_classes, name) in ((10, "ln_2"), (40, "floor")):
        pytest.skip("unused, or without effect in these rows")

    def wrong(temperature, dtype):
        right = at_temperature(temperature, dtype)
        return right._replace(**{name: getattr(at_temperature(1.0, dtype), name)})

    monkeypatch.setattr(kernels, "at_temperature", wrong)
    with pytest.raises(AssertionError):
        assert_scores(scored(x, 1.7), truth)
