"""The Triton kernels: signatures equal to the reference's, and the memory that they access."""

import inspect

import pytest
import torch

import fastal
from fastal.ops import reference
from fastal.ops.formulas import UNCERTAINTY_SCORES
from tests.support.matrices import AUTO_ON_CPU, DEVICE, KERNEL_DTYPES, ON_GPU, regimes
from tests.support.oracle import assert_scores, definitions, definitions_to_any_digit

SENTINEL = -1234.0


def test_twins_share_name_and_signature():
    from fastal_kernels import uncertainty as kernels

    for twin in ("uncertainty",):
        assert inspect.signature(getattr(kernels, twin)) == inspect.signature(
            getattr(reference, twin)
        )


def test_twins_take_the_same_measures():
    from fastal_kernels import uncertainty as kernels

    x = torch.randn(5, 4, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(0))
    for twin in (kernels, reference):
        first, second = twin.uncertainty(x, ["margin", "margin"])
        assert torch.equal(first, second)
        assert twin.uncertainty(x, []) == []
        with pytest.raises(KeyError):
            twin.uncertainty(x, ["doubt"])


@pytest.mark.parametrize(
    ("n_rows", "n_classes"),
    [*((n, 3) for n in (1, 511, 512, 513, 700)), *((n, 40) for n in (1, 127, 129)), (3, 1100)],
)
def test_only_the_outputs_are_written(monkeypatch, n_rows, n_classes):
    from fastal_kernels import uncertainty as kernels

    buffers = []

    def guarded_empty(m, n, *, dtype, device):
        buffers.append(torch.full((m * n + 4096,), SENTINEL, dtype=dtype, device=device))
        return buffers[-1][2048 : 2048 + m * n].view(m, n)

    monkeypatch.setattr(kernels.torch, "empty", guarded_empty)
    x = torch.zeros(n_rows, n_classes, device=DEVICE)
    scores = kernels.uncertainty(x, UNCERTAINTY_SCORES)
    (buffer,) = buffers
    for values in scores:
        assert (values == 1).all()
    assert (buffer[:2048] == SENTINEL).all()
    assert (buffer[2048 + 4 * n_rows :] == SENTINEL).all()


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", [2, 3, 33, 1025])
def test_only_the_rows_are_read(dtype, n_classes):
    """NaN surrounds the rows: if an element beyond a row counted, the row would be invalid."""
    from fastal_kernels.uncertainty import uncertainty

    x = regimes(n_classes, dtype)
    amid = torch.full((len(x) + 2, n_classes + 2), float("nan"), dtype=dtype)
    amid[1:-1, 1:-1] = x
    inside = amid.to(DEVICE)[1:-1, 1:-1]
    assert_scores(uncertainty(inside, UNCERTAINTY_SCORES), definitions(x))


@pytest.mark.skipif(DEVICE == "cuda", reason="changes the interpreter")
@pytest.mark.parametrize("n_classes", [3, 1000])
def test_an_exp2_that_flushes_to_zero_loses_no_tail(monkeypatch, n_classes):
    """NVIDIA's exp2 flushes. A tail of nearly or wholly subnormal terms must still count."""
    from triton.runtime.interpreter import InterpreterBuilder

    exp2 = InterpreterBuilder.create_exp2

    def flushing_exp2(builder, x):
        result = exp2(builder, x)
        result.data[abs(result.data) < torch.finfo(torch.float32).tiny] = 0
        return result

    monkeypatch.setattr(InterpreterBuilder, "create_exp2", flushing_exp2)
    x = torch.zeros(12, n_classes)
    x[:, 1:] = -torch.arange(80.0, 92.0)[:, None]
    assert_scores(fastal.score(x, backend="triton"), definitions_to_any_digit(x))


def test_backend_reasons_name_the_input(monkeypatch):
    reasons = fastal.backend_reasons(torch.zeros(2, 3, dtype=torch.float64, device=DEVICE))
    assert reasons["torch"] == []
    assert reasons["triton"] == [
        "torch.float64 rows: the kernels take float16, bfloat16 and float32"
    ]
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if not torch.cuda.is_available():  # else rows on a CPU are copied to it
        reasons = fastal.backend_reasons(torch.zeros(2, 3))
        assert reasons["triton"] == ["the rows are on cpu, not on a CUDA or ROCm device"]
        assert fastal.backend_reasons()["triton"] == ["torch sees no CUDA or ROCm device"]


def test_the_error_of_an_unusable_backend_has_every_reason(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    words = "torch.float64 rows" if ON_GPU else "the rows are on cpu.*; torch.float64 rows"
    words = f"'triton' cannot be used: {words}"
    with pytest.raises(ValueError, match=words):
        fastal.score(torch.zeros(2, 3, dtype=torch.float64), backend="triton")


def test_without_triton_other_backends_are_used(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "triton is not installed" in fastal.backend_reasons()["triton"][0]
    selector = fastal.Selector(1)
    selector.update(torch.zeros(2, 3))
    assert selector.backend_used == AUTO_ON_CPU


def test_auto_does_not_interpret():
    selector = fastal.Selector(1)
    selector.update(torch.zeros(2, 3))
    assert selector.backend_used == AUTO_ON_CPU
