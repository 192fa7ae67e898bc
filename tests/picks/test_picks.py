"""Picks: length, items, slices, joining, and how they are shown."""

import html
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastal
from fastal import Picks

N = 6
KINDS = {"numpy": np.asarray, "torch": torch.asarray, "strict": array_api_strict.asarray}


def picks_of(kind="numpy", n=N, first=0):
    rows = np.arange(first, first + n)[::-1].copy()
    scores = np.linspace(1, 0.5, n).astype(np.float32)
    return Picks(
        KINDS[kind](rows), KINDS[kind](scores), [f"i{row}" for row in rows], 3, rows % 2,
        "margin", {"text": [f"text {row}" for row in rows]},
    )  # fmt: skip


def plain(picks):
    """All columns as lists, by their names."""
    columns = {"rows": picks.rows, "scores": picks.scores, "ids": picks.ids, "groups": picks.groups}
    return {name: np.asarray(x).tolist() for name, x in (columns | picks.columns).items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "index",
    [
        slice(1, 4), slice(None, None, -2), slice(9, 9), [0, 3, 3], [], [True, False] * 3,
        np.array([-1, 0]), np.arange(N) > 2, torch.tensor([2, 1]), torch.arange(N) > 4,
    ],
    ids=str,
)  # fmt: skip
def test_parts_of_picks_have_the_values_at_these_places(kind, index):
    picks = picks_of(kind)
    part = picks[index]
    places = np.arange(N)[np.asarray(index, None if len(index) else int)] if (
        not isinstance(index, slice)
    ) else range(N)[index]  # fmt: skip
    whole = plain(picks)
    assert plain(part) == {name: [values[i] for i in places] for name, values in whole.items()}
    assert len(part) == len(places)
    assert type(part.rows) is type(picks.rows)
    assert (part.invalid, part.strategy) == (3, "margin")
    assert part.rows.dtype == picks.rows.dtype
    assert part.scores.dtype == picks.scores.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_pick_is_a_dictionary_of_plain_values(kind):
    picks = picks_of(kind)
    want = {
        "row": 4,
        "score": float(str(np.float32(0.9))),
        "id": "i4",
        "group": 0,
        "text": "text 4",
    }
    assert picks[1] == picks[np.int64(1)] == picks[1 - N] == want
    assert [*map(type, picks[1].values())] == [int, float, str, int, str]
    assert [*picks][1] == want
    assert len([*picks]) == N
    assert picks["text"].tolist()[1] == "text 4"


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (N, IndexError, "out of range"), (-N - 1, IndexError, "out of range"),
        ("txt", KeyError, "no column 'txt'; the picks have row, score, id, group, text"),
        ([True], IndexError, "boolean"), (1.5, IndexError, "integers"),
        (np.array([0.5]), IndexError, "integer"), (np.array([[0]]), IndexError, "wanted a slice"),
    ],
)  # fmt: skip
def test_wrong_indices_are_refused(index, error, words):
    with pytest.raises(error, match=words):
        picks_of()[index]


@pytest.mark.parametrize(
    "wrong",
    [{"ids": [1]}, {"groups": np.zeros((N, 1))}, {"columns": {"text": ["a"] * (N + 1)}}],
)
def test_columns_of_another_length_are_refused(wrong):
    name = next(iter(wrong)) if "columns" not in wrong else "text"
    with pytest.raises(ValueError, match=f"^{name}: wanted one value for each of {N} picks"):
        replace(picks_of(), **wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_concatenated_picks_are_in_the_order_given(kind):
    a, b = picks_of(kind, 3), picks_of("numpy", 2, first=9)
    found = a + b
    assert plain(found) == {name: values + plain(b)[name] for name, values in plain(a).items()}
    assert type(found.rows) is type(a.rows)
    assert (found.invalid, found.strategy) == (6, "margin")
    assert plain(Picks.concat(iter([a]))) == plain(a)


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(0, 8), st.booleans())
def test_the_first_row_that_is_picked_twice_is_named(rows, cut, has_ids):
    ids = [f"id of {row}" for row in rows]
    parts = [
        Picks(np.array(rows[part], np.int64), np.ones(len(rows[part]), np.float32),
              ids[part] if has_ids else None)
        for part in (slice(0, cut), slice(cut, None))
    ]  # fmt: skip
    repeated = [row for i, row in enumerate(rows) if row in rows[:i]]
    if not repeated:
        assert Picks.concat(parts).rows.tolist() == rows
        return
    named = f"id 'id of {repeated[0]}'" if has_ids else f"row {repeated[0]}"
    with pytest.raises(ValueError, match=f"^concat: {named} is picked twice$"):
        Picks.concat(parts)


def test_ids_decide_where_all_have_them_and_may_have_been_text():
    ones = np.ones(1, np.float32)
    a, b = Picks(np.array([0]), ones, [7]), Picks(np.array([0]), ones, [8])
    assert (a + b).ids.tolist() == [7, 8]  # shards of a pool may count rows from 0
    with pytest.raises(ValueError, match="id '7' is picked twice"):
        Picks.concat([a, Picks(np.array([5]), ones, ["7"])])
    with pytest.raises(ValueError, match="row 0 is picked twice"):
        Picks.concat([a, Picks(np.array([0]), ones)])


def test_what_a_part_lacks_is_none():
    ones = np.ones(1, np.float32)
    a = Picks(np.array([0]), ones, strategy="margin", columns={"n": [1]})
    b = Picks(np.array([1]), ones, [5], strategy="k_center", columns={"x": ["t"]})
    found = a + b
    assert found.ids.tolist() == [None, 5]
    assert (found["n"].tolist(), found["x"].tolist()) == ([1, None], [None, "t"])
    assert (found.strategy, found.groups) == ("margin + k_center", None)


def test_only_picks_are_joined():
    with pytest.raises(TypeError, match="unsupported operand"):
        picks_of() + 1
    with pytest.raises(ValueError, match="at least one"):
        Picks.concat([])


def test_integers_and_text_are_not_mixed_up():
    ones = np.ones(1, np.float32)
    a = Picks(np.array([0]), ones, groups=np.array([2**63], np.uint64), columns={"n": [1]})
    b = Picks(np.array([1]), ones, groups=np.array([-1]), columns={"n": ["1"]})
    assert (a + b).groups.tolist() == [2**63, -1]  # float64 would round them
    assert (a + b)["n"].tolist() == [1, "1"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_picks_are_shown_in_aligned_columns(kind):
    title, header, *lines = repr(picks_of(kind, 1200)).split("\n")
    assert title == "1,200 picks by margin; 3 invalid rows left out"
    assert header.split() == ["rank", "row", "score", "id", "group", "text"]
    assert len(lines) == 11
    assert lines.pop() == "..."
    assert lines[0].split() == ["1", "1199", "1", "i1199", "1", "text", "1199"]
    for name in ("row", "score", "group"):  # numbers end below the ends of their names
        end = header.index(name) + len(name)
        assert all(re.match(r"\S( |$)", line[end - 1 :]) for line in lines), name
    start = header.index("text")
    assert all(line[start:].startswith("text 11") for line in lines)
    assert len(repr(picks_of(n=10)).split("\n")) == 12
    assert not repr(picks_of(n=10)).endswith("...")


def test_few_picks_are_shown():
    assert repr(Picks(np.arange(0), np.empty(0, np.float32))) == "0 picks"
    one = Picks(np.array([5]), np.array([1e-7], np.float32))
    assert repr(one) == "1 pick\nrank  row  score\n   1    5  1e-07"


def test_long_and_hostile_text_is_one_short_line():
    text = "a\n\x1b[31m<script>alert(1)</script>" + "long " * 1000
    picks = replace(picks_of(n=1), columns={"<b>": [text]})
    shown = repr(picks)
    assert shown.count("\n") == 2
    assert "\x1b" not in shown
    assert max(map(len, shown.split("\n"))) < 100
    page = picks._repr_html_()
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_the_html_has_the_values_of_the_text():
    picks = picks_of(n=12)
    text = html.unescape(re.sub("<[^>]*>", " ", picks._repr_html_()))
    assert text.split() == repr(picks).split()


def test_tables_have_the_columns_of_the_files(tmp_path, monkeypatch):
    picks = picks_of("torch", 3)
    picks.save(tmp_path / "p.parquet")
    assert pa.parquet.read_table(tmp_path / "p.parquet").equals(picks.to_arrow())
    frames = SimpleNamespace(DataFrame=lambda columns: columns)
    monkeypatch.setitem(sys.modules, "pandas", frames)
    frame = picks.to_pandas()
    assert {name: x.tolist() for name, x in frame.items()} == picks.to_arrow().to_pydict()


@pytest.mark.parametrize(
    ("package", "call", "words"),
    [
        ("pandas", Picks.to_pandas, "to_pandas needs pandas: pip install pandas"),
        ("pyarrow.parquet", Picks.to_arrow, r"^to_arrow: .* 'fastal\[arrow\]'"),
        (
            "pyarrow.parquet",
            lambda p: p.save("p.parquet"),
            r"^path: .* 'fastal\[arrow\]'",
        ),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, package, call, words):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=words):
        call(picks_of())


X = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)


def measure(x):
    return x[:, 0]


@pytest.mark.parametrize(
    ("call", "strategy"),
    [
        (lambda x: fastal.select(x, 2, "ratio"), "ratio"),
        (lambda x: fastal.select(x, 2, "margin", groups="predicted", per_group=1), "margin"),
        (lambda x: fastal.select(x, 2, measure), "measure"),
        (lambda x: fastal.diversity.model_outliers(x, X[:5], 2), "ValidationRank"),
        (lambda x: fastal.diversity.k_center(x, 2), "k_center"),
        (lambda x: fastal.diversity.representative(x, X[:5], 2), "representative"),
        (
            lambda x: fastal.diversity.adaptive_representative(x, X[:5], 2),
            "adaptive_representative",
        ),
        (lambda x: fastal.diversity.CosineClusters(2).fit(x).sample(x).random, "cluster sample"),
        (
            lambda x: fastal.diversity.cluster_outliers(x, np.eye(3, dtype=np.float32), 2),
            "CentroidDistance",
        ),
    ],
)
@pytest.mark.parametrize("as_kind", [np.asarray, torch.asarray])
def test_picks_name_their_strategy_and_get_what_the_pool_carries(call, strategy, as_kind):
    want = call(as_kind(X))
    assert (want.columns, want.ids, want.strategy) == ({}, None, strategy)
    numbers = np.arange(30)
    texts = [f"t{i}" for i in numbers]
    picks = call(fastal.open_pool(as_kind(X), ids=numbers + 100, carry={"text": texts}))
    rows = picks.rows.tolist()
    assert rows == want.rows.tolist()
    assert type(picks.rows) is type(as_kind(X))
    assert picks.ids.tolist() == [row + 100 for row in rows]
    assert picks["text"].tolist() == [f"t{row}" for row in rows]
    assert picks.strategy == strategy


def test_picks_that_cannot_be():
    for rows, scores, columns, words in (
        ([1, 2], [0.5], {}, "scores: wanted one for each row"),
        ([1], [0.5], {"row": ["a"]}, "columns: 'row' is the name of a column that all picks have"),
    ):
        with pytest.raises(ValueError, match=words):
            fastal.Picks(rows, scores, columns=columns)
    with pytest.raises(TypeError, match="rows: wanted row numbers, got float64"):
        fastal.Picks([1.5], [0.5])


def test_picks_joined_with_those_of_clusters_can_be_read(tmp_path):
    clusters = fastal.Picks([1, 2], [0.5, 0.4], columns={"cluster": [7, 8]})
    both = clusters + fastal.Picks([3], [0.1])
    for suffix in (".csv", ".jsonl", ".parquet", ".json"):
        both.save(tmp_path / f"both{suffix}")
        found = fastal.Picks.load(tmp_path / f"both{suffix}")
        assert found.rows.tolist() == [1, 2, 3]
        assert [str(one or "") for one in found["cluster"]] == ["7", "8", ""]
        assert [fastal.Picks.load(tmp_path / f"both{suffix}")["row"].tolist()] == [[1, 2, 3]]


def test_columns_in_memory_of_any_byte_order_and_bytes(tmp_path):
    pool = fastal.open_pool(
        np.eye(3), ids=np.array([b"a", b"b", b"c"]),
        carry={"n": np.arange(3, dtype=">i4"), "f": np.arange(3).astype(np.longdouble)},
    )  # fmt: skip
    picks = fastal.select(pool, 3)
    assert sorted(picks.ids) == ["a", "b", "c"]
    for suffix in (".csv", ".jsonl", ".parquet", ".json"):
        picks.save(tmp_path / f"p{suffix}")
        assert [float(n) for n in fastal.Picks.load(tmp_path / f"p{suffix}")["n"]] == [*picks["n"]]
    with pytest.raises(ValueError, match="ids: 'a' is there twice"):
        fastal.open_pool(np.eye(3), ids=["a", "b", "a"])
