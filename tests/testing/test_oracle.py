"""The definitions and cases of the kit against others: mpmath, long doubles, and known values."""

import math

import numpy as np
import pytest
import torch

import fastal
from fastal.testing import REGIMES, definitions, far_apart, invalid_rows, regimes
from tests.support.matrices import DTYPES
from tests.support.oracle import TINY, definitions_to_any_digit
from tests.support.oracle import definitions as in_long_doubles

KINDS = ["logits", "probs", "log_probs"]
OFF = 1e-12  # of float64 sums of up to 1000 terms, each off by 2^-52 times the steps before


def in_logits(x, kind):
    return x.double().log() if kind == "probs" else x


def assert_close(found, wanted):
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want.astype(float), rtol=OFF, atol=1e-300)


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_classes", [2, 3, 33, 300])
def test_definitions_agree_with_400_digits(n_classes, kind, dtype):
    rows = [regimes(n_classes, dtype, kind)]
    if dtype != torch.float16 or kind != "probs":
        rows.append(far_apart(n_classes, dtype, kind))
    for x in rows:
        assert_close(definitions(x, kind), definitions_to_any_digit(in_logits(x, kind)))


@pytest.mark.parametrize("n_classes", [2, 1000, 50_257])
def test_definitions_agree_with_long_doubles(n_classes):
    x = regimes(n_classes, torch.float64)
    for got, want in zip(definitions(x), in_long_doubles(x), strict=True):
        np.testing.assert_allclose(got, want.astype(float), rtol=1e-6, atol=TINY)


def test_definitions_of_the_most_classes_keep_ten_digits():
    for rows in (np.zeros((1, 262_144)), np.full((1, 262_144), -1000.0)):
        np.testing.assert_allclose(definitions(rows), 1, rtol=1e-10)
    tail = np.zeros((1, 262_144))
    tail[0, 0] = 40  # the others have e^-40 of its probability each
    others = 262_143 * math.exp(-40) / (1 + 262_143 * math.exp(-40))
    assert definitions(tail).least_confidence == pytest.approx(
        others * 262_144 / 262_143, rel=1e-10
    )


def test_definitions_have_the_values_of_the_book():
    scores = definitions(np.array([[0.0321, 0.6439, 0.0871, 0.2369]]), "probs")
    assert [round(float(score[0]), 4) for score in scores] == [0.4748, 0.593, 0.3679, 0.6835]


def test_a_difference_of_float64_probabilities_would_not_agree():
    """The formula as it is printed, whose digits end at p1 = 1 − 1e-12."""
    x = regimes(1000, torch.float64)[[REGIMES.index("one class at 1 - 1e-12")]]
    p1 = torch.softmax(x, 1).amax(1).numpy()
    printed = 1000 * (1 - p1) / 999
    assert abs(printed / definitions(x).least_confidence - 1) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_regime_is_named_and_valid(kind, dtype):
    for n_classes in (2, 10, 1025):
        x = regimes(n_classes, dtype, kind)
        assert x.shape == (len(REGIMES), n_classes)
        assert not fastal.score(x, kind=kind).entropy.isnan().any()
    assert len(set(REGIMES)) == len(REGIMES)


def test_names_of_regimes_say_what_the_rows_are():
    rows = dict(zip(REGIMES, regimes(10, torch.float64), strict=True))
    p1 = torch.softmax(rows["one class at 1 - 1e-12"], 0).max()
    assert float(1 - p1) == pytest.approx(1e-12, rel=1e-3)
    assert rows["zeros"].tolist() == [0] * 10
    assert rows["all but one are -inf"].isfinite().sum() == 1
    assert rows["all but two are -inf"].isfinite().sum() == 2
    assert rows["the two largest are equal"].topk(2).values.unique().numel() == 1
    for dtype in DTYPES:
        row = regimes(10, dtype)[REGIMES.index("the two largest are neighbouring numbers")]
        first, second = row.topk(2).values.unbind()
        assert second == first - 4 * torch.finfo(dtype).eps  # the spacing from 4 to 8
    assert rows["ascending"].diff().min() >= 0 >= rows["descending"].diff().max()
    assert rows["all at the largest number"].unique().tolist() == [torch.finfo(torch.float64).max]


@pytest.mark.parametrize("make", [regimes, far_apart])
def test_unknown_kinds_are_errors(make):
    message = "kind: wanted one of logits, probs, log_probs, got 'logit'"
    with pytest.raises(ValueError, match=message):
        make(3, torch.float32, "logit")
    with pytest.raises(ValueError, match=message):
        invalid_rows("logit")
    with pytest.raises(ValueError, match=message):
        definitions(np.zeros((1, 2)), "logit")


def test_invalid_rows_are_the_callers_own():
    invalid_rows()["nan"].clear()
    assert len(invalid_rows()["nan"]) == 4
