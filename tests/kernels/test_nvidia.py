"""The kernels as they run on NVIDIA: with packed values and the worst allowed approximations."""

import functools
import math

import pytest
import torch

from tests.support.matrices import INVALID, INVALID_PROBS, KERNEL_DTYPES, ON_GPU, far_apart, regimes
from tests.support.oracle import assert_scores, definitions, definitions_to_any_digit

pytestmark = pytest.mark.skipif(ON_GPU, reason="imitates a GPU")
# By code path: one row and several a thread; 2, 4, 8 lanes a row, without a loop and with one;
# loads of 16 bytes, of 8, and from any address.
CLASSES = [2, 3, 10, 33, 100, 257, 1000, 1001]


@pytest.fixture(params=[1, -1], ids=["all errors up", "all errors down"])
def scored(request, monkeypatch):
    """The scores of the kernels as sm_90 computes them or, with pairs, sm_100."""
    from fastal_kernels import uncertainty as kernels
    from fastal_kernels.launch import Isa
    from tests.support.nvidia import imitate

    imitate(monkeypatch, request.param)

    def scored(x, kind="logits", pairs=False, temperature=1.0):
        monkeypatch.setattr(kernels, "isa_of", lambda device: Isa(ptx=True, pairs=pairs))
        return kernels.uncertainty(x, kernels.UNCERTAINTY_SCORES, kind, temperature)

    return scored


@pytest.mark.full
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", CLASSES)
def test_every_regime(scored, n_classes, dtype):
    x = regimes(n_classes, dtype)
    assert_scores(scored(x), definitions(x))
    if n_classes > 32:
        assert_scores(scored(x, pairs=True), definitions(x))


@pytest.mark.parametrize("n_classes", [3, 40, 300])
def test_the_range_of_float16(scored, n_classes):
    """In float16, losers are clamped to a number that a logit may have."""
    x = torch.full((6, n_classes), -math.inf)
    x[:, 1] = torch.tensor([-65504.0, -65472, -65472, -32736, -32800, 65504])
    x[1:3, 2], x[2:5, 0], x[5, 2] = -65504, -65504, 65472
    x = x.half()
    assert_scores(scored(x), definitions(x))


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", [2, 10, 40, 300])
def test_gaps(scored, n_classes, dtype):
    gaps = torch.arange(1.0, 86.0, 3)
    x = torch.zeros(len(gaps), n_classes)
    x[:, 0] = gaps
    x[:, 1] -= torch.rand(len(gaps), generator=torch.Generator().manual_seed(0))
    assert_scores(scored(x.to(dtype)), definitions_to_any_digit(x.to(dtype)))


@functools.cache
def at_temperature(n_classes, dtype, temperature):
    """Rows of every regime and every gap, and their scores."""
    gaps = temperature * torch.arange(1.0, 86.0, 9)
    confident = torch.zeros(len(gaps), n_classes)
    confident[:, 0] = gaps
    confident[:, 1] -= torch.rand(len(gaps), generator=torch.Generator().manual_seed(0))
    x = torch.cat([regimes(n_classes, dtype), confident.to(dtype)])
    return x, definitions_to_any_digit(x, temperature)


@pytest.mark.full
@pytest.mark.parametrize("temperature", [0.01, 1.7])
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", [2, 10, 40, 200])
def test_a_temperature(scored, n_classes, dtype, temperature):
    x, truth = at_temperature(n_classes, dtype, temperature)
    for pairs in (False, True)[: 1 + (n_classes > 32)]:
        assert_scores(scored(x, pairs=pairs, temperature=temperature), truth)


@pytest.mark.full
@pytest.mark.parametrize("n_classes", [2, 10, 40, 1000])
@pytest.mark.parametrize("kind", ["logits", "probs"])
def test_many_terms_too_small_for_float32(scored, n_classes, kind):
    for dtype in KERNEL_DTYPES if kind == "logits" else KERNEL_DTYPES[1:]:
        x = far_apart(n_classes, dtype, kind)
        truth = definitions_to_any_digit(x if kind == "logits" else x.double().log())
        assert_scores(scored(x, kind, pairs=n_classes > 32), truth)


@pytest.mark.full
@pytest.mark.parametrize("n_classes", [2, 10, 40, 1000])
def test_probabilities(scored, n_classes):
    x = torch.softmax(regimes(n_classes, torch.float64).clamp(-1e4, 1e4), 1)
    faint = torch.zeros(3, n_classes, dtype=torch.float64)
    faint[:, 1:] = torch.tensor([[1e-30], [1e-38], [1e-40]])
    faint[:, 0] = 1
    for dtype in KERNEL_DTYPES:
        p = torch.cat([x, faint[: 1 if dtype == torch.bfloat16 else 3]]).to(dtype)
        assert_scores(scored(p, "probs"), definitions_to_any_digit(p.double().log()))


@pytest.mark.parametrize(("kind", "cases"), [("logits", INVALID), ("probs", INVALID_PROBS)])
@pytest.mark.parametrize("n_classes", [4, 60])
def test_invalid_rows(scored, kind, cases, n_classes):
    good = [0.1, 0.2, 0.3, 0.4]
    for dtype in KERNEL_DTYPES:
        x = torch.tensor([good, *cases.values(), good], dtype=dtype)
        fill = torch.full((len(x), n_classes - 4), 0.0 if kind == "probs" else -math.inf)
        for values in scored(torch.cat([x, fill.to(dtype)], 1), kind):
            assert values[1:-1].isnan().all()
            assert not values[[0, -1]].isnan().any()


def test_a_cruder_approximation_is_caught(scored, monkeypatch):
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    exp2 = InterpreterBuilder.create_exp2
    cruder = lambda builder, x: TensorHandle(exp2(builder, x).data * 1.0001, x.dtype.scalar)  # noqa: E731
    monkeypatch.setattr(InterpreterBuilder, "create_exp2", cruder)
    x = regimes(100, torch.bfloat16)
    with pytest.raises(AssertionError):
        assert_scores(scored(x), definitions(x))
