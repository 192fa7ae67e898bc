"""Carried columns and ids: from pools of every format and from memory, into the picks."""

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import zarr
from click.testing import CliRunner

import fastal
from fastal.cli import main
from fastal.picks.picks import Picks

N, C = 57, 4
X = np.random.default_rng(0).standard_normal((N, C)).astype(np.float32)
VALUES = {
    "text": [f"é, {i}\n" for i in range(N)],
    "number": [2**62 + i for i in range(N)],
    "part": [i / 7 for i in range(N)],
    "is_old": [i % 3 == 0 for i in range(N)],
}
NUMBERS = ["number", "part", "is_old"]


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def _table(rows):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X[rows].ravel()), C)
    return pa.table({"x": lists, **{name: values[rows] for name, values in VALUES.items()}})


def _parquet(path, rows):
    pq.write_table(_table(rows), path, row_group_size=7)


def _arrow(path, rows):
    with pa.ipc.new_file(str(path), _table(rows).schema) as writer:
        writer.write_table(_table(rows), max_chunksize=9)


def _npz(path, rows):
    np.savez(path, x=X[rows], **{name: np.array(values[rows]) for name, values in VALUES.items()})


def _h5(path, rows):
    with h5py.File(path, "w") as file:
        file["x"] = X[rows]
        for name, values in VALUES.items():
            file[name] = values[rows]


def _zarr(path, rows):
    group = zarr.open_group(path, mode="w")
    group.create_array("x", data=X[rows])
    for name, values in VALUES.items():
        data = np.array(values[rows], "T" if name == "text" else None)
        array = group.create_array(
            name, shape=len(data), dtype=str if name == "text" else data.dtype
        )
        array[:] = data


def _tensors(rows):
    return {"x": torch.from_numpy(X[rows].copy())} | {
        name: torch.tensor(VALUES[name][rows], dtype=torch.float64 if name == "part" else None)
        for name in NUMBERS
    }


FORMATS = {
    ".parquet": (_parquet, [*VALUES]),
    ".arrow": (_arrow, [*VALUES]),
    ".npz": (_npz, [*VALUES]),
    ".h5": (_h5, [*VALUES]),
    ".zarr": (_zarr, [*VALUES]),
    ".pt": (lambda path, rows: torch.save(_tensors(rows), path), NUMBERS),
    ".safetensors": (
        lambda path, rows: safetensors.torch.save_file(_tensors(rows), path), NUMBERS
    ),
}  # fmt: skip


def check(picks, names):
    assert [*picks.columns] == names
    for name in names:
        want = [VALUES[name][row] for row in picks.rows.tolist()]
        assert picks[name].tolist() == want, name
        assert [*map(type, picks[name].tolist())] == [*map(type, want)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_of_every_format_carry_columns(tmp_path, suffix):
    write, names = FORMATS[suffix]
    write(tmp_path / f"0{suffix}", slice(0, 20))
    write(tmp_path / f"1{suffix}", slice(20, N))
    want = fastal.select(X, 31, "margin").rows.tolist()
    picks = fastal.select(fastal.open_pool(tmp_path, column="x", carry=names), 31, "margin")
    assert picks.rows.tolist() == want
    check(picks, names)
    pool = fastal.open_pool(tmp_path, column="x", id_column="number", carry=names[::-1])
    picks = fastal.select(pool, 31, "margin")
    check(picks, names[::-1])
    assert picks.ids.tolist() == picks["number"].tolist()
    rows = np.array([N - 1, 0, 20, 19, 0])  # in any order, and one of them twice
    assert pool.carried(rows)["part"].tolist() == [VALUES["part"][row] for row in rows]
    assert pool.carried(rows[:0])["part"].tolist() == []


def test_shards_with_columns_of_their_own_carry_them(tmp_path):
    np.save(tmp_path / "x.npy", X)
    for name, values in VALUES.items():
        np.save(tmp_path / f"{name}.npy", np.array(values))
    entry = {"path": "x.npy", "columns": {name: f"{name}.npy" for name in VALUES}}
    (tmp_path / "m.json").write_text(json.dumps({"files": [entry]}))
    pool = fastal.open_pool(tmp_path / "m.json", carry=[*VALUES])
    check(fastal.select(pool, 9, "margin"), [*VALUES])


def test_keys_of_folder_names_are_carried(tmp_path):
    for country, rows in (("de", slice(0, 30)), ("fr", slice(30, N))):
        (tmp_path / f"country={country}").mkdir()
        _parquet(tmp_path / f"country={country}" / "0.parquet", rows)
    pool = fastal.open_pool(tmp_path, column="x", carry=["country", "text"])
    picks = fastal.select(pool, 20, "margin")
    assert picks["country"].tolist() == ["de" if row < 30 else "fr" for row in picks.rows]
    assert picks["text"].tolist() == [VALUES["text"][row] for row in picks.rows]


def test_missing_values_are_none(tmp_path):
    values = {
        "t": [None if i % 2 else "a" for i in range(N)],
        "n": [None if i % 2 else i for i in range(N)],
        "f": [None if i % 2 else i / 3 for i in range(N)],
        "nothing": pa.nulls(N),
    }
    table = _table(slice(0, N)).drop("text")
    for name, column in values.items():
        table = table.append_column(name, pa.array(column) if name != "nothing" else column)
    pq.write_table(table, tmp_path / "p.parquet")
    pool = fastal.open_pool(tmp_path / "p.parquet", column="x", carry=[*values])
    picks = fastal.select(pool, N, "margin")
    for name in "tnf":
        assert picks[name].tolist() == [values[name][row] for row in picks.rows]
    assert picks["nothing"].tolist() == [None] * N
    for suffix in (".jsonl", ".parquet", ".json"):
        picks.save(tmp_path / f"picks{suffix}")
        found = Picks.load(tmp_path / f"picks{suffix}")
        for name in values:
            assert found[name].tolist() == picks[name].tolist()


def test_columns_of_classes_can_be_carried_too(tmp_path):
    columns = {f"logit_{i}": X[:, i].copy() for i in range(C)}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    pool = fastal.open_pool(tmp_path / "p.parquet", column="logit_*", carry=["logit_1"])
    picks = fastal.select(pool, 5, "margin")
    assert picks.rows.tolist() == fastal.select(X, 5, "margin").rows.tolist()
    assert picks["logit_1"].dtype == np.float32
    assert picks["logit_1"].tolist() == X[picks.rows, 1].tolist()


def test_files_that_differ_in_kind_are_carried_as_text(tmp_path, caplog):
    np.savez(tmp_path / "0.npz", x=X, v=np.arange(N))
    np.savez(tmp_path / "1.npz", x=X, v=np.arange(N) / 2)
    pool = fastal.open_pool(tmp_path, column="x", carry=["v"])
    assert "'v' holds floats in" in caplog.text
    picks = fastal.select(pool, 2 * N, "margin")
    want = [str(row) if row < N else str((row - N) / 2) for row in picks.rows.tolist()]
    assert picks["v"].tolist() == want


REFUSED = {
    "a list": pa.array([[i] for i in range(N)]),
    "a struct": pa.array([{"a": i} for i in range(N)]),
    "bytes": pa.array([b"a"] * N),
    "a time": pa.array([0] * N, pa.timestamp("s")),
    "a decimal": pa.array([1] * N).cast(pa.decimal128(20)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_columns_that_are_no_plain_values_are_refused_before_the_pool_is_read(tmp_path, kind):
    pq.write_table(_table(slice(0, N)).append_column("bad", REFUSED[kind]), tmp_path / "p.parquet")
    words = "p.parquet: 'bad': wanted integers, floats, bools or text as carried values, got .*cast"
    with pytest.raises(TypeError, match=words):
        fastal.open_pool(tmp_path / "p.parquet", column="x", carry=["text", "bad"])


OF_FILES = [
    ({"carry": ["text", "txt"]}, ValueError, "no column 'txt'; it has x, text"),
    ({"carry": ["text", "text"]}, ValueError, "^carry: 'text' is named twice"),
    ({"carry": ["score"]}, ValueError, "^carry: the picks have a column 'score' of their own"),
    ({"carry": ["role"]}, ValueError, "^carry: .*'role' of their own"),
    ({"carry": ["fastal_rank"]}, ValueError, "^carry: .*'fastal_rank' of their own"),
    ({"carry": {"text": []}}, TypeError, "^carry: wanted the names of the files' columns"),
    ({"carry": [1]}, TypeError, "^carry: wanted names of columns, got 1 among them"),
    ({"carry": 1}, TypeError, "^carry: wanted names of columns, got int"),
    ({"ids": [1]}, ValueError, "^ids: they are for arrays in memory.*id_column"),
]
OF_ARRAYS = [
    ({"carry": ["text"]}, TypeError, "^carry: wanted a dictionary .*got list"),
    (
        {"carry": {"text": ["a"]}},
        ValueError,
        "^carry: 'text': wanted one value for each of 57 rows",
    ),
    ({"carry": {"id": VALUES["text"]}}, ValueError, "^carry: .*'id' of their own"),
    ({"carry": {"v": [[1]] * N}}, TypeError, "^carry: 'v': wanted integers, .*got list"),
    ({"carry": {"v": X}}, ValueError, r"^carry: 'v': .*got \(57, 4\)"),
    ({"carry": {"v": "text"}}, TypeError, "^carry: 'v': wanted an array or a list, got str"),
    ({"carry": {"v": np.zeros(N, "M8[s]")}}, TypeError, r"^carry: 'v': .*got datetime64\[s\]"),
    ({"ids": np.zeros(N)}, TypeError, "^ids: wanted integers or text as ids, got float64"),
    ({"ids": [*range(N - 1), True]}, TypeError, "^ids: .*got bool"),
    ({"ids": range(N)}, TypeError, "^ids: wanted an array or a list, got range"),
    ({"ids": np.arange(N - 1)}, ValueError, "^ids: wanted one value for each of 57 rows"),
    ({"id_column": "id"}, ValueError, "are for pools of files"),
]


@pytest.mark.parametrize(("options", "error", "words"), OF_FILES)
def test_bad_arguments_for_files_are_one_clear_error(tmp_path, options, error, words):
    _parquet(tmp_path / "p.parquet", slice(0, N))
    with pytest.raises(error, match=words):
        fastal.open_pool(tmp_path / "p.parquet", column="x", **options)


@pytest.mark.parametrize(("options", "error", "words"), OF_ARRAYS)
def test_bad_arguments_for_arrays_are_one_clear_error(options, error, words):
    with pytest.raises(error, match=words):
        fastal.open_pool(X, **options)


@pytest.mark.parametrize("option", [{"ids": [1]}, {"carry": ["a"]}, {"carry": {"a": [1]}}])
@pytest.mark.parametrize(
    "pool", [[X], iter([X]), fastal.open_pool(X)], ids=["list", "iter", "source"]
)
def test_pools_that_are_neither_files_nor_arrays_are_refused(pool, option):
    (name,) = option
    says = f"^{name}: wanted a pool of files, an array in memory or items"
    with pytest.raises(ValueError, match=says):
        fastal.open_pool(pool, **option)


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (torch.arange(N), list(range(N))),
        (torch.arange(N).to(torch.uint8), list(range(N))),
        (np.arange(N) * 1.5, [i * 1.5 for i in range(N)]),
        (np.array(VALUES["text"]), VALUES["text"]),
        ((*VALUES["text"],), VALUES["text"]),
        (pa.array(VALUES["text"]), VALUES["text"]),
        ([None, *VALUES["part"][1:]], [None, *VALUES["part"][1:]]),
        ([np.str_("a"), np.int64(1), *[True] * (N - 2)], ["a", 1, *[True] * (N - 2)]),
        ([2**64 - 1] * N, [2**64 - 1] * N),
    ],
)
def test_values_in_memory_may_be_arrays_of_any_kind(values, want):
    picks = fastal.select(fastal.open_pool(X, carry={"v": values}), N, "margin")
    assert picks["v"].tolist() == [want[row] for row in picks.rows]


COMMANDS = {
    "select": ["--k", 5],
    "outliers": ["--k", 5, "--validation"],
    "represent": ["--k", 5, "--training"],
    "core-set": ["--k", 5, "--labelled"],
    "cluster": ["--centroids"],
    "deduplicate": ["--centroids"],
}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".json"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_writes_what_the_pool_carries(tmp_path, command, suffix):
    _parquet(tmp_path / "p.parquet", slice(0, N))
    options = COMMANDS[command]
    if str(options[-1]).startswith("--"):
        np.save(tmp_path / "other.npy", X[:5])
        options = [*options, tmp_path / "other.npy"]
    out = tmp_path / f"picks{suffix}"
    columns = ["--column", "x", "--id-column", "number", "--carry", "text,part"]
    done = run(command, tmp_path / "p.parquet", *columns, *options, "--out", out)
    assert done.exit_code == 0, done.output
    picks = Picks.load(out)
    names = {"cluster": ["cluster", "role"], "deduplicate": ["cluster"]}.get(command, [])
    assert [*picks.columns] == [*names, "text", "part"]
    rows = picks.rows.tolist()
    assert list(map(int, picks.ids)) == [VALUES["number"][row] for row in rows]
    assert picks["text"].tolist() == [VALUES["text"][row] for row in rows]
    assert list(map(float, picks["part"])) == [VALUES["part"][row] for row in rows]


def test_a_wrong_name_is_named_by_the_command(tmp_path):
    _parquet(tmp_path / "p.parquet", slice(0, N))
    for names, words in (("txt", "no column 'txt'"), ("text,row", "--carry: the picks have")):
        done = run("select", tmp_path / "p.parquet", "--column", "x", "--k", 3, "--carry", names)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert words in done.stderr


def test_a_checkpoint_is_bound_to_the_carried_columns(tmp_path):
    _parquet(tmp_path / "p.parquet", slice(0, N))
    found = [
        fastal.open_pool(tmp_path / "p.parquet", column="x", carry=names).fingerprint()
        for names in (["text"], ["text"], ["part"], None)
    ]
    assert found[0] == found[1]
    assert found[0] != found[2] != found[3] != found[0]
