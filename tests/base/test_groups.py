"""Ids and groups: integers or text, refused at once or the same in every output."""

import datetime
import decimal
import json
import uuid

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import fastal
from fastal.base.groups import as_groups
from fastal.cli import main
from fastal.picks.files import read_picks

N = 12


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)


def table(x, values):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    return pa.table({"x": lists, "id": values})


def moment(i):
    return datetime.datetime(2020, 1, 1, 0, 0, i)


ARROW = {
    "floats": pa.array([float(i) for i in range(N)]),
    "bytes": pa.array([b"%d" % i for i in range(N)]),
    "fixed bytes": pa.array([b"%016d" % i for i in range(N)], pa.binary(16)),
    "UUIDs": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([uuid.UUID(int=i).bytes for i in range(N)], pa.binary(16))
    ),
    "timestamps": pa.array([moment(i) for i in range(N)], pa.timestamp("ns")),
    "times": pa.array(list(range(N)), pa.int64()).cast(pa.time64("ns")),
    "dates": pa.array([moment(i).date() for i in range(N)]),
    "durations": pa.array(range(N), pa.duration("s")),
    "decimals": pa.array([decimal.Decimal(i) for i in range(N)]),
    "lists": pa.array([[i] for i in range(N)]),
    "structs": pa.array([{"a": i} for i in range(N)]),
    "dictionary of floats": pa.array([float(i) for i in range(N)]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", ARROW)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_arrow_types_that_cannot_be_labels_are_refused_when_the_pool_is_opened(
    tmp_path, x, kind, suffix
):
    path = tmp_path / f"pool.{suffix}"
    if suffix == "parquet":
        pq.write_table(table(x, ARROW[kind]), path)
    else:
        with (
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_file(file, table(x, ARROW[kind]).schema) as f,
        ):
            f.write_table(table(x, ARROW[kind]))
    for column in ("id_column", "group_column"):
        with pytest.raises(TypeError, match=f"pool.{suffix}: 'id': wanted .*integers.* or text as"):
            fastal.open_pool(path, **{column: "id"})


def stored(folder, form, x, ids):
    """The path of a pool with ids in a form."""
    path = folder / f"pool.{form}"
    if form == "npz":
        np.savez(path, x=x, id=ids)
    elif form == "h5":
        with h5py.File(path, "w") as file:
            file["x"] = x
            file["id"] = ids
    elif form == "zarr":
        group = zarr.open_group(str(path), mode="w")
        group.create_array("x", data=x)
        group.create_array("id", data=ids)
    elif form == "pt":
        torch.save({"x": torch.from_numpy(x), "id": torch.from_numpy(ids)}, path)
    else:
        np.save(folder / "x.npy", x)
        np.save(folder / "id.npy", ids)
        entry = {"path": "x.npy", "columns": {"id": "id.npy"}}
        path.write_text(json.dumps({"files": [entry], "id_column": "id"}))
    return path


FORMS = ["npz", "h5", "zarr", "pt", "json"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "?", "c8", "M8[ns]", "m8[s]", "V4"])
def test_array_dtypes_that_cannot_be_ids_are_refused_when_the_pool_is_opened(
    tmp_path, x, form, dtype
):
    if dtype[0] in "MmV" and form in ("h5", "pt", "zarr"):
        pytest.skip("which it cannot hold")
    ids = np.arange(N).astype("i4" if dtype == "V4" else "i8" if dtype[0] in "Mm" else dtype)
    path = stored(tmp_path, form, x, ids.view(dtype) if dtype[0] in "MmV" else ids)
    column = None if form == "json" else "x"
    with pytest.raises(TypeError, match="'id': wanted integers or text as ids, got"):
        fastal.open_pool(path, column=column, id_column="id")
    if dtype == "?" and form != "json":
        groups = fastal.open_pool(path, column="x", group_column="id")
        assert set(fastal.select(groups, per_group=1).groups.tolist()) == {False, True}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["i1", "u1", "i8", "u8"])
def test_integer_ids_are_written_as_they_were_read(tmp_path, x, form, dtype):
    of = np.iinfo(dtype)
    low = [] if dtype == "u8" else [of.min + i for i in range(N // 2)]
    ids = np.array([*low, *(of.max - i for i in range(N - len(low)))], dtype)
    path = stored(tmp_path, form, x, ids)
    options = () if form == "json" else ("--column", "x")
    pool = fastal.open_pool(path, column=None if form == "json" else "x", id_column="id")
    picks = fastal.select(pool, N)
    assert picks.ids.dtype == ("u8" if dtype == "u8" else "i8")
    assert picks.ids.tolist() == ids[picks.rows].tolist()
    assert (
        run("convert", path, *options, "--id-column", "id", "--out", tmp_path / "o").exit_code == 0
    )
    again = fastal.select(tmp_path / "o", N)
    assert again.ids.tolist() == picks.ids.tolist()
    assert np.load(tmp_path / "o" / "ids" / "part-00000.npy").dtype == picks.ids.dtype


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".json"])
def test_every_output_keeps_missing_ids_and_ids_above_2_63(tmp_path, x, suffix):
    ids = [None, *(2**63 + i for i in range(N - 1))]
    pq.write_table(table(x, pa.array(ids, pa.uint64())), tmp_path / "pool.parquet")
    out = tmp_path / f"picks{suffix}"
    command = ("select", tmp_path / "pool.parquet", "--id-column", "id", "--k", N, "--out", out)
    assert run(*command).exit_code == 0
    picks = read_picks(out)
    want = [ids[row] for row in picks.rows]
    if suffix == ".parquet":
        assert pq.read_schema(out).field("id").type == pa.uint64()
    if suffix in (".csv", ".json"):  # a browser would round them
        want = [value if value is None else str(value) for value in want]
    assert picks.ids.tolist() == want


@pytest.mark.parametrize("of", ["ids", "groups"])
def test_labels_are_text_if_files_differ_in_their_type(tmp_path, x, of, caplog):
    np.savez(tmp_path / "0.npz", x=x, id=np.arange(N))
    np.savez(tmp_path / "1.npz", x=x, id=np.array([f"i{i}" for i in range(N)]))
    column = {"ids": "id_column", "groups": "group_column"}[of]
    paths = [tmp_path / "0.npz", tmp_path / "1.npz"]
    pool = fastal.open_pool(paths, column="x", **{column: "id"})
    (said,) = caplog.messages
    assert "'id' holds text in" in said
    assert "and integers in" in said
    picks = fastal.select(
        pool, *([2 * N] if of == "ids" else []), per_group=None if of == "ids" else 1
    )
    found = picks.ids if of == "ids" else picks.groups
    assert sorted(found) == sorted([*map(str, range(N)), *(f"i{i}" for i in range(N))])


@pytest.mark.parametrize("code", [0xFFFFFFFF, 0x110000, 0xD800, 0xDFFF])
@pytest.mark.parametrize("swap", [False, True])
def test_invalid_code_points_are_refused(tmp_path, x, code, swap):
    raw = np.array([f"id{i}" for i in range(N)]).view(np.uint32).copy()
    raw[2] = code
    ids = raw.view("<U4")
    np.savez(tmp_path / "p.npz", x=x, id=ids.byteswap().view(">U4") if swap else ids)
    pool = fastal.open_pool(tmp_path / "p.npz", column="x", id_column="id", group_column="id")
    with pytest.raises(ValueError, match=r"p.npz: 'id' has invalid Unicode code points"):
        fastal.select(pool, N)
    with pytest.raises(ValueError, match=r"p.npz: 'id' has invalid Unicode code points"):
        fastal.select(pool, per_group=1)


def test_bytes_that_are_not_utf_8_are_refused(tmp_path, x):
    for form in ("npz", "h5"):
        path = stored(tmp_path, form, x, np.array([b"a\xff"] * N))
        pool = fastal.open_pool(path, column="x", id_column="id")
        with pytest.raises(ValueError, match="utf-8"):
            fastal.select(pool, 3)
        done = run("select", path, "--column", "x", "--id-column", "id", "--k", 3)
        assert (done.exit_code, done.stdout) == (2, "")
        assert path.name in done.stderr


def test_texts_that_end_in_a_null_character_are_not_shortened(tmp_path, x):
    pq.write_table(table(x, [f"a{i}\0" for i in range(N)]), tmp_path / "pool.parquet")
    columns = ("--id-column", "id")
    done = run("convert", tmp_path / "pool.parquet", *columns, "--out", tmp_path / "o")
    assert (done.exit_code, "ends in a null character" in done.stderr) == (2, True)
    out = tmp_path / "picks.csv"
    run("select", tmp_path / "pool.parquet", *columns, "--k", N, "--out", out)
    picks = read_picks(out)
    assert picks.ids.tolist() == [f"a{row}\0" for row in picks.rows]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_files_without_rows_fit_labels_of_any_type(tmp_path, x, suffix, caplog):
    for name, n in (("0", 0), ("1", N)):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".npz":
            np.savez(path, x=x[:n], id=np.arange(n) if n else np.array([], str))
        else:
            pq.write_table(table(x[:n], pa.array(range(n), pa.int64() if n else pa.string())), path)
    pool = fastal.open_pool(tmp_path, column="x", id_column="id")
    assert fastal.select(pool, N).ids.dtype == np.int64
    assert not caplog.messages


@given(st.data())
def test_integers_are_groups_in_ascending_order(data):
    """As the definition says, whether the labels are sorted or counted."""
    dtype = np.dtype(data.draw(st.sampled_from(["?", "i1", "u1", "i4", "i8", "u8"])))
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    near = data.draw(st.integers(int(least), int(most)))
    one = st.integers(max(int(least), near - 9), min(int(most), near + 9))
    values = data.draw(st.lists(one | st.integers(int(least), int(most))) | st.lists(one))
    groups = as_groups(np.array(values, dtype), len(values), "groups")
    assert groups.values == sorted({*values})
    assert [groups.values[code] for code in groups.codes.tolist()] == values
    assert all(type(value) is (bool if dtype.kind == "b" else int) for value in groups.values)
    assert groups.codes.dtype == np.int64
