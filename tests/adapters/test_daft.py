"""Frames of several parts, which Daft aggregates one by one."""

import doctest
import importlib
import logging
from itertools import pairwise

import numpy as np
import pytest

import fastal
from fastal.testing import check_select
from tests.support.adapter_pages import page_code

pa = pytest.importorskip("pyarrow", reason="pyarrow is missing; scripts/test-adapters has it")
daft = pytest.importorskip("daft", reason="daft is missing; scripts/test-adapters daft has it")

from daft import DataType  # noqa: E402

from fastal.adapters.daft import top_k  # noqa: E402

N, CLASSES = 400, 4
LOGITS = 2 * np.random.default_rng(0).normal(size=(N, CLASSES)).astype(np.float32)
NUMBERS = np.random.default_rng(1).permutation(10 * N)[:N]


def frame_of(logits=LOGITS, ids=NUMBERS, parts=5, **columns):
    """A frame of several parts, in the order given."""
    table = pa.table({"logits": lists_of(logits), "id": ids, **columns})
    bounds = np.linspace(0, len(ids), parts + 1).astype(int)
    return daft.from_arrow([table.slice(a, b - a) for a, b in pairwise(bounds)])


def lists_of(logits):
    return pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), logits.shape[1])


def picks_of(frame, *args, column="picks", **options):
    options = {"id_type": DataType.int64(), **options}
    found = frame.agg(top_k("logits", "id", *args, **options).alias(column))
    (picks,) = found.to_pydict()[column]
    return [(pick["id"], pick["score"]) for pick in picks]


def want_of(k, by="margin", logits=LOGITS, ids=NUMBERS, **options):
    """The picks of `fastal.select` over the rows in the order of their ids."""
    order = np.argsort(ids)
    picks = fastal.select(logits[order], k, by, **options)
    return [(ids[order][row], score) for row, score in zip(picks.rows, picks.scores, strict=True)]


@pytest.mark.parametrize("parts", [1, 5, 37])
@pytest.mark.parametrize("by", fastal.Scores._fields)
def test_the_picks_are_those_of_select_for_any_parts(by, parts):
    for order in (slice(None), np.random.default_rng(parts).permutation(N)):
        frame = frame_of(LOGITS[order], NUMBERS[order], parts)
        for k in (7, N, 2 * N):
            assert picks_of(frame, k, by) == want_of(k, by)


def test_the_first_ids_win_ties_in_any_parts():
    logits = np.repeat(LOGITS[:4], N // 4, axis=0)
    frame = frame_of(logits, parts=9)
    assert picks_of(frame, 150) == want_of(150, logits=logits)
    by_place = [NUMBERS[row] for row in fastal.select(logits, 150).rows]
    assert [one for one, _ in picks_of(frame, 150)] != by_place


def test_options_of_the_score():
    probs = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    frame = frame_of(probs)
    assert picks_of(frame, 9, kind="probs") == want_of(9, logits=probs, kind="probs")
    options = {"by": "entropy", "temperature": 3.0}
    assert picks_of(frame_of(), 9, **options) == want_of(9, **options)

    def first(x):
        return x[:, 0]

    assert picks_of(frame_of(), 9, first) == want_of(9, first)


def test_texts_are_ids_unless_another_type_is_given():
    texts = np.array([f"r{i}" for i in NUMBERS], dtype=object)
    found = picks_of(frame_of(ids=texts), 9, id_type=None)
    assert found == want_of(9, ids=texts.astype(str))
    with pytest.raises(TypeError, match="id_type: wanted the type of the ids, Int64, got"):
        picks_of(frame_of(), 3, id_type=None)
    with pytest.raises(TypeError, match="id_type: wanted the DataType of text or of integers"):
        top_k("logits", "id", 3, id_type=DataType.float64())


def test_large_integers_keep_their_digits():
    ids = np.array([2**63 - 1, 2**53 + 1, 2**53, -3])
    found = picks_of(frame_of(LOGITS[:4], ids, 2), 4)
    assert sorted(one for one, _ in found) == sorted(ids.tolist())


def test_each_group_has_picks_of_its_own():
    groups = NUMBERS % 3
    frame = frame_of(group=groups)
    picks = top_k("logits", "id", 5, id_type=DataType.int64()).alias("picks")
    found = frame.groupby("group").agg(picks).to_pydict()
    assert sorted(found["group"]) == [0, 1, 2]
    for group, of_group in zip(found["group"], found["picks"], strict=True):
        rows = groups == group
        want = want_of(5, logits=LOGITS[rows], ids=NUMBERS[rows])
        assert [(pick["id"], pick["score"]) for pick in of_group] == want


@pytest.mark.parametrize(
    "of",
    [
        DataType.list(DataType.float32()),
        DataType.fixed_size_list(DataType.float32(), CLASSES),
        DataType.embedding(DataType.float32(), CLASSES),
        DataType.tensor(DataType.float32(), (CLASSES,)),
    ],
    ids=str,
)
def test_columns_of_all_types_of_lists(of):
    frame = frame_of()
    frame = frame.with_column("logits", frame["logits"].cast(of))
    assert frame.schema()["logits"].dtype == of
    assert picks_of(frame, 9) == want_of(9)


def test_tensors_of_arrays():
    frame = daft.from_pydict({"id": NUMBERS.tolist(), "logits": [*LOGITS]})
    assert frame.schema()["logits"].dtype.is_tensor()
    assert picks_of(frame, 9) == want_of(9)


@pytest.mark.parametrize("shape", [None, (2, CLASSES), ()])
def test_tensors_of_several_axes_are_refused(shape):
    """Whether the type has the shape, or each row. Their values would be those of more classes."""
    frame = daft.from_pydict({"id": [1, 2, 3, 4], "logits": [*LOGITS[:8].reshape(4, 2, CLASSES)]})
    n_axes = 2
    if shape == ():
        frame = frame_of(LOGITS[:4, :1], [1, 2, 3, 4])
        n_axes = 0
    if shape is not None:
        of = DataType.tensor(DataType.float32(), shape)
        frame = frame.with_column("logits", frame["logits"].cast(of))
        assert frame.schema()["logits"].dtype == of
    else:
        assert frame.schema()["logits"].dtype == DataType.tensor(DataType.float32())
    with pytest.raises(TypeError, match=f"logits: wanted tensors with one axis, .* {n_axes}"):
        picks_of(frame, 2)


def test_missing_tensors_are_left_out():
    rows = [None, *LOGITS[1:]]
    for shape in (None, (CLASSES,)):
        of = DataType.tensor(DataType.float32(), shape)
        frame = daft.from_pydict({"id": NUMBERS.tolist(), "logits": rows})
        frame = frame.with_column("logits", frame["logits"].cast(of))
        found = picks_of(frame, 9, on_invalid="skip")
        assert found == want_of(9, logits=LOGITS[1:], ids=NUMBERS[1:])


@pytest.mark.parametrize(
    "of",
    [
        DataType.struct({"data": DataType.list(DataType.float32())}),
        DataType.image("L", 2, 2),
        DataType.sparse_tensor(DataType.float32()),
        DataType.list(DataType.list(DataType.float32())),
        DataType.fixed_size_list(DataType.fixed_size_list(DataType.float32(), 2), 2),
        DataType.decimal128(4, 1),
        DataType.bool(),
    ],
    ids=str,
)
def test_columns_of_other_types_are_refused(of):
    values = daft.Series.from_pylist([None, None]).cast(of)
    frame = daft.from_pydict({"id": [1, 2], "logits": values})
    assert frame.schema()["logits"].dtype == of
    with pytest.raises(TypeError, match="logits: wanted lists of numbers, got"):
        picks_of(frame, 1)


def test_lists_of_several_lengths_in_different_parts_are_refused():
    def part(rows, first):
        logits = pa.array(rows, pa.list_(pa.float64()))
        return pa.table({"logits": logits, "id": np.arange(first, first + len(rows))})

    wide, narrow = part([[1.0, 2, 3], [0, 0, 1]], 0), part([[1.0, 2], [0, 1]], 10)
    missing, none = part([None, None], 20), part([], 30)
    options = {"on_invalid": "skip"}
    for parts in ([wide, narrow], [wide, missing, wide, none, narrow], [missing, wide, narrow]):
        with pytest.raises(ValueError, match="logits: lists of 2 and of 3 values"):
            picks_of(daft.from_arrow(parts), 2, **options)
    found = picks_of(daft.from_arrow([none, missing, narrow]), 9, **options)
    assert sorted(one for one, _ in found) == [10, 11]
    assert picks_of(daft.from_arrow([missing, none]), 9, **options) == []


@pytest.mark.parametrize(("parts", "on_invalid"), [(1, "raise"), (3, None)])
def test_top_k_passes_the_public_checks(parts, on_invalid):
    """Excluded rows are left out before. Of several parts, any may be the first to fail."""

    def select(pool, k, exclude=()):
        frame = frame_of(pool, np.arange(len(pool)), parts)
        frame = frame.where(~frame["id"].is_in([int(row) for row in exclude]))
        found = picks_of(frame, k, "entropy")
        return np.array([one for one, _ in found]), np.array([score for _, score in found])

    check_select(select, by="entropy", on_invalid=on_invalid, n_rows=100)


def test_a_column_of_scores_of_ones_own():
    scores = LOGITS[:, 0]
    table = pa.table({"logits": scores, "id": NUMBERS})
    assert picks_of(daft.from_arrow([table[:9], table[9:]]), 9, "score") == want_of(
        9, "score", logits=scores
    )


def test_frames_without_rows_have_no_picks():
    frame = frame_of()
    assert picks_of(frame.where(frame["id"] < 0), 3) == []


def test_invalid_and_missing_rows_are_named_or_left_out(caplog):
    logits = LOGITS.copy()
    logits[17, 2] = np.nan
    frame = frame_of(logits)
    with pytest.raises(ValueError, match=rf"the row with the id {NUMBERS[17]} .*1 such"):
        picks_of(frame, 3)
    with caplog.at_level(logging.WARNING, "fastal"):
        found = picks_of(frame, N, on_invalid="skip")
    assert found == want_of(N, logits=logits, on_invalid="skip")
    assert "top_k: 1 rows are invalid" in caplog.text
    rows = [row.tolist() for row in LOGITS]
    rows[3] = rows[5] = None
    for of in (pa.list_(pa.float32()), pa.list_(pa.float32(), CLASSES)):
        table = pa.table({"logits": pa.array(rows, of), "id": NUMBERS})
        with pytest.raises(ValueError, match="the row with the id"):
            picks_of(daft.from_arrow(table), 3)
        found = picks_of(daft.from_arrow([table[:4], table[4:]]), N, on_invalid="skip")
        kept = np.setdiff1d(np.arange(N), [3, 5])
        assert found == want_of(N, logits=LOGITS[kept], ids=NUMBERS[kept])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1, 2, 2, 4], ValueError, "ids: 2 is there twice"),
        ([1, None, 2, 4], ValueError, "ids: a row has no id"),
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_bad_ids_are_refused(ids, error, message, parts):
    with pytest.raises(error, match=message):
        picks_of(frame_of(LOGITS[:4], pa.array(ids), parts), 4)


def test_bad_columns_are_refused():
    table = {"id": [1, 2], "logits": [[1.0, 2.0], [1.0]]}
    with pytest.raises(ValueError, match="logits: lists of 1 and of 2 values"):
        picks_of(daft.from_pydict(table), 1)
    for logits in (["a", "b"], [["a", "b"], ["c", "d"]]):
        with pytest.raises(TypeError, match="logits: wanted lists of numbers, got"):
            picks_of(daft.from_pydict({**table, "logits": logits}), 1)
    with pytest.raises(ValueError, match="logits: "):
        picks_of(daft.from_pydict({**table, "logits": [1.0, 2.0]}), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: "),
        ({"by": "size"}, "by: "),
        ({"by": "random"}, "by: wanted a score of the values"),
        ({"kind": "x"}, "kind: "),
        ({"on_invalid": "x"}, "on_invalid: "),
        ({"logits": 5}, "logits: wanted a column"),
        ({"ids": None}, "ids: wanted a column"),
    ],
)
def test_bad_arguments_are_refused_at_once(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        top_k(**{"logits": "logits", "ids": "id", "k": 3, **change})


def test_the_example_of_the_library_does_not_run():
    """Its docstring gives float() a Series: the adapter takes plain values out of Series."""

    @daft.udaf(return_dtype=DataType.float64(), state=DataType.float64())
    class MySum:
        def aggregate(self, values):
            return float(values.sum())

        def combine(self, states):
            return float(states.sum())

        def finalize(self, state):
            return state

    with pytest.raises(TypeError, match="not 'Series'"):
        frame_of().agg(MySum()(daft.col("id"))).to_pydict()


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in page_code("daft"):
        exec(block, names)
    assert names["batch"].to_pydict()["id"] == [f"r{row:03}" for row in names["want"].rows]
    assert {len(of_group) for of_group in names["quotas"].to_pydict()["picks"]} == {50}


def test_the_examples_give_the_output_that_they_show():
    module = importlib.import_module("fastal.adapters.daft")
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 3
    assert found.failed == 0


@pytest.fixture(params=["noise='power', seed=7", "ties='random', seed=3", "by='random'"])
def selectors(request):
    """The aggregate of the page on Daft in docs/distributed, and the arguments of its selectors."""
    names = {}
    frame, aggregate, _ = page_code("daft", folder="distributed")
    exec(frame, names)
    on_page = 'by="margin", noise="power", seed=7'
    assert on_page in aggregate
    exec(aggregate.replace(on_page, request.param), names)
    return names["Drawn"], eval(f"dict(k=100, {request.param})")


@pytest.mark.parametrize("parts", [1, 5, 37])
def test_a_state_may_be_a_selector_with_any_options(selectors, parts):
    aggregate, options = selectors
    logits = LOGITS.round()  # many rows tie
    order = np.random.default_rng(parts).permutation(N)
    frame = frame_of(logits[order], np.arange(N)[order], parts)
    of = DataType.embedding(DataType.float32(), CLASSES)
    frame = frame.with_column("logits", frame["logits"].cast(of))
    found = frame.agg(aggregate()(frame["logits"], frame["id"]).alias("picks")).to_pydict()["picks"]
    want = fastal.select(logits, **options)
    assert [pick["row"] for pick in found[0]] == want.rows.tolist()
    assert [pick["score"] for pick in found[0]] == want.scores.tolist()


def test_the_examples_of_the_page_on_selectors_run():
    names = {}
    for block in page_code("daft", folder="distributed"):
        exec(block, names)
    want = fastal.select(names["logits"], 100, noise="power", seed=7)
    assert names["picks"].to_pydict()["row"] == want.rows.tolist()
    batch = names["batch"].to_pydict()
    assert sorted(batch["row"]) == sorted(want.rows.tolist())
    assert batch["id"] == [f"r{row:03}" for row in batch["row"]]


@pytest.mark.parametrize(
    ("bad", "message"), [([np.nan] * CLASSES, "row 3 has"), (None, "cannot reshape")]
)
def test_bad_rows_of_the_page_on_selectors_fail(bad, message):
    names = {}
    for block in page_code("daft", folder="distributed")[:2]:
        exec(block, names)
    rows = [row.tolist() for row in LOGITS[:6]]
    rows[3] = bad
    logits = pa.array(rows, pa.list_(pa.float32(), CLASSES))
    frame = daft.from_arrow(pa.table({"logits": logits, "row": np.arange(6)}))
    of = DataType.embedding(DataType.float32(), CLASSES)
    frame = frame.with_column("logits", frame["logits"].cast(of))
    with pytest.raises(ValueError, match=message):
        frame.agg(names["Drawn"]()(frame["logits"], frame["row"])).to_pydict()
