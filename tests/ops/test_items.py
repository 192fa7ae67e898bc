"""Scores of items of several rows in every backend: the definitions, blocks and bits."""

import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal import ops
from fastal.ops import reference
from fastal.ops.formulas import UNCERTAINTY_SCORES
from tests.support.items import (
    AGGREGATIONS,
    assert_items,
    items_oracle,
    of_items,
    rows_oracle,
)
from tests.support.matrices import DTYPES, regimes

LENGTHS = [0, 3, 1, 0, 9, 33, 0]
OFFSETS = torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int64)


def scored(x, kind="logits", aggregate="mean", *, backend="torch", **options):
    given = {"offsets": None, "mask": None, "temperature": 1.0, **options}
    return ops.item_scores(
        x, UNCERTAINTY_SCORES, kind, aggregate=aggregate, backend=backend, **given
    )[0]


def rows_of(n_classes, dtype, n_rows=int(OFFSETS[-1])):
    x = regimes(n_classes, dtype)
    return x.repeat(1 + n_rows // len(x), 1)[:n_rows]


@pytest.mark.parametrize("n_classes", [2, 7, 40])
def test_every_aggregate_and_regime(backend, n_classes):
    name, device = backend
    for dtype in DTYPES if name != "triton" else DTYPES[1:3]:
        x = rows_of(n_classes, dtype)
        rows = rows_oracle(x)
        for aggregate in AGGREGATIONS if name != "triton" else ["mean", 3]:
            got = scored(
                x.to(device), aggregate=aggregate, backend=name, offsets=OFFSETS.to(device)
            )
            assert_items(got, of_items(rows, OFFSETS, aggregate))


def test_masks_padding_and_invalid_rows_never_count(backend):
    name, device = backend
    x = 3 * torch.randn(46, 5, generator=torch.Generator().manual_seed(0))
    x[::5] = -100.0
    x[1::5, -1] = math.nan
    x[2::7] = -math.inf
    mask = torch.rand(46, generator=torch.Generator().manual_seed(1)) < 0.7
    for aggregate in ["mean", "least"] if name == "triton" else AGGREGATIONS:
        got = scored(
            x.to(device), aggregate=aggregate, backend=name, offsets=OFFSETS.to(device),
            mask=mask.to(device),
        )  # fmt: skip
        assert_items(got, items_oracle(x, OFFSETS, aggregate, mask=mask))


@pytest.mark.parametrize("kind", ["log_probs", "probs"])
def test_other_kinds(backend, kind):
    name, device = backend
    x = rows_of(6, torch.float32).clamp(-60, 60).log_softmax(1)
    x = x.exp() if kind == "probs" else x
    got = scored(x.to(device), kind, backend=name, offsets=OFFSETS.to(device))
    assert_items(got, items_oracle(x, OFFSETS, "mean", kind))


@pytest.mark.parametrize("kind", ["multilabel_logits", "multilabel_probs"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_labels(kind, dtype):
    x = 9 * torch.randn(46, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    special = torch.tensor([-math.inf, torch.finfo(dtype).max, math.nan, math.inf, 0.0, -100.0])
    x[:6, 0] = special
    if kind == "multilabel_probs":
        x = x.sigmoid()
        x[6:12, 0] = torch.tensor([-0.0005, 1.0005, -0.1, 1.1, 0.0, 1.0])
    x = x[:, 0].to(dtype)
    for temperature in (1.0, 1.7) if kind == "multilabel_logits" else (1.0,):
        rows = rows_oracle(x, kind, temperature)
        for aggregate in AGGREGATIONS:
            got = scored(x, kind, aggregate, offsets=OFFSETS, temperature=temperature)
            assert_items(got, of_items(rows, OFFSETS, aggregate))


def test_a_temperature_divides_the_logits():
    x = torch.randn(46, 5, generator=torch.Generator().manual_seed(0))
    for temperature in (0.3, 12.0):
        got = scored(x, aggregate=2, offsets=OFFSETS, temperature=temperature)
        assert_items(got, items_oracle(x, OFFSETS, 2, temperature=temperature))


@pytest.mark.parametrize("block_bytes", [1, 200, 1 << 20])
def test_layouts_and_blocks_of_items_of_equal_length(backend, block_bytes, monkeypatch):
    name, device = backend
    monkeypatch.setattr(importlib.import_module("fastal.ops.items"), "_BLOCK_BYTES", block_bytes)
    x = 3 * torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    x[1] = -100.0
    mask = torch.arange(24).reshape(4, 6) % 5 != 0
    truth = items_oracle(x.reshape(24, 3), range(0, 25, 6), "mean", mask=mask.flatten())
    for y in (
        x,
        x.transpose(1, 2).contiguous().transpose(1, 2),
        x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        torch.cat([x, x], 2)[:, :, 3:],
    ):
        got = scored(y.to(device), backend=name, mask=mask.to(device))
        assert_items(got, truth)


def test_no_items(backend):
    name, device = backend
    for x, offsets, n in (
        (torch.empty(0, 5, 3), None, 0),
        (torch.empty(4, 0, 3), None, 4),
        (torch.empty(0, 3), torch.zeros(1, dtype=torch.int64), 0),
        (torch.empty(0, 3), torch.zeros(3, dtype=torch.int64), 2),
    ):
        for aggregate in ("mean", 3, ""):
            offsets = None if offsets is None else offsets.to(device)
            got = scored(x.to(device), aggregate=aggregate, backend=name, offsets=offsets)
            assert all(column.shape == ((n,) if aggregate else (0,)) for column in got)
            assert all(column.isnan().all() for column in got)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    aggregate=st.sampled_from(AGGREGATIONS),
    data=st.data(),
)
def test_no_bit_depends_on_the_other_items(lengths, aggregate, data):
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64)
    x = rows_of(9, torch.float32, int(offsets[-1]))
    whole = scored(x, aggregate=aggregate, offsets=offsets)
    first = data.draw(st.integers(0, len(lengths) - 1))
    stop = data.draw(st.integers(first + 1, len(lengths)))
    part = scored(
        x[offsets[first] : offsets[stop]],
        aggregate=aggregate,
        offsets=offsets[first : stop + 1] - offsets[first],
    )
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[first:stop].nan_to_num(-1), other.nan_to_num(-1))


def test_of_equal_scores_so_many_count():
    scores = torch.tensor([0.5, 0.5, 0.5, 0.25, math.nan, 0.5])
    offsets = torch.tensor([0, 4, 6])
    assert reference.aggregated(scores, offsets, 2).tolist() == [0.5, 0.5]
    assert reference.aggregated(scores, offsets, 4).tolist() == [0.4375, 0.5]


def test_wrong_formulas_are_caught():
    x = torch.randn(46, 3, generator=torch.Generator().manual_seed(0))
    x[1] = -100.0
    rows = torch.stack(scored(x, aggregate="", offsets=OFFSETS))
    assert_items(rows, rows_oracle(x))
    truth = items_oracle(x, OFFSETS, "mean")
    item = slice(int(OFFSETS[1]), int(OFFSETS[2]))
    right = torch.stack(scored(x, offsets=OFFSETS))
    assert_items(right, truth)
    for of_item in (rows[:, item].nan_to_num(0).mean(1), rows[:, item].nan_to_num(1).mean(1)):
        wrong = right.clone()
        wrong[:, 1] = of_item
        with pytest.raises(AssertionError, match="item 0"):
            assert_items(wrong, truth)
