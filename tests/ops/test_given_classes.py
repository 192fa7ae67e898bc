"""Self-confidence, normalized margin and confident classes, against the definitions."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.ops import reference
from fastal.ops.reference import given_classes, label_confidence, suggested_classes
from tests.support.matrices import DTYPES, INVALID, INVALID_PROBS, far_apart, layouts, regimes
from tests.support.oracle import TINY

# Rounding to float32 changes a number by a relative 2^-24. In float64, the exponents are off by
# 745 * 2^-53 at most, and the sums of C terms by C * 2^-53: 1e-11 for the C of these tests.
TOLERANCE = 2.0**-24 + 1e-10


DIGITS = 80  # 1 − q has 35 of them left where it is as small as float32 holds


def probabilities(x, kind, temperature=1):
    """The probabilities of each row, to `DIGITS` digits."""
    with mpmath.workdps(DIGITS):
        rows = x.double().tolist()
        return [_distribution([mpmath.mpf(v) / temperature for v in row], kind) for row in rows]


def _distribution(row, kind):
    if kind == "probs":
        weights = [max(value, mpmath.mpf(0)) for value in row]
    else:
        most = max(row)
        gaps = [value - most for value in row]
        weights = [mpmath.exp(gap) if gap > -1000 else mpmath.mpf(0) for gap in gaps]
    total = mpmath.fsum(weights)
    return [weight / total for weight in weights]


def definitions(p, labels):
    """The two scores of each row as they are defined."""
    with mpmath.workdps(DIGITS):
        others = [max(row[:k] + row[k + 1 :]) for row, k in zip(p, labels.tolist(), strict=True)]
        own = [row[k] for row, k in zip(p, labels.tolist(), strict=True)]
        margin = [(a - b + 1) / 2 for a, b in zip(own, others, strict=True)]
        return [np.array([float(value) for value in column]) for column in (own, margin)]


def check(scores, truth):
    for got, want in zip(scores, truth, strict=True):
        got = got.double().numpy()
        excess = np.abs(got - want) - np.where(want < TINY, TINY, TOLERANCE * want)
        assert (excess <= 0).all(), (got[excess > 0], want[excess > 0])
        assert ((got >= 0) & (got <= 1)).all()


def labellings(x):
    """Labels of rows: the most and the least probable class, the first, the last."""
    least = x.where(x > -math.inf, math.inf).argmin(1)
    for labels in (x.argmax(1), least, torch.zeros_like(least), torch.full_like(least, -1)):
        yield labels % x.shape[1]


def scored(x, labels, kind, temperature=1.0):
    return label_confidence(x, torch.arange(len(x)), labels, kind, temperature)


def suggested(x, labels, thresholds, kind, temperature=1.0):
    thresholds = torch.tensor(thresholds, dtype=torch.float64)
    rows = torch.arange(len(x))
    return suggested_classes(x, rows, labels, thresholds, kind, temperature).tolist()


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [2, 3, 10, 33])
def test_the_scores_are_those_of_the_definitions_in_every_regime(n_classes, dtype):
    x = torch.cat([regimes(n_classes, dtype), far_apart(n_classes, dtype)])
    p = probabilities(x, "logits")
    for labels in labellings(x):
        truth = definitions(p, labels)
        for kind in ("logits", "log_probs"):
            check(scored(x, labels, kind), truth)


@pytest.mark.parametrize("temperature", [0.03, 2.5, 100.0])
def test_logits_are_divided_by_the_temperature(temperature):
    x = torch.cat([regimes(10, torch.float32), far_apart(10, torch.float32)])
    p = probabilities(x, "logits", temperature)
    for labels in labellings(x):
        check(scored(x, labels, "logits", temperature), definitions(p, labels))
    with pytest.raises(AssertionError):  # multiplied
        check(scored(x, labels, "logits", 1 / temperature), definitions(p, labels))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_scores_of_probabilities_are_those_of_the_definitions(dtype):
    x = torch.cat([regimes(10, torch.float64).softmax(1).to(dtype), far_apart(10, dtype, "probs")])
    x[0] = torch.tensor([-1e-4, *[1 / 9] * 9])  # the first counts as 0
    p = probabilities(x, "probs")
    for labels in labellings(x):
        check(scored(x, labels, "probs"), definitions(p, labels))


@pytest.mark.full
def test_many_classes():
    x = regimes(50257, torch.float32)[3:5]
    p = probabilities(x, "logits")
    for labels in labellings(x):
        check(scored(x, labels, "logits"), definitions(p, labels))


def margins(p, labels, others):
    own = p.gather(1, labels[:, None])[:, 0]
    return [own.float(), ((own - others + 1) / 2).float()]


def test_the_obvious_formulas_are_caught():
    x = torch.tensor([[30.0, 0.0, 1.0], [0.0, 30.0, 1.0]])
    wrong, right = torch.tensor([1, 0]), torch.tensor([0, 1])
    p = probabilities(x, "logits")
    for labels in (wrong, right):
        check(scored(x, labels, "logits"), definitions(p, labels))
    in_float32, in_float64 = x.softmax(1), x.double().softmax(1)
    with pytest.raises(AssertionError):  # a difference of nearly equal numbers
        check(margins(in_float32, wrong, in_float32.amax(1)), definitions(p, wrong))
    with pytest.raises(AssertionError):  # the largest of all classes, not of the others
        check(margins(in_float64, right, in_float64.amax(1)), definitions(p, right))


@pytest.mark.parametrize(("kind", "cases"), [("logits", INVALID), ("probs", INVALID_PROBS)])
def test_invalid_rows_have_nan_and_no_class(kind, cases):
    valid = [0.5, 0.25, 0.125, 0.125]
    x = torch.tensor([valid, *cases.values(), valid])
    for label in range(4):
        labels = torch.full((len(x),), label)
        for scores in scored(x, labels, kind):
            assert scores.isnan().tolist() == [False, *[True] * len(cases), False]
    (want,) = reference.uncertainty(x, ["margin"], kind)
    assert want.isnan().tolist() == scores.isnan().tolist()
    found = suggested(x, torch.full((len(x),), 3), [0.0] * 4, kind)
    assert found == [0, *[-1] * len(cases), 0]


@pytest.mark.parametrize(
    ("thresholds", "want"),
    [
        ([0.6, 0.2, 0.4], 1),  # one class is reached
        ([0.5, 0.6, 0.4], 0),
        ([0.6, 0.3 + 9e-7, 0.4], 1),  # within the slack
        ([0.6, 0.3 + 2e-6, 0.4], -1),
        ([0.6, 0.2, 0.1], 0),  # several: the most probable of all, which is not reached
        ([0.6, 0.6, 0.1], -1),  # the label is reached
        ([math.nan, 0.2, 0.4], 1),
        ([math.nan, 0.2, 0.1], 0),
        ([math.nan] * 3, -1),
    ],
)
def test_the_suggested_class_is_the_one_that_is_reached_or_the_most_probable(thresholds, want):
    x = torch.tensor([[0.5, 0.3, 0.2]] * 7, dtype=torch.float64)
    assert suggested(x, torch.full((7,), 2), thresholds, "probs") == [want] * 7
    halved = x.log() * 2
    assert suggested(halved, torch.full((7,), 2), thresholds, "logits", 2.0) == [want] * 7


def test_a_label_that_is_about_as_probable_as_any_class_is_no_issue():
    gaps = (0, 8e-7, 2e-6)
    x = torch.tensor([[0.4 + gap, 0.4, 0.2 - gap] for gap in gaps], dtype=torch.float64)
    assert suggested(x, torch.tensor([1, 1, 1]), [0.3, 0.9, 0.9], "probs") == [-1, -1, 0]
    assert suggested(x, torch.tensor([2, 2, 2]), [0.3, 0.3, 0.9], "probs") == [0, 0, 0]


@pytest.mark.parametrize("n_classes", [3, 40])
def test_strides_change_no_bit(n_classes):
    x = regimes(n_classes, torch.float32)
    labels = torch.arange(len(x)) % n_classes
    for matrix in layouts(x).values():
        want = scored(matrix.contiguous(), labels, "logits")
        for a, b in zip(scored(matrix, labels, "logits"), want, strict=True):
            assert torch.equal(a, b)


@given(data=st.data(), n_classes=st.sampled_from([2, 3, 31, 32, 65, 300]))
@settings(max_examples=40)
def test_no_row_depends_on_the_rows_around_it(data, n_classes):
    generator = torch.Generator().manual_seed(n_classes)
    x = 5 * torch.randn(90, n_classes, generator=generator)
    labels = torch.randint(n_classes, (90,), generator=generator)
    thresholds = torch.rand(n_classes, generator=generator, dtype=torch.float64)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, 89), min_size=1, unique=True)))
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        for block_bytes in (given_classes._BLOCK_BYTES, 8 * n_classes * 7):
            context.setattr(given_classes, "_BLOCK_BYTES", block_bytes)
            every = scored(x, labels, "logits")
            for got, want in zip(
                label_confidence(x, rows, labels[rows], "logits"), every, strict=True
            ):
                assert torch.equal(got, want[rows])
            classes = suggested_classes(x, torch.arange(90), labels, thresholds, "logits")
            some = suggested_classes(x, rows, labels[rows], thresholds, "logits")
            assert torch.equal(some, classes[rows])


def test_no_rows_give_no_scores():
    x, none = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    assert [len(scores) for scores in label_confidence(x, none, none, "logits")] == [0, 0]
    assert suggested(x, none, [0.0] * 3, "logits") == []
