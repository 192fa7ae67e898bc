"""Hidden states with a linear head: accuracy, chunks, layouts, invalid rows, errors."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import ops
from fastal.ops import reference
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal_kernels import native
from tests.support.matrices import ON_GPU
from tests.support.memory import PAGE, Guarded
from tests.support.oracle import assert_scores, definitions

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# By code path: fewer rows, classes and columns than a tile of any variant; parts of tiles and of
# spans (256 columns, or 512 of bfloat16); more rows than a panel and a unit of work; odd numbers of
# columns, which bfloat16 cannot read in pairs.
SHAPES = [
    (1, 1, 2), (3, 2, 5), (33, 17, 12), (7, 255, 13), (65, 258, 25), (2, 600, 31), (300, 40, 9),
    (4, 1100, 40),
]  # fmt: skip
DRAWN = (40, 70, 23)  # rows, columns and classes of the tests of chunks


def integers(shape, dtype, seed, scale=1.0):
    """Small integers times a scale: exact in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(-3, 4, shape, generator=generator) * scale).to(dtype)


def exact_case(n_rows, n_columns, n_classes, dtype, scale=2.0**-4):
    """Rows, weight and bias whose logits are exact in float32, in any order of the sums."""
    hidden = integers((n_rows, n_columns), dtype, 0)
    weight = integers((n_classes, n_columns), dtype, 1, scale)
    return hidden, weight, integers((n_classes,), dtype, 2, scale)


def real_case(n_rows, n_columns, n_classes, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (
        torch.randn(n, n_columns, generator=generator).to(dtype) for n in (n_rows, n_classes)
    )
    return hidden, weight / n_columns**0.5, torch.randn(n_classes, generator=generator)


def logits_of(hidden, weight, bias, temperature=1.0):
    """The definition in float64."""
    return (hidden.double() @ weight.double().T + bias.double()) / temperature


def blocks_of(backend):
    """What computes logits, and where."""
    name, device = backend
    if name == "native":
        from fastal_kernels.native.head import logits_blocks

        return logits_blocks, device
    return reference.logits_blocks, device


def product(backend, hidden, weight, bias, temperature=1.0):
    """The logits that a backend computes, of all blocks."""
    blocks, device = blocks_of(backend)
    given = (x.to(device) for x in (hidden, weight, bias))
    return torch.cat([block.cpu().clone() for _, block in blocks(*given, temperature)])


def error_bound(hidden, weight, bias):
    """The most that rounding changes a logit.

    A float32 sum of n terms, in any order, is off by at most 1.01 n 2^-24 times the sum of the
    absolute terms, if n 2^-24 < 0.01 (Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1). The terms are the products, each rounded once, the bias, and the division.
    """
    sizes = hidden.double().abs() @ weight.double().abs().T + bias.double().abs()
    return 1.01 * (hidden.shape[1] + 3) * 2.0**-24 * sizes


# --- accuracy


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_are_those_of_the_exact_logits(backend, shape, dtype):
    hidden, weight, bias = exact_case(*shape, dtype)
    name, device = backend
    for temperature in (1, 0.25):  # a power of 2: the division is exact
        head = fastal.Head(weight, bias, temperature=temperature)
        scores = head.score(hidden.to(device), backend=name)
        assert_scores(scores, definitions(logits_of(hidden, weight, bias, temperature)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_within_the_rounding_of_float32_sums(backend, shape, dtype):
    hidden, weight, bias = real_case(*shape, dtype)
    error = (product(backend, hidden, weight, bias) - logits_of(hidden, weight, bias)).abs()
    assert (error <= error_bound(hidden, weight, bias)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_product_rounded_to_16_bits_would_be_noticed(dtype):
    hidden, weight, bias = real_case(65, 258, 25, dtype)
    rounded = (hidden @ weight.T).float() + bias
    error = (rounded - logits_of(hidden, weight, bias)).abs()
    assert (error > error_bound(hidden, weight, bias)).any()


def test_a_temperature_that_leaves_out_the_bias_would_be_noticed(backend):
    hidden, weight, bias = real_case(5, 20, 7, torch.float32)
    got = product(backend, hidden, weight, bias, 3.0)
    bound = error_bound(hidden, weight, bias) / 3
    assert ((got - logits_of(hidden, weight, bias, 3.0)).abs() <= bound).all()
    assert ((got - (logits_of(hidden, weight, 0 * bias, 3.0) + bias)).abs() > bound).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_and_weight_may_have_different_dtypes(backend, dtype):
    hidden, _, _ = exact_case(9, 34, 5, torch.float32)
    _, weight, bias = exact_case(9, 34, 5, dtype)
    got = product(backend, hidden, weight, bias.float())
    assert torch.equal(got.double(), logits_of(hidden, weight, bias))


@pytest.mark.full
def test_rows_of_many_classes_in_several_blocks(backend):
    name, device = backend
    is_interpreted = name == "triton" and not ON_GPU  # which takes a minute for all rows
    hidden, weight, bias = exact_case(20 if is_interpreted else 300, 6, 40_000, torch.bfloat16)
    got = fastal.Head(weight, bias).score(hidden.to(device), backend=name)
    assert_scores(got, definitions(logits_of(hidden, weight, bias)))


# --- the same bits


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chunks_and_threads_change_no_bit(backend, dtype, threads):
    hidden, weight, bias = real_case(*DRAWN, dtype)
    head = fastal.Head(weight, bias, by=UNCERTAINTY_SCORES)
    name, device = backend
    hidden = hidden.to(device)

    def bits(rows):
        scores, _ = ops.head_scores(
            rows, *head._on(rows.device), 1.0, UNCERTAINTY_SCORES, backend=name
        )
        return torch.stack(scores).view(torch.int32)

    whole = bits(hidden)
    threads(1)
    assert torch.equal(bits(hidden), whole)

    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.integers(0, DRAWN[0]), max_size=5))
    def check(cuts):
        edges = [0, *sorted(cuts), DRAWN[0]]
        parts = [bits(hidden[a:b]) for a, b in pairwise(edges)]
        assert torch.equal(torch.cat(parts, 1), whole)

    check()


@pytest.mark.full
def test_a_block_of_native_rows_changes_no_bit(monkeypatch):
    if native.reasons():
        pytest.skip("not compiled here")
    from fastal_kernels.native import head

    hidden, weight, bias = real_case(400, 70, 50, torch.float32)
    whole = torch.cat([x.clone() for _, x in head.logits_blocks(hidden, weight, bias, 1.0)])
    for n_bytes in (200, 4 * 50 * 33, 4 * 50 * 300):
        monkeypatch.setattr(head, "_LOGITS_BYTES", n_bytes)
        blocks = list(head.logits_blocks(hidden, weight, bias, 1.0))
        assert len(blocks) > 1
        parts = [x.clone() for _, x in head.logits_blocks(hidden, weight, bias, 1.0)]
        assert torch.equal(torch.cat(parts), whole)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=6), st.randoms())
def test_picks_do_not_depend_on_chunks_or_their_order(cuts, random):
    hidden, weight, bias = real_case(60, 24, 11, torch.bfloat16)
    head = fastal.Head(weight, bias, by="entropy", temperature=2.0)
    whole = fastal.select(hidden, 7, head)
    edges = [0, *sorted(cuts), 60]
    chunks = [(a, hidden[a:b]) for a, b in pairwise(edges)]
    random.shuffle(chunks)
    selectors = [
        fastal.Selector(7, head),
        fastal.Selector(7, fastal.Head(weight, bias, by="entropy", temperature=2.0)),
    ]
    for i, (start, chunk) in enumerate(chunks):
        selectors[i % 2].update(chunk, start)
    selectors[0].merge(selectors[1])
    found = selectors[0].result()
    assert torch.equal(found.rows, whole.rows)
    assert torch.equal(found.scores, whole.scores)


# --- layouts


def test_any_strides_and_libraries(backend):
    hidden, weight, bias = exact_case(20, 31, 6, torch.float32)
    want = logits_of(hidden, weight, bias)
    wide = torch.zeros(40, 70)
    wide[::2, 1:63:2] = hidden
    for rows in (hidden.T.contiguous().T, wide[::2, 1:63:2], hidden[:1].expand(20, 31)):
        is_same = rows.stride(0) != 0
        got = product(backend, rows, weight, bias)
        assert torch.equal(got.double(), want if is_same else want[:1].expand(20, 6))
    head = fastal.Head(np.asfortranarray(weight.numpy()), bias.numpy())
    scores = head.score(np.asfortranarray(hidden.numpy()))
    assert isinstance(scores.margin, np.ndarray)
    assert_scores(scores, definitions(want))


def test_rows_of_bfloat16_from_an_odd_place(backend):
    """Pairs are read from addresses that are no multiple of 4 bytes."""
    hidden, weight, bias = exact_case(40, 31, 6, torch.bfloat16)
    got = product(backend, hidden[:, 1:], weight[:, 1:].contiguous(), bias.float())
    assert torch.equal(got.double(), logits_of(hidden[:, 1:], weight[:, 1:], bias))


@pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_native_products_read_nothing_beside_their_memory(dtype, monkeypatch):
    from fastal_kernels.native.head import logits_blocks

    hidden, weight, bias = exact_case(35, 38, 14, dtype)
    want = logits_of(hidden, weight, bias)
    pages = [Guarded(-(-x.nbytes // PAGE)) for x in (hidden, weight)]
    for variant in native.variants():
        monkeypatch.setenv(native.VARIABLE, variant)
        for place in ("at_the_start", "at_the_end"):
            rows, of_classes = (
                getattr(page, place)(x) for page, x in zip(pages, (hidden, weight), strict=True)
            )
            ((_, got),) = logits_blocks(rows, of_classes, bias.float(), 1.0)
            assert torch.equal(got.double(), want)


def test_a_linear_layer_is_detached_and_neither_it_nor_the_rows_are_written_to():
    layer = torch.nn.Linear(12, 4)
    hidden = torch.randn(30, 12, requires_grad=True)
    before = [x.detach().clone() for x in (layer.weight, layer.bias, hidden)]
    scores = fastal.Head(layer.weight, layer.bias).score(hidden)
    assert not scores.margin.requires_grad
    assert_scores(scores, definitions(logits_of(hidden, layer.weight, layer.bias).detach()))
    for x, was in zip((layer.weight, layer.bias, hidden), before, strict=True):
        assert torch.equal(x, was)


@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_rows_on_the_host_are_scored_on_a_gpu():
    hidden, weight, bias = exact_case(5000, 64, 100, torch.bfloat16)
    scores = fastal.Head(weight, bias).score(hidden, backend="triton")
    assert_scores(scores, definitions(logits_of(hidden, weight, bias)))


def test_no_rows_have_no_scores(backend):
    name, device = backend
    head = fastal.Head(torch.eye(3))
    assert head.score(torch.empty(0, 3, device=device), backend=name).margin.shape == (0,)


# --- selection


def test_a_selection_is_that_of_the_logits(backend, tmp_path):
    hidden, weight, bias = exact_case(200, 16, 7, torch.float32)
    np.save(tmp_path / "hidden.npy", hidden.numpy())
    logits = logits_of(hidden, weight, bias).float()
    for by in UNCERTAINTY_SCORES:
        want = fastal.select(logits, 20, by, backend="torch")
        head = fastal.Head(weight, bias, by=by)
        for pool in (hidden, tmp_path / "hidden.npy"):
            picks = fastal.select(pool, 20, head, backend=backend[0])
            np.testing.assert_allclose(picks.scores, want.scores, rtol=2e-5)
            assert picks.strategy == by


def test_several_scores_come_from_one_read_and_a_selection_wants_one():
    head = fastal.Head(torch.eye(3), by=["margin", "entropy"])
    assert head.names == ("margin", "entropy")
    with pytest.raises(ValueError, match="by: wanted a measure of one score, got margin, entropy"):
        fastal.select(torch.eye(3), 1, head)


def test_a_checkpoint_of_another_head_is_refused():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    state = fastal.Selector(2, fastal.Head(weight)).state_dict()
    fastal.Selector(2, fastal.Head(weight.clone())).load_state_dict(state)
    other = weight.clone()
    other[3, 5] += 1e-3
    for head in (
        fastal.Head(other),
        fastal.Head(weight, torch.zeros(4)),
        fastal.Head(weight, temperature=2),
        fastal.Head(weight, by="ratio"),
        fastal.Head(weight.view(4, 6)[:, :5].contiguous()),
    ):
        with pytest.raises(ValueError, match="the state has by="):
            fastal.Selector(2, head).load_state_dict(state)


def test_hidden_states_have_no_predicted_class():
    with pytest.raises(ValueError, match="groups: 'predicted' wanted rows of predictions, got row"):
        fastal.select(torch.eye(3), 1, fastal.Head(torch.eye(3)), groups="predicted", per_group=1)


# --- items

LENGTHS = (3, 1, 14, 2)


def item_case(dtype=torch.float32):
    hidden, weight, bias = exact_case(sum(LENGTHS), 38, 9, dtype)
    return hidden, weight, bias, definitions(logits_of(hidden, weight, bias))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("aggregate", ["mean", "max", "sum", "least", "top2"])
def test_the_scores_of_hidden_states_become_those_of_their_items(backend, aggregate, dtype):
    hidden, weight, bias, of_rows = item_case(dtype)
    of_items = {
        "mean": np.mean, "max": np.max, "sum": np.sum, "least": np.min,
        "top2": lambda x: np.sort(x)[-2:].mean(),
    }[aggregate]  # fmt: skip
    name, device = backend
    items = fastal.items(list(hidden.to(device).split(LENGTHS)))
    got = fastal.Head(weight, bias).score(items, aggregate=aggregate, backend=name)
    edges = np.cumsum((0, *LENGTHS))
    for scores, rows in zip(got, of_rows, strict=True):
        want = [float(of_items(rows[a:b])) for a, b in pairwise(edges)]
        np.testing.assert_allclose(scores.cpu(), want, rtol=1.1e-5)  # rows 1e-5, and roundings


def test_the_score_of_a_mean_hidden_state_would_be_noticed():
    hidden, weight, bias, _ = item_case()
    head = fastal.Head(weight, bias)
    got = head.score(fastal.items(list(hidden.split(LENGTHS))), aggregate="mean")
    of_means = head.score(torch.stack([x.mean(0) for x in hidden.split(LENGTHS)]))
    error = (got.entropy - of_means.entropy).abs() / got.entropy
    assert (error > 1.1e-5).sum() == 3  # all but the item of one row


def test_rows_that_are_masked_padding_or_invalid_do_not_count(backend):
    hidden, weight, bias = exact_case(12, 8, 5, torch.float32)
    name, device = backend
    head = fastal.Head(weight, bias)
    items = hidden.view(3, 4, 8).clone()
    items[0, 2:], items[1, 2:] = -100.0, torch.nan
    mask = np.ones((3, 4), bool)
    mask[2, 2:] = False
    got = head.score(fastal.items(items.to(device), mask=mask), aggregate="mean", backend=name)
    want = head.score(items[:, :2].contiguous().to(device), aggregate="mean", backend=name)
    for scores, of_others in zip(got, want, strict=True):
        assert torch.equal(scores, of_others)
    items[1] = -100.0
    with pytest.raises(fastal.InvalidRows, match="row 1 is an item of which no row counts"):
        head.score(items.to(device), aggregate="mean", backend=name)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 20), max_size=5))
def test_picks_of_items_do_not_depend_on_chunks(cuts):
    hidden, weight, bias = real_case(20 * 3, 24, 11, torch.bfloat16)
    items = hidden.view(20, 3, 24)
    head = fastal.Head(weight, bias, by="entropy")
    whole = fastal.select(items, 6, head, aggregate="mean")
    selector = fastal.Selector(6, head, aggregate="mean")
    for a, b in pairwise([0, *sorted(cuts), 20]):
        selector.update(items[a:b], a)
    found = selector.result()
    assert torch.equal(found.rows, whole.rows)
    assert torch.equal(found.scores, whole.scores)


def test_a_state_of_another_aggregate_is_refused():
    head = fastal.Head(torch.eye(3))
    state = fastal.Selector(2, head, aggregate="mean").state_dict()
    fastal.Selector(2, head, aggregate="mean").load_state_dict(state)
    for aggregate in (None, "max"):
        with pytest.raises(ValueError, match="the state has by="):
            fastal.Selector(2, head, aggregate=aggregate).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 2}, "temperature: give it to Head"),
        ({"kind": "probs"}, "kind: got 'probs', and Head makes logits of hidden states"),
        ({"class_axis": 1}, "class_axis: Head has no use of it"),
        ({"draws_axis": 1}, "draws_axis: Head has no use of it"),
        ({"aggregate": "median"}, "aggregate: wanted one of mean, .*got 'median'"),
        ({"aggregate": "mean"}, r"hidden: wanted \[items, rows, columns\], got shape \(3, 3\)"),
    ],
)
def test_what_cannot_be_said_of_hidden_states_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        fastal.select(torch.eye(3), 1, fastal.Head(torch.eye(3)), **options)


def test_items_of_hidden_states_want_an_aggregate_and_the_columns_of_the_weight():
    head = fastal.Head(torch.eye(3))
    with pytest.raises(ValueError, match="hidden: got items of several rows; wanted aggregate"):
        fastal.select(fastal.items([torch.eye(3)]), 1, head)
    for items in (fastal.items([torch.ones(2, 4)]), torch.ones(1, 2, 4)):
        with pytest.raises(ValueError, match="weight: wanted 4 columns, as the hidden states"):
            fastal.select(items, 1, head, aggregate="mean")


# --- invalid rows


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_row_with_nan_or_infinity_is_invalid_and_no_other(backend, value):
    hidden, weight, bias = exact_case(50, 40, 9, torch.bfloat16)
    hidden[[3, 40], [0, 39]] = value
    name, device = backend
    head = fastal.Head(weight, bias)
    with pytest.raises(fastal.InvalidRows, match=r"row 3 has NaN or an infinite value") as error:
        head.score(hidden.to(device), backend=name)
    assert error.value.rows == [3, 40]
    margin = head.score(hidden.to(device), on_invalid="skip", backend=name).margin.cpu()
    assert margin.isnan().nonzero()[:, 0].tolist() == [3, 40]
    picks = fastal.select(hidden.to(device), 50, head, on_invalid="skip", backend=name)
    assert picks.invalid == 2
    assert len(picks) == 48


def test_a_row_whose_logits_overflow_is_invalid(backend):
    hidden = torch.tensor([[1.0, 0.0], [3e38, 3e38], [0.0, 1.0]])
    scores = fastal.Head(torch.tensor([[1.0, 1.0], [0.0, 1.0]])).score(
        hidden.to(backend[1]), on_invalid="skip", backend=backend[0]
    )
    assert scores.ratio.isnan().tolist() == [False, True, False]


def test_a_bias_of_minus_infinity_excludes_a_class(backend):
    hidden, weight, bias = exact_case(20, 8, 5, torch.float32)
    bias[2] = -torch.inf
    scores = fastal.Head(weight, bias).score(hidden.to(backend[1]), backend=backend[0])
    assert_scores(scores, definitions(logits_of(hidden, weight, bias)))


# --- errors

WEIGHT = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (np.ones(4, np.float32),),
            ValueError,
            r"weight: wanted \[rows, columns\], got shape \(4,",
        ),
        (
            (WEIGHT[:1],),
            ValueError,
            r"weight: wanted at least 2 classes \[C, H\], got shape \(1, 4",
        ),
        ((WEIGHT.astype(np.float64),), TypeError, "weight: wanted float16, .*got torch.float64"),
        ((WEIGHT.astype(np.int64),), TypeError, "weight: wanted float16, .*got torch.int64"),
        ((WEIGHT * np.nan,), ValueError, "weight: wanted finite values, got NaN or an infinite"),
        (("weight.pt",), TypeError, "weight: wanted an array"),
        ((WEIGHT, np.ones(4, np.float32)), ValueError, r"bias: wanted shape \(3,\).*got shape \(4"),
        ((WEIGHT, np.ones(3)), TypeError, "bias: wanted float16, .*got torch.float64"),
        ((WEIGHT, np.float32([0, 0, np.inf])), ValueError, "bias: wanted finite values or -inf"),
        ((WEIGHT, np.float32([0, 0, np.nan])), ValueError, "bias: wanted finite values or -inf"),
    ],
)
def test_a_bad_weight_or_bias_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        fastal.Head(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"by": "random"}, ValueError, "by: wanted one of least_confidence, .*got 'random'"),
        ({"by": None}, TypeError, "by: wanted a name or a sequence of names, got None"),
        ({"by": ()}, ValueError, "by: wanted at least one score, got none"),
        ({"temperature": 0}, ValueError, "temperature: wanted 1e-06 to .*, got 0"),
        ({"temperature": np.inf}, ValueError, "temperature: wanted 1e-06 to .*, got inf"),
        ({"temperature": "1"}, TypeError, "temperature: wanted a number, got '1'"),
    ],
)
def test_a_bad_option_is_named(options, error, message):
    with pytest.raises(error, match=message):
        fastal.Head(WEIGHT, **options)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (np.ones((2, 5), np.float32), ValueError, "weight: wanted 5 columns, as the hidden states"),
        (
            np.ones((2, 4)),
            TypeError,
            "hidden: wanted float16, bfloat16 or float32, got torch.float64",
        ),
        (np.ones(4, np.float32), ValueError, r"hidden: wanted \[rows, columns\], got shape \(4,\)"),
    ],
)
def test_bad_rows_are_named(rows, error, message):
    head = fastal.Head(WEIGHT)
    for work in (lambda: head.score(rows), lambda: fastal.select(rows, 1, head)):
        with pytest.raises(error, match=message):
            work()
