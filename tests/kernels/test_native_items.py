"""Scores of items on CPUs, in every variant: the definitions, layouts, padding, threads and bits."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal_kernels import native
from fastal_kernels.native.items import item_scores
from tests.support.items import (
    AGGREGATIONS,
    assert_items,
    items_oracle,
    of_items,
    rows_oracle,
)
from tests.support.matrices import DTYPES, INVALID, INVALID_PROBS, regimes
from tests.support.memory import PAGE, Guarded

# By code path: a row in each lane (to 64), rows transposed together (to 256), wide rows.
CLASSES = [2, 3, 16, 64, 65, 256, 257, 1100]
KINDS = ["logits", "log_probs", "probs", "multilabel_logits", "multilabel_probs"]
# Empty items, one row, parts of a vector and of a tile (64 rows), several tiles.
LENGTHS = [0, 1, 3, 17, 0, 0, 64, 65, 16, 130, 0]

pytestmark = pytest.mark.skipif(bool(native.reasons()), reason="the native kernels are missing")


@pytest.fixture(params=native.variants(), autouse=True)
def variant(request, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, request.param)
    return request.param


def scored(x, kind="logits", aggregate="mean", **options):
    return item_scores(x, UNCERTAINTY_SCORES, kind, aggregate=aggregate, **options)[0]


def bounds(lengths=LENGTHS):
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64)


@functools.cache
def rows_and_truth(n_classes, dtype, kind="logits", n_rows=sum(LENGTHS)):
    """Rows of every regime, repeated and shuffled, with their scores."""
    generator = torch.Generator().manual_seed(n_classes)
    if kind.startswith("multilabel"):
        x = torch.cat([9 * torch.randn(400, generator=generator), regimes(100, dtype).flatten()])
        x = x.double().clamp(-60, 60)[torch.randperm(len(x), generator=generator)[:n_rows]]
        x = x.sigmoid() if kind == "multilabel_probs" else x
        return x.to(dtype), rows_oracle(x.to(dtype), kind)
    x = regimes(n_classes, dtype)
    if kind != "logits":
        x = x[x.isfinite().all(1)].double().log_softmax(1)
        x = (x.exp() if kind == "probs" else x).to(dtype)
    truth = rows_oracle(x, kind)
    places = torch.randint(len(x), (n_rows,), generator=generator)
    return x[places], truth[:, places.numpy()]


# --- the definitions


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_aggregate_regime_and_dtype(kind, dtype):
    offsets = bounds()
    for n_classes in CLASSES if kind in ("logits", "probs") else [3, 300]:
        x, rows = rows_and_truth(n_classes, dtype, kind)
        for aggregate in AGGREGATIONS:
            truth = of_items(rows, offsets, aggregate)
            assert_items(scored(x, kind, aggregate, offsets=offsets), truth)
        assert_items(scored(x, kind, "", offsets=offsets), rows)


@pytest.mark.parametrize("kind", ["logits", "multilabel_logits"])
@pytest.mark.parametrize("temperature", [0.2, 1.7, 30.0])
def test_a_temperature_divides_the_logits(kind, temperature):
    generator = torch.Generator().manual_seed(3)
    offsets = bounds([5, 0, 40])
    for n_classes, dtype in ((2, torch.float32), (70, torch.float64), (300, torch.bfloat16)):
        x = torch.randn(45, n_classes, generator=generator).to(dtype)
        x = x[:, 0].contiguous() if kind.startswith("multilabel") else x
        for aggregate in ("mean", "least", 2):
            truth = items_oracle(x, offsets, aggregate, kind, temperature)
            got = scored(x, kind, aggregate, offsets=offsets, temperature=temperature)
            assert_items(got, truth)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_extremes_of_labels(dtype):
    """−inf is certain; +inf and NaN do not count; the largest numbers are certain."""
    most = torch.finfo(dtype).max
    x = torch.tensor([-math.inf, most, -most, 0.0, 50.0, -85.0, math.inf, math.nan], dtype=dtype)
    for temperature in (1.0, 2.5):
        got = scored(x, "multilabel_logits", "", offsets=bounds([8]), temperature=temperature)
        assert_items(got, rows_oracle(x, "multilabel_logits", temperature))
    p = torch.tensor([0.0, 1.0, 0.5, -0.0005, 1.0005, -0.1, 1.1, math.nan, 2.0], dtype=dtype)
    got = scored(p, "multilabel_probs", "", offsets=bounds([9]))
    assert_items(got, rows_oracle(p, "multilabel_probs"))


def test_labels_of_a_row_and_items_of_labels():
    x = 3 * torch.randn(20, 33, generator=torch.Generator().manual_seed(0))
    truth = items_oracle(x.flatten(), np.arange(0, 661, 33), "mean", "multilabel_logits")
    assert_items(scored(x, "multilabel_logits"), truth)
    assert_items(scored(x.T.contiguous().T, "multilabel_logits"), truth)


# --- rows that do not count


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
@pytest.mark.parametrize("n_classes", [4, 100, 600])
def test_masks_padding_and_invalid_rows_never_count(aggregate, n_classes):
    generator = torch.Generator().manual_seed(n_classes)
    x = 3 * torch.randn(sum(LENGTHS), n_classes, generator=generator)
    x[::5] = -100.0
    x[1::5, -1] = math.nan
    x[2::7] = -math.inf
    x[3::11, 0] = math.inf
    x[4::13, 1:] = -100.0  # one value differs: this is a row
    mask = torch.rand(len(x), generator=generator) < 0.7
    for dtype in DTYPES:
        y = x.to(dtype)
        for given in (None, mask):
            truth = items_oracle(y, bounds(), aggregate, mask=given)
            assert_items(scored(y, aggregate=aggregate, offsets=bounds(), mask=given), truth)


@pytest.mark.parametrize("kind", ["logits", "log_probs"])
def test_padding_in_every_dtype_and_layout(kind):
    for dtype in DTYPES:
        x = torch.full((3, 5, 70), -100.0, dtype=dtype)
        x[1, 2] = torch.arange(70)
        x[2, 4, 69] = -99.5  # a row
        for n_classes in (2, 70):
            y = x[..., -n_classes:]
            for z in (y, y.contiguous(), y.transpose(1, 2).contiguous().transpose(1, 2)):
                found, n_invalid = item_scores(z, UNCERTAINTY_SCORES, kind, aggregate="mean")
                assert n_invalid == 1
                assert_items(found, items_oracle(y.reshape(15, -1), [0, 5, 10, 15], "mean", kind))


def test_values_of_minus_100_are_labels_and_no_padding():
    found = scored(torch.full((1, 3), -100.0), "multilabel_logits")
    assert_items(found, items_oracle([-100.0] * 3, [0, 3], "mean", "multilabel_logits"))


@pytest.mark.parametrize("kind", ["logits", "probs"])
@pytest.mark.parametrize("n_classes", [4, 100, 600])
def test_an_invalid_row_alone_makes_an_item_invalid(kind, n_classes):
    cases = INVALID_PROBS if kind == "probs" else INVALID
    fill = 0.0 if kind == "probs" else -math.inf
    good = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x = torch.stack([torch.tensor(case) for case in cases.values()])
    x = torch.cat([x, torch.full((len(x), n_classes - 4), fill)], 1)
    good = torch.cat([good, torch.full((n_classes - 4,), fill)])
    both = torch.stack([x, good.expand_as(x)], 1)  # [cases, 2, C]
    for name in UNCERTAINTY_SCORES:
        for aggregate in ("mean", "max", "least", 2):
            ((alone,), n) = item_scores(x[:, None], [name], kind, aggregate=aggregate)
            assert alone.isnan().all(), dict(zip(cases, alone.tolist(), strict=True))
            assert n == len(cases)
            ((beside,), n) = item_scores(both, [name], kind, aggregate=aggregate)
            (want,) = item_scores(good[None, None], [name], kind, aggregate=aggregate)[0]
            assert torch.equal(beside, want.expand(len(cases))), name
            assert n == 0


@pytest.mark.parametrize("aggregate", ["", *AGGREGATIONS])
def test_no_items_and_items_without_rows(aggregate):
    for x, options, n in (
        (torch.empty(0, 5, 3), {}, 0),
        (torch.empty(4, 0, 3), {}, 4),
        (torch.empty(0, 3), {"offsets": bounds([])}, 0),
        (torch.empty(0, 3), {"offsets": bounds([0, 0])}, 2),
    ):
        found, n_invalid = item_scores(x, ["margin"], "logits", aggregate=aggregate, **options)
        assert n_invalid == n
        assert found[0].shape == ((n,) if aggregate else (0,))
        assert found[0].isnan().all()


# --- layouts and memory


def dense_layouts(x):
    """Items [n, T, C] in every order of axes, and with room between rows."""
    n, length, n_classes = x.shape
    wide = torch.full((n, length + 3, 2 * n_classes + 1), math.nan, dtype=x.dtype)
    wide[:, 1:-2, 1::2] = x
    return {
        "contiguous": x.contiguous(),
        "planes": x.transpose(1, 2).contiguous().transpose(1, 2),
        "rows first": x.transpose(0, 1).contiguous().transpose(0, 1),
        "items last": x.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        "classes first": x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "slices": wide[:, 1:-2, 1::2],
    }


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout_of_items_of_equal_length(dtype):
    for n_classes in (2, 5, 64, 65, 200, 300):
        x, rows = rows_and_truth(n_classes, dtype, n_rows=7 * 37)
        x = x.reshape(7, 37, n_classes)
        for aggregate in ("mean", "least", 5):
            truth = of_items(rows, range(0, 7 * 37 + 1, 37), aggregate)
            for name, y in dense_layouts(x).items():
                before = y.clone()
                assert_items(scored(y, aggregate=aggregate), truth)
                assert torch.equal(y, before), name


@pytest.mark.parametrize("n_classes", [2, 5, 64])
def test_layouts_of_few_classes_have_the_same_bits(n_classes):
    x, _ = rows_and_truth(n_classes, torch.float32, n_rows=7 * 37)
    x = x.reshape(7, 37, n_classes)
    want = scored(x)
    for name, y in dense_layouts(x).items():
        assert all(map(torch.equal, scored(y), want)), name
    mask = torch.rand(7, 37, generator=torch.Generator().manual_seed(0)) < 0.5
    want = scored(x, mask=mask)
    flat = scored(
        x.reshape(-1, n_classes).T.contiguous().T, offsets=bounds([37] * 7), mask=mask.flatten()
    )
    assert all(map(torch.equal, flat, want))


@pytest.mark.parametrize("n_classes", [2, 3, 17, 70, 300])
def test_nothing_beyond_the_rows_is_read(n_classes):
    """The memory ends, and begins, at a page that must not be touched."""
    offsets = bounds([1, 0, 3, 7])
    for dtype in DTYPES:
        x = torch.randn(11, n_classes, generator=torch.Generator().manual_seed(0)).to(dtype)
        memory = Guarded(1 + x.numel() * x.element_size() // PAGE)
        for place in (memory.at_the_start, memory.at_the_end):
            y = place(x)
            want = items_oracle(x, offsets, "mean")
            assert_items(scored(y, offsets=offsets), want)
            labels = items_oracle(x[:, 0], offsets, "mean", "multilabel_logits")
            assert_items(scored(y[:, 0], "multilabel_logits", offsets=offsets), labels)
            planes = place(x.T.contiguous()).T
            assert_items(scored(planes, offsets=offsets), want)
            planes = planes[None]  # one item
            assert_items(scored(planes), items_oracle(x, [0, 11], "mean"))
            plain = place(x[:, 0].contiguous())
            assert_items(scored(plain, "multilabel_logits", offsets=offsets), labels)


# --- bits


@settings(max_examples=40, deadline=None)
@given(
    n_classes=st.sampled_from([2, 10, 65, 300]),
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=8),
    aggregate=st.sampled_from(AGGREGATIONS),
    data=st.data(),
)
def test_no_bit_depends_on_the_other_items(n_classes, lengths, aggregate, data):
    x, _ = rows_and_truth(n_classes, torch.float32, n_rows=560)
    offsets = bounds(lengths)
    mask = torch.rand(560, generator=torch.Generator().manual_seed(1)) < 0.8
    whole = scored(x[: offsets[-1]], aggregate=aggregate, offsets=offsets, mask=mask)
    first = data.draw(st.integers(0, len(lengths) - 1))
    stop = data.draw(st.integers(first + 1, len(lengths)))
    rows = slice(int(offsets[first]), int(offsets[stop]))
    part = scored(
        x[rows], aggregate=aggregate, offsets=bounds(lengths[first:stop]), mask=mask[rows].clone()
    )
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[first:stop].nan_to_num(-1), other.nan_to_num(-1))


@pytest.mark.parametrize("kind", ["logits", "multilabel_probs"])
def test_bits_do_not_depend_on_threads(kind, threads, monkeypatch):
    monkeypatch.setattr(native, "LEAST_SHARE", 1)
    x = torch.rand(300, 40, 12, generator=torch.Generator().manual_seed(0))
    x = x[..., 0] if kind.startswith("multilabel") else x
    for aggregate in ("", "mean", 7):
        threads(1)
        alone = scored(x, kind, aggregate)
        threads(5)
        assert all(map(torch.equal, scored(x, kind, aggregate), alone))


def test_scores_asked_for_alone_have_the_same_bits():
    x, _ = rows_and_truth(10, torch.float32)
    for aggregate in ("", "mean", "max", 4):
        together = scored(x, aggregate=aggregate, offsets=bounds())
        for name, want in zip(UNCERTAINTY_SCORES, together, strict=True):
            (got,) = item_scores(x, [name], "logits", aggregate=aggregate, offsets=bounds())[0]
            assert torch.equal(got.nan_to_num(-1), want.nan_to_num(-1))


def test_the_highest_of_many_equal_and_of_sorted_rows():
    """Quickselect meets its worst cases; more than the item has is all it has."""
    n = 50_000
    for gaps in (torch.zeros(n), torch.arange(n) / 1e4, -torch.arange(n) / 1e4):
        x = torch.stack([gaps.abs(), torch.zeros(n)], 1)[None]
        for n_highest in (1, 777, n, 2 * n, 2**62):
            (got,) = item_scores(x, ["ratio"], "logits", aggregate=n_highest)[0]
            ratios = np.sort(np.exp(-gaps.abs().double().numpy()))[::-1][:n_highest]
            np.testing.assert_allclose(got.item(), ratios.mean(), rtol=1e-5)


# --- the tests can fail


def test_wrong_formulas_are_caught():
    x = 3 * torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    x[:, 3] = -100.0
    truth = items_oracle(x.reshape(8, 3), [0, 4, 8], "mean")
    rows = torch.stack(scored(x, aggregate="")).reshape(4, 2, 4)
    assert_items(rows.nanmean(2), truth)
    padding_counts = rows.nan_to_num(0).mean(2)
    padding_is_a_row = rows.nan_to_num(1).mean(2)
    of_the_mean = scored(x[:, :3].mean(1, keepdim=True))
    for wrong in (padding_counts, padding_is_a_row, of_the_mean):
        with pytest.raises(AssertionError):
            assert_items(wrong, truth)
    top = items_oracle(x.reshape(8, 3), [0, 4, 8], 5)
    assert_items(scored(x, aggregate=5), top)
    with pytest.raises(AssertionError):
        assert_items(rows.nansum(2) / 5, top)  # divided by more rows than there are
    with pytest.raises(AssertionError):
        assert_items(rows.nan_to_num(2).amin(2), items_oracle(x.reshape(8, 3), [0, 4, 8], "max"))
