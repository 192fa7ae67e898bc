"""Scores of items of several rows: images, tokens and labels; heat maps; what is refused."""

import logging
import math

import numpy as np
import pytest
import torch

import fastal
from tests.support.items import as_aggregate, assert_items, items_oracle, rows_oracle

RNG = np.random.default_rng(0)
IMAGES = (2 * RNG.normal(size=(9, 5, 4, 6))).astype(np.float32)  # [N, C, H, W]
ROWS = IMAGES.transpose(0, 2, 3, 1).reshape(-1, 5)
OFFSETS = np.arange(0, 9 * 24 + 1, 24)
LABELS = (2 * RNG.normal(size=(12, 30))).astype(np.float32)


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "fastal"]


# --- values


@pytest.mark.parametrize("aggregate", ["mean", "sum", "max", "least", 7, 1000])
def test_images_in_every_layout(backend, aggregate):
    name, device = backend
    if name == "triton" and aggregate != "mean":
        pytest.skip("slow in the interpreter")
    options = {"aggregate": as_aggregate(aggregate), "backend": name}
    truth = items_oracle(ROWS, OFFSETS, aggregate)
    images = torch.tensor(IMAGES, device=device)
    wide = torch.nn.functional.pad(images, (1, 2, 3, 0), value=math.nan)
    for x, class_axis in (
        (images, 1),
        (images, -3),
        (images.movedim(1, -1), -1),
        (images.movedim(1, 2).contiguous(), 2),
        (images.to(memory_format=torch.channels_last), 1),
        (wide[:, :, 3:, 1:-2], 1),
    ):
        before = x.clone()
        assert_items(fastal.score(x, class_axis=class_axis, **options), truth)
        assert torch.equal(x, before)


def test_images_are_not_copied():
    """Planes are scored where they lie: a copy of any axis order would be as large as they are."""
    from fastal.scoring.by_items import ItemScore
    from fastal.scoring.model_output import ModelOutput

    images = torch.tensor(IMAGES)
    for x, output in (
        (images, ModelOutput(class_axis=1, aggregate="mean")),
        (images.movedim(1, -1), ModelOutput(aggregate="mean")),
        (torch.tensor(LABELS), ModelOutput("multilabel_logits", aggregate="mean")),
        (images, ModelOutput("multilabel_logits", aggregate="mean")),
    ):
        rows, _ = ItemScore(("margin",), output)._in_rows(x, None)
        assert rows.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("kind", ["multilabel_logits", "multilabel_probs"])
def test_labels(backend, kind):
    name, device = backend
    if name == "triton":
        pytest.skip("it has no labels")
    x = LABELS.copy() if kind == "multilabel_logits" else 1 / (1 + np.exp(-LABELS))
    x[3, 4] = x[7] = np.nan  # a label that is missing, and a row of them
    given = torch.tensor(x, device=device)
    options = {"kind": kind, "on_invalid": "skip", "backend": name}
    for aggregate in ("mean", "max", "least", "sum", 3):
        truth = items_oracle(x.reshape(-1), np.arange(0, 361, 30), aggregate, kind)
        assert_items(fastal.score(given, aggregate=as_aggregate(aggregate), **options), truth)
    each = fastal.score(given, **options)
    assert_items(each, rows_oracle(x.reshape(-1), kind).reshape(4, 12, 30))
    with pytest.raises(fastal.InvalidRows, match="row 7 has no label that counts") as e:
        fastal.score(given, kind=kind, aggregate="mean", backend=name)
    assert e.value.rows == [7]


def test_labels_that_are_masked_do_not_count():
    mask = RNG.random(LABELS.shape) < 0.5
    mask[2] = False
    items = fastal.items(LABELS, mask=mask)
    options = {"kind": "multilabel_logits", "aggregate": "mean", "on_invalid": "skip"}
    truth = items_oracle(
        LABELS.reshape(-1), np.arange(0, 361, 30), "mean", "multilabel_logits",
        mask=mask.reshape(-1),
    )  # fmt: skip
    assert_items(fastal.score(items, **options), truth)


def test_one_sigmoid_is_scored_as_two_classes():
    """The clear rule: a multi-label kind takes one column; other kinds say how to stack two."""
    x = LABELS[:, :1]
    two = fastal.score(np.column_stack([0 * x, x]))
    for given in (x, fastal.items(x[:, 0], lengths=[1] * 12)):
        one = fastal.score(given, kind="multilabel_logits", aggregate="max")
        for got, want in zip(one, two, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    one = fastal.score(p, kind="multilabel_probs", aggregate="max")
    for got, want in zip(one, two, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
    for kind in ("probs", "logits"):
        for column in (x, x[:, 0]):
            with pytest.raises(ValueError, match=r"np.column_stack\(\[1 - p, p\]\)"):
                fastal.select(column, 3, kind=kind)
        with pytest.raises(ValueError, match=r"at least 2 classes, .*kind='multilabel_logits'"):
            fastal.score(IMAGES[:, :1], kind=kind, class_axis=1, aggregate="mean")
    binary = fastal.score(IMAGES[:, :1], kind="multilabel_logits", aggregate="mean")
    pixels = np.column_stack([0 * ROWS[:, 0], ROWS[:, 0]])
    assert_items(binary, items_oracle(pixels, OFFSETS, "mean"))


def test_heat_maps():
    """Without aggregate, all rows keep their scores; those that do not count are NaN."""
    x = IMAGES.copy()
    x[2, :, 1, 3] = -100.0
    x[4, 0, 2, 2] = np.nan
    rows = x.transpose(0, 2, 3, 1).reshape(-1, 5)
    for given in (x, torch.tensor(x)):
        maps = fastal.score(given, class_axis=1)
        assert type(maps.margin) is type(given)
        assert tuple(maps.margin.shape) == (9, 4, 6)
        assert_items(maps, rows_oracle(rows).reshape(4, 9, 4, 6))
    mask = np.ones((9, 4, 6), bool)
    mask[:, 0] = mask[5] = False
    maps = fastal.score(fastal.items(x, mask=mask), class_axis=1, on_invalid="skip")
    assert_items(maps, rows_oracle(rows, mask=mask.reshape(-1)).reshape(4, 9, 4, 6))
    with pytest.raises(fastal.InvalidRows, match="row 5 is an item of which no row counts"):
        fastal.score(fastal.items(x, mask=mask), class_axis=1)


def test_scores_and_selections_agree():
    for aggregate in ("mean", "top3"):
        scores = fastal.score(IMAGES, class_axis=1, aggregate=aggregate, temperature=1.7)
        for name in scores._fields:
            picks = fastal.select(
                IMAGES, 4, name, class_axis=1, aggregate=aggregate, temperature=1.7, chunk_bytes=999
            )
            column = getattr(scores, name)
            assert picks.rows.tolist() == np.argsort(-column, kind="stable")[:4].tolist()
            assert np.array_equal(picks.scores, column[picks.rows])
            assert picks.strategy == name


def test_a_temperature_divides_the_logits():
    got = fastal.score(IMAGES, class_axis=1, aggregate="mean", temperature=3.0)
    assert_items(got, items_oracle(ROWS, OFFSETS, "mean", temperature=3.0))


def test_no_items():
    for aggregate in (None, "mean", "top2"):
        scores = fastal.score(IMAGES[:0], class_axis=1, aggregate=aggregate)
        assert scores.margin.shape == ((0,) if aggregate else (0, 4, 6))


# --- what is said


def test_items_of_another_kind_are_recognised(caplog):
    p = torch.softmax(torch.tensor(IMAGES), 1)
    tokens = p.movedim(1, -1).flatten(1, 2)
    for pool, class_axis in (
        (p, 1), (tokens, -1), (fastal.items(list(tokens)), -1), (tokens.numpy(), -1),
    ):  # fmt: skip
        caplog.clear()
        fastal.select(pool, 2, class_axis=class_axis, aggregate="mean")
        assert "values from 0 to 1 that sum to 1" in "".join(messages(caplog))
    caplog.clear()
    fastal.select(IMAGES, 2, class_axis=1, aggregate="mean")
    fastal.select(p, 2, class_axis=1, aggregate="mean", kind="probs")
    assert not messages(caplog)
    with pytest.raises(fastal.InvalidRows, match=r"as logits have \(kind='logits'\)"):
        fastal.select(IMAGES, 2, class_axis=1, aggregate="mean", kind="probs")


def test_invalid_items_are_counted(caplog):
    x = IMAGES.copy()
    x[[1, 6]] = -100.0
    caplog.set_level(logging.WARNING, "fastal")
    scores = fastal.score(x, class_axis=1, aggregate="mean", on_invalid="skip")
    assert np.flatnonzero(np.isnan(scores.margin)).tolist() == [1, 6]
    assert messages(caplog) == ["2 of 9 rows are invalid: NaN"]
    with pytest.raises(fastal.InvalidRows, match="2 such among rows 0 to 8: 1, 6") as e:
        fastal.score(x, class_axis=1, aggregate="mean")
    assert e.value.rows == [1, 6]


def test_what_cannot_be_aggregated_is_refused():
    matrix = ROWS[:7]
    cases = {
        r"class_axis: axis 0 counts the rows": (IMAGES, {"class_axis": 0}),
        r"class_axis: no axis 4 in items of shape \(9, 5, 4, 6\)": (IMAGES, {"class_axis": 4}),
        r"class_axis: no axis -5 in items": (IMAGES, {"class_axis": -5}),
        r"class_axis: axis -4 of \(9, 5, 4, 6\) counts the items": (IMAGES, {"class_axis": -4}),
        r"class_axis: wanted 1, the axis of the classes of values \(7, 5\), got -2": (
            fastal.items(matrix, lengths=[7]), {"class_axis": -2},
        ),
        r"class_axis: wanted 1, .* got 2": (fastal.items(matrix, lengths=[7]), {"class_axis": 2}),
        r"logits: wanted \[items, rows, classes\], got shape \(7, 5\)": (matrix, {}),
        r"wanted at least 2 classes, got shape \(9, 1, 4, 6\)": (IMAGES[:, :1], {"class_axis": 1}),
        r"aggregate: wanted one of mean, max, sum, least, or top and a number": (
            IMAGES, {"aggregate": "median"},
        ),
        r"aggregate: .*got 'top0'": (IMAGES, {"aggregate": "top0"}),
        r"aggregate: .*got 3": (IMAGES, {"aggregate": 3}),
        r"aggregate: .*got 'top-1'": (IMAGES, {"aggregate": "top-1"}),
        r"aggregate: wanted draws_axis or aggregate, got both": (IMAGES, {"draws_axis": 1}),
        r"temperature: it divides logits": (
            LABELS, {"kind": "multilabel_probs", "temperature": 2.0},
        ),
        r"mask: wanted a bool for each row, \(9, 4, 6\), got \(9, 6, 4\)": (
            fastal.items(IMAGES, mask=np.ones((9, 6, 4), bool)), {"class_axis": 1},
        ),
        r"values \[rows of all items, classes\], got shape \(9, 5, 4, 6\)": (
            fastal.items(IMAGES, lengths=[9]), {},
        ),
        r"values \[labels of all items\], got shape \(7, 5\)": (
            fastal.items(matrix, lengths=[7]), {"kind": "multilabel_logits"},
        ),
    }  # fmt: skip
    for says, (pool, options) in cases.items():
        for call in (fastal.score, lambda x, **o: fastal.select(x, 2, **o)):
            with pytest.raises(ValueError, match=says):
                call(pool, **{"aggregate": "mean", **options})
    for pool, options in (
        (IMAGES, {"class_axis": 1}),
        (LABELS, {"kind": "multilabel_logits"}),
    ):
        with pytest.raises(ValueError, match="aggregate: wanted mean, max, sum, least, or top"):
            fastal.select(pool, 2, **options)
    with pytest.raises(ValueError, match="for items of several rows, .* aggregate='mean'"):
        fastal.select(ROWS.reshape(9, 24, 5), 2)
    with pytest.raises(TypeError, match="wanted float16, bfloat16, float32 or float64"):
        fastal.score(IMAGES.astype(int), class_axis=1, aggregate="mean")
    for options, says in (
        ({"temperature": 2.0}, "temperature: by='score' has no use of it"),
        ({"class_axis": 1}, "class_axis: by='score' has no use of it"),
        ({"aggregate": "mean"}, "aggregate: by='score' has no use of it"),
    ):
        with pytest.raises(ValueError, match=says):
            fastal.select(LABELS[0], 2, "score", **options)


def test_the_number_of_the_highest_may_be_beyond_any_item(backend):
    name, device = backend
    if name == "triton":
        pytest.skip("aggregates as torch")
    x = torch.tensor(IMAGES[:2], device=device)
    options = {"class_axis": 1, "backend": name}
    want = fastal.score(x, aggregate="mean", **options).margin
    for number in ("24", "100", str(2**63), "9" * 30):
        got = fastal.score(x, aggregate=f"top{number}", **options).margin
        np.testing.assert_allclose(got.cpu(), want.cpu(), rtol=1e-6)
