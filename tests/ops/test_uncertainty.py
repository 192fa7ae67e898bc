"""The accuracy contract: every score, backend, dtype, regime and layout against the definitions."""

import functools
import importlib
import math

import numpy as np
import pytest
import torch

import fastal
from fastal.ops.formulas import FORMULAS, Statistics
from fastal.testing import check_scores
from tests.support.matrices import (
    CLASSES,
    DTYPES,
    INVALID,
    INVALID_PROBS,
    KERNEL_DTYPES,
    far_apart,
    layouts,
    regimes,
)
from tests.support.oracle import (
    assert_scores,
    definitions,
    definitions_to_any_digit,
    of_probabilities,
)

MUNRO = [0.0321, 0.6439, 0.0871, 0.2369]


def dtypes(backend):
    return KERNEL_DTYPES if backend == "triton" else DTYPES


def scored(x, backend, **options):
    name, device = backend
    return fastal.score(x.to(device), backend=name, **options)


def test_the_two_oracles_agree():
    x = regimes(10, torch.float64)[[0, 1, 2, 3, 4, 6, 8, 9]]
    for rough, fine in zip(definitions(x), definitions_to_any_digit(x), strict=True):
        np.testing.assert_allclose(rough.astype(float), fine.astype(float), rtol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
def test_every_backend_passes_the_public_checks(backend, on_invalid):
    few = {"kinds": ["logits", "probs"], "dtypes": [torch.bfloat16], "n_classes": [33]}
    check_scores(
        lambda x, kind: scored(x, backend, kind=kind, on_invalid=on_invalid),
        on_invalid=on_invalid,
        same_bits=backend != ("torch", "cuda"),  # torch's own CUDA sums depend on the block
        **(few if backend == ("triton", "cpu") else {"dtypes": dtypes(backend[0])}),
    )


@pytest.mark.parametrize("n_classes", CLASSES)
def test_every_regime_and_dtype(backend, n_classes):
    for dtype in dtypes(backend[0]):
        x = regimes(n_classes, dtype)
        assert_scores(scored(x, backend), definitions(x))


@pytest.mark.full
def test_the_most_classes(backend):
    x = regimes(262_144, torch.float32)
    assert_scores(scored(x, backend), definitions(x))


def test_confidence_beyond_float64(backend):
    gaps = torch.arange(1.0, 86.0)
    for n_classes in (2, 5, 40):
        x = torch.zeros(len(gaps), n_classes)
        x[:, 0] = gaps
        x[:, 1] -= torch.rand(len(gaps), generator=torch.Generator().manual_seed(0))
        for dtype in dtypes(backend[0]):
            truth = definitions_to_any_digit(x.to(dtype))
            assert_scores(scored(x.to(dtype), backend), truth)


@functools.cache
def far(n_classes, dtype, kind):
    x = far_apart(n_classes, dtype, "probs" if kind == "probs" else "logits")
    if kind == "huge logits":  # GPU kernels score such rows in a second read
        x = (x.double() + (40_000 if dtype == torch.float16 else 1.5 * 2**19)).to(dtype)
    return x, exactly(x, kind)


@pytest.mark.parametrize("kind", ["logits", "huge logits", "probs"])
@pytest.mark.parametrize("n_classes", [2, 3, 31, 33, 257, 1001, 262_144])
def test_many_terms_too_small_for_float32(backend, n_classes, kind):
    """Each term is below 1.2e-38, where float32 has few digits or none, but their sum is not."""
    if backend[0] == "triton" and n_classes > 10_000 and kind == "huge logits":
        pytest.skip("its second look takes the interpreter long, and knows no number of classes")
    for dtype in dtypes(backend[0]):
        if dtype != torch.float16 or kind != "probs":  # the smallest float16 is 6e-8
            x, truth = far(n_classes, dtype, kind)
            assert_scores(scored(x, backend, kind=kind.removeprefix("huge ")), truth)


@pytest.mark.parametrize("n_classes", [2, 5, 300])
def test_scores_fall_as_the_maximum_rises(backend, n_classes):
    """Scores fall down to 0, even the smallest ones."""
    gaps = torch.cat([torch.arange(60, 130), torch.tensor([200, 1e4, 1e30, math.inf])])
    for dtype in dtypes(backend[0]):
        x = -gaps[:, None].expand(-1, n_classes).to(dtype)
        x = torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], 1)
        for values in scored(x, backend):
            assert (values.diff() <= 0).all()
            assert values[-1] == 0


def hexadecimal(*values):
    return [float.fromhex(value) for value in values]


@pytest.mark.parametrize("kind", ["logits", "probs"])
def test_roundings_with_one_sign(backend, kind):
    """In these rows, each step of a plain float32 sum of exponentials rounds in one direction."""
    x = torch.full((1, 65_536), -math.inf if kind == "logits" else 0.0)
    if kind == "logits":
        most, first, second = hexadecimal("-0x1.624028p+5", "0x1.4d59f4p+5", "-0x1.ba543cp+4")
    else:
        most, first, second = hexadecimal("0x1.001b10p-119", "0x1.001b42p+0", "0x1.02d626p-95")
    x[0, ::1024] = x[0, 8:128:8] = most
    x[0, 0], x[0, 1024] = first, second
    assert_scores(scored(x, backend, kind=kind), exactly(x, kind))
    if kind == "probs":
        x = torch.tensor([[*hexadecimal("0x1.000b40p+0", "0x1.0117bap-100"), 0.0]])
        assert_scores(scored(x, backend, kind=kind), exactly(x, kind))


@pytest.mark.full
@pytest.mark.parametrize("kind", ["logits", "probs"])
@pytest.mark.parametrize("n_classes", [3, 33, 1025])
def test_faint_tails(backend, kind, n_classes):
    """The tail is far below the maximum, where the rounding of a difference costs most."""
    generator = torch.Generator().manual_seed(n_classes)
    gaps = 30 + 55 * torch.rand(20, n_classes, generator=generator)
    x = 10 * torch.rand(20, 1, generator=generator) - gaps
    x[:, 1] = x.amax(1) + 30
    if kind == "probs":
        x = torch.exp(-gaps.double()).float()
        x[:, 1] = 1 + 1e-4 * torch.rand(20, generator=generator)
    assert_scores(scored(x, backend, kind=kind), exactly(x, kind))


def exactly(x, kind):
    return definitions_to_any_digit(x.double().log() if kind == "probs" else x)


@pytest.mark.parametrize("kind", ["probs", "log_probs"])
@pytest.mark.parametrize("n_classes", [2, 3, 10, 32, 33, 1000, 1025])
def test_probabilities(backend, kind, n_classes):
    for dtype in dtypes(backend[0]):
        logits = regimes(n_classes, torch.float64).clamp(-1e4, 1e4)
        x = torch.log_softmax(logits, 1)
        if kind == "probs":
            x = x.exp().to(dtype)
            p = x.double().numpy().astype(np.longdouble)
            truth = of_probabilities(p / p.sum(1, keepdims=True), n_classes)
        else:
            x = x.to(dtype)
            truth = definitions(x)
        assert_scores(scored(x, backend, kind=kind), truth)


@pytest.mark.parametrize("n_classes", [5, 31, 32, 300])
def test_every_layout(backend, n_classes):
    for dtype in dtypes(backend[0]):
        for name, x in layouts(regimes(n_classes, dtype)).items():
            before = x.clone()
            scores = scored(x, backend)
            assert torch.equal(x, before) or x.isnan().any(), name
            assert_scores(scores, definitions(x))


@pytest.mark.parametrize("n_rows", [0, 1, 37, 340, 341, 342, 1024, 1025])
@pytest.mark.parametrize("n_classes", [2, 3, 100])
def test_every_number_of_rows(backend, monkeypatch, n_rows, n_classes):
    monkeypatch.setattr(
        importlib.import_module("fastal.ops.reference.uncertainty"), "_BLOCK_BYTES", 4096
    )
    x = 3 * torch.randn(n_rows, n_classes, generator=torch.Generator().manual_seed(1))
    assert_scores(scored(x, backend), definitions(x))


@pytest.mark.parametrize("n_classes", [2, 10, 100, 1500])
def test_blocks_of_one_row(monkeypatch, n_classes):
    monkeypatch.setattr(
        importlib.import_module("fastal.ops.reference.uncertainty"), "_BLOCK_BYTES", 1
    )
    x = regimes(n_classes, torch.float32)
    assert_scores(fastal.score(x, backend="torch"), definitions(x))


def test_a_row_has_the_same_bits_among_any_rows(backend):
    """Chunking must not change a bit: a row's scores may depend only on the row."""
    if backend == ("torch", "cuda"):
        pytest.skip("torch's own CUDA sums depend on the block")
    for n_classes in (2, 10, 31, 32, 100, 1000):
        x = 5 * torch.randn(301, n_classes, generator=torch.Generator().manual_seed(2))
        whole = scored(x, backend)
        for start, stop in ((0, 1), (1, 9), (9, 300), (300, 301)):
            for part, full in zip(scored(x[start:stop], backend), whole, strict=True):
                assert torch.equal(part, full[start:stop])


@pytest.mark.parametrize("measures", [["entropy"], ["ratio", "margin"], ["least_confidence"]])
@pytest.mark.parametrize("kind", ["logits", "probs"])
def test_only_the_scores_asked_for(backend, measures, kind):
    from fastal.ops import uncertainty

    name, device = backend
    x = torch.softmax(regimes(10, torch.float32).clamp(-1e4, 1e4), 1).to(device)
    every = fastal.score(x, kind=kind, backend=name)
    some = uncertainty(x, measures, kind, backend=name)
    for measure, got in zip(measures, some, strict=True):
        assert torch.equal(got, getattr(every, measure))


# --- known values: the book's example, and the expected values of other libraries' tests


def test_the_book():
    scores = fastal.score(np.log([MUNRO]))
    assert [round(float(s[0]), 4) for s in scores] == [0.4748, 0.593, 0.3679, 0.6835]


def test_scikit_activeml():
    scores = fastal.score(np.array([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]]), kind="probs")
    np.testing.assert_allclose(scores.least_confidence, np.array([0.5, 0.3]) * 3 / 2, rtol=1e-6)
    np.testing.assert_allclose(scores.margin, [0.8, 0.5], rtol=1e-6)
    entropy = np.array([1.029653014, 0.8018185525]) / math.log(3)
    np.testing.assert_allclose(scores.entropy, entropy, rtol=1e-6)


def test_small_text():
    two = np.array([[0.1, 0.9], [0.45, 0.55], [0.5, 0.5], [0.7, 0.3]])
    three = np.array([[0.1, 0.75, 0.15], [0.45, 0.5, 0.05], [0.1, 0.8, 0.1], [0.7, 0.15, 0.15]])
    np.testing.assert_allclose(
        1 - fastal.score(two, kind="probs").margin, [0.8, 0.1, 0, 0.4], rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        1 - fastal.score(three, kind="probs").margin, [0.6, 0.05, 0.7, 0.55], rtol=1e-6
    )
    np.testing.assert_allclose(
        fastal.score(two, kind="probs").entropy * math.log(2),
        [0.325083, 0.688139, 0.693147, 0.610864],
        atol=5e-7,  # its example prints six digits
    )
    assert fastal.select(two, 2, "margin", kind="probs").rows.tolist() == [2, 1]
    assert fastal.select(three, 2, "margin", kind="probs").rows.tolist() == [1, 3]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cleanlab_entropy_stays_in_range(dtype):
    info = np.finfo(dtype)
    for tiny in (info.eps, info.smallest_normal, info.smallest_subnormal, 0):
        entropy = fastal.score(np.array([[1, tiny]], dtype), kind="probs").entropy
        assert 0 <= entropy[0] <= 1


def test_libact_certain_row_is_not_picked():
    """If 0 log 0 is not guarded, one-hot rows give NaN, and NaN is then the most uncertain."""
    x = np.array([[1.0, 0, 0], [0.4, 0.3, 0.3]])
    assert fastal.select(x, 1, "entropy", kind="probs").rows.tolist() == [1]


# --- invalid rows


@pytest.mark.parametrize(("kind", "cases"), [("logits", INVALID), ("probs", INVALID_PROBS)])
def test_invalid_rows_get_nan(backend, kind, cases):
    good = [0.1, 0.2, 0.3, 0.4]
    for dtype in dtypes(backend[0]):
        x = torch.tensor([good, *cases.values(), good], dtype=dtype)
        for wide in (False, True):  # the torch backend transposes narrow blocks
            fill = 0.0 if kind == "probs" else -math.inf
            y = torch.cat([x, torch.full((len(x), 60), fill, dtype=dtype)], 1) if wide else x
            for values in scored(y, backend, kind=kind, on_invalid="skip"):
                invalid = dict(zip(cases, values[1:-1].isnan().tolist(), strict=True))
                assert all(invalid.values()), (kind, wide, invalid)
                assert not values[[0, -1]].isnan().any()
                np.testing.assert_array_equal(values[0].cpu(), values[-1].cpu())


def test_rounded_probabilities_are_valid(backend):
    x = torch.softmax(torch.randn(200, 1000, generator=torch.Generator().manual_seed(3)), 1)
    for dtype in KERNEL_DTYPES:
        assert not scored(x.to(dtype), backend, kind="probs").entropy.isnan().any()


@pytest.mark.parametrize("n_classes", [2, 3, 10, 33, 64, 65, 257, 5000])
def test_probabilities_within_rounding_of_0_and_1_are_valid(backend, n_classes):
    """Such values are results of 1 - p, products and divisions in float32. They count as 0 or 1."""
    rng = np.random.default_rng(n_classes)
    p = rng.dirichlet(np.full(n_classes, 0.3), 40)
    p[np.arange(40), rng.integers(n_classes, size=40)] = 0
    p /= p.sum(1, keepdims=True)
    p[:2] = 0
    p[:2, 0] = 1
    p = np.where((p == 0) & (rng.random(p.shape) < 0.7), -rng.random(p.shape) * 9e-4, p)
    p *= 1 + rng.uniform(-5e-4, 5e-4, (40, 1))
    p[0, :2] = 1.00001, -1e-5
    for dtype in dtypes(backend[0]):
        x = torch.tensor(p).to(dtype)
        counted = x.double().clamp(min=0).numpy().astype(np.longdouble)
        truth = of_probabilities(counted / counted.sum(1, keepdims=True), n_classes)
        assert_scores(scored(x, backend, kind="probs"), truth)


@pytest.mark.parametrize("n_classes", [2, 10, 33, 65, 257])
def test_a_single_negative_probability_is_found_in_any_class(backend, n_classes):
    x = torch.zeros(n_classes - 1, n_classes)
    x[:, -1] = 1
    x.fill_diagonal_(-2e-3)
    assert scored(x, backend, kind="probs", on_invalid="skip").margin.isnan().all()


@pytest.mark.parametrize("n_classes", [65_537, 128_256, 262_143])
def test_subnormal_probabilities_are_valid(backend, n_classes):
    """In float16, each is off by up to 2^-25. Together, this exceeds the spacing at 1."""
    x = torch.full((1, n_classes), 1 / n_classes).half()
    assert scored(x, backend, kind="probs").entropy.tolist() == pytest.approx([1.0])


def test_bits_that_raw_memory_does_not_show(backend):
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(4))
    negated = torch.complex(torch.zeros(4, 5), -x).conj().imag
    assert negated.is_neg()
    assert_scores(scored(negated, backend), definitions(x))


def test_invalid_rows_raise_with_their_numbers_and_count(backend):
    x = torch.zeros(100, 3)
    x[[7, 8, 20, 50, 51, 52, 99], 1] = torch.nan
    with pytest.raises(fastal.InvalidRows, match=r"row 7 has NaN.* 7 such among rows 0 to 99") as e:
        scored(x, backend)
    assert e.value.rows == [7, 8, 20, 50, 51]
    assert e.value.count == 7
    assert e.value.span == (0, 100)


# --- the tests can fail


def textbook_in_float32(x):
    """Scores from differences of float32 probabilities. The ratio is wrongly a product."""
    p = torch.softmax(x, 1)
    p1, p2 = p.topk(2, 1).values.unbind(1)
    n = x.shape[1]
    entropy = -(p * torch.log_softmax(x, 1)).nan_to_num().sum(1) / math.log(n)
    return n / (n - 1) * (1 - p1), 1 - (p1 - p2), p1 * p2, entropy


@pytest.mark.parametrize("index", range(4))
def test_wrong_formulas_are_caught(index):
    x = regimes(10, torch.float32)[:8]
    truth = definitions(x)
    scores = list(fastal.score(x))
    assert_scores(scores, truth)
    scores[index] = textbook_in_float32(x)[index].clamp(0, 1)
    with pytest.raises(AssertionError):
        assert_scores(scores, truth)


@pytest.mark.parametrize("n_classes", [1001, 262_144])
def test_a_subnormal_factor_is_caught(n_classes):
    """The factor is e^(distance to the maximum), of sums relative to the runner-up."""

    def in_two_steps(dtype):
        maximum, second = x.topk(2).values.unbind(1)
        d = (x.minimum(second[:, None]) - second[:, None]).double()
        factor = torch.exp((second - maximum).to(dtype)).double()
        rest, moment = d.exp().sum(1) - 1, (d * d.exp()).sum(1)
        moment += (second - maximum) * rest
        s = Statistics(rest * factor, factor, moment * factor, n_classes)
        return [formula(s) for formula in FORMULAS.values()]

    x, truth = far(n_classes, torch.float32, "logits")
    assert_scores(in_two_steps(torch.float64), truth)
    with pytest.raises(AssertionError):
        assert_scores(in_two_steps(torch.float32), truth)


def test_a_float16_sum_is_caught():
    x = regimes(1000, torch.float16)
    with pytest.raises(AssertionError):
        assert_scores(
            fastal.score(torch.softmax(x, 1), kind="probs", on_invalid="skip"), definitions(x)
        )
