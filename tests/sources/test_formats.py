"""Every format gives the picks, ids and groups of the matrix in memory."""

import json
from itertools import pairwise

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.arrays import as_tensor
from fastal.sources import open_pool
from tests.support.formats import WRITERS, C, N, data, write

DATA = data()


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    return {name: write(name, root / name.replace(" ", "-"), DATA) for name in WRITERS}


def chunks_of(source, rows, start=0):
    """Row numbers, and rows as float64, of chunks whose form is checked on the way."""
    found, at = [], start
    for chunk in source.chunks(rows, start):
        assert chunk.start == at
        assert len(chunk.x) <= rows
        at += len(chunk.x)
        found.append(np.asarray(as_tensor(chunk.x, "chunk").double()))
    return np.concatenate(found)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_picks_ids_and_groups(pools, name):
    path, options, has_labels = pools[name]
    want = fastal.select(DATA.x, 25, "margin")
    of_groups = fastal.select(DATA.x, None, "margin", groups=DATA.groups, per_group=4)
    for chunk_bytes in (1, 4 * C * 33, None):
        source = open_pool(path, **options)
        picks = fastal.select(source, 25, "margin", chunk_bytes=chunk_bytes)
        assert type(picks.rows) is type(picks.scores) is np.ndarray
        assert picks.rows.tolist() == want.rows.tolist()
        np.testing.assert_array_equal(picks.scores, want.scores)
        if not has_labels:
            assert picks.ids is None
            continue
        assert picks.ids.tolist() == DATA.ids[want.rows].tolist()
        picks = fastal.select(source, None, "margin", per_group=4, chunk_bytes=chunk_bytes)
        assert picks.rows.tolist() == of_groups.rows.tolist()
        assert list(picks.groups) == list(of_groups.groups)
        assert picks.ids.tolist() == DATA.ids[of_groups.rows].tolist()


@pytest.mark.parametrize("name", WRITERS)
def test_chunks_from_any_row(pools, name):
    path, options, _ = pools[name]
    source = open_pool(path, **options)
    assert source.n_rows == N
    assert source.row_bytes == C * 4

    @settings(max_examples=12, deadline=None)
    @given(st.integers(1, N + 10), st.integers(0, N - 1))
    def check(rows, start):
        np.testing.assert_array_equal(chunks_of(source, rows, start), DATA.x[start:])

    check()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_reads_other_dtypes(tmp_path, name, dtype):
    d = data(dtype)
    path, options, _ = write(name, tmp_path, d)
    source = open_pool(path, **options)
    assert source.row_bytes == C * d.x.itemsize
    np.testing.assert_array_equal(chunks_of(source, 100), d.x)
    picks = fastal.select(source, 9, "margin", chunk_bytes=1000)
    assert picks.rows.tolist() == fastal.select(d.x, 9, "margin").rows.tolist()


def test_every_format_of_bfloat16(tmp_path):
    x = torch.from_numpy(DATA.x).bfloat16()
    bits = x.view(torch.int16).numpy().view("u2")
    torch.save(x, tmp_path / "a.pt")
    safetensors.torch.save_file({"x": x}, tmp_path / "a.safetensors")
    rows = pa.array([row.tobytes() for row in bits], pa.binary(2 * C))
    pq.write_table(pa.table({"p": rows}), tmp_path / "a.parquet")
    np.save(tmp_path / "bits.npy", bits)
    np.save(tmp_path / "none.npy", bits[:0])
    fsspec.filesystem("memory").pipe("/bits/bits.npy", (tmp_path / "bits.npy").read_bytes())
    for name, files in (("m", ["bits.npy", "none.npy"]), ("n", ["memory://bits/bits.npy"])):
        text = json.dumps({"files": files, "dtype": "bfloat16"})
        (tmp_path / f"{name}.json").write_text(text)
    want = fastal.select(x, 25)
    for name in ("a.pt", "a.safetensors", "a.parquet", "m.json", "n.json"):
        options = {"dtype": "bfloat16"} if name == "a.parquet" else {}
        picks = fastal.select(open_pool(tmp_path / name, **options), 25, chunk_bytes=500)
        assert type(picks.rows) is np.ndarray
        assert picks.rows.tolist() == want.rows.tolist()
    np.save(tmp_path / "bits.npy", DATA.x)
    with pytest.raises(TypeError, match=r"bits\.npy: wanted the bits of bfloat16"):
        open_pool(tmp_path / "m.json")


# Without rows, lists have no length; and chunks of one row and more cannot be stored.
OF_ROWS = ("list", "lz4", "zarr", "chunks", "plain", "stream tensor", "arrow tensor")


@pytest.mark.parametrize("name", [n for n in WRITERS if not any(word in n for word in OF_ROWS)])
def test_every_format_without_rows(tmp_path, name):
    path, options, _ = write(name, tmp_path, data(n=0))
    assert fastal.select(open_pool(path, **options), 5).rows.tolist() == []


def test_missing_values_are_nan(tmp_path):
    rows = [None if i % 7 == 3 else row for i, row in enumerate(DATA.x.tolist())]
    rows[0] = None
    rows[5][2] = None
    bad = [i for i, row in enumerate(rows) if row is None or None in row]
    good = np.setdiff1d(np.arange(N), bad)
    want = good[fastal.select(DATA.x[good], 25, "margin").rows].tolist()
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), C)):
        padding = pa.array([None, [0.5] * C], kind)
        column = pa.concat_arrays([padding, pa.array(rows, kind)])[
            2:
        ]  # so that the column has an offset
        groups = pa.array(["a", None] * N)[:N]
        held = pa.table({"p": column, "g": groups})
        batches = [held[0:1], held[1:1], held[1:150], held[150:]]
        with pq.ParquetWriter(tmp_path / "a.parquet", held.schema) as writer:
            for batch in batches:
                writer.write_table(batch)
        with pa.ipc.new_stream(str(tmp_path / "a.arrow"), held.schema) as stream:
            for batch in batches:
                stream.write_table(batch)
        for name in ("a.parquet", "a.arrow"):
            for chunk_bytes in (1, 300, None):
                source = open_pool(tmp_path / name, group_column="g")
                picks = fastal.select(
                    source, 25, "margin", on_invalid="skip", chunk_bytes=chunk_bytes
                )
                assert picks.rows.tolist() == want
                assert picks.invalid == len(bad)
            assert set(fastal.select(source, per_group=1, on_invalid="skip").groups) == {"a", None}


def test_missing_groups_where_all_codes_are_in_use(tmp_path):
    """128 values with codes of 8 bits leave no code for a missing group."""
    codes = pa.array(np.arange(N) % 128, pa.int8())
    groups = pa.DictionaryArray.from_arrays(codes, [f"g{i}" for i in range(128)])
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(DATA.x.ravel()), C)
    held = pa.table({"p": fixed, "g": groups})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), held.schema) as writer:
        writer.write_table(held)
    picks = fastal.select(open_pool(tmp_path / "a.arrow", group_column="g"), per_group=1)
    assert sorted(picks.groups) == sorted(f"g{i}" for i in range(128))


def test_a_pool_of_mixed_formats(tmp_path):
    names = ["npy", "npz", "parquet fixed", "arrow tensor", "hdf5", "zarr", "safetensors", "pt"]
    bounds = np.linspace(0, N, len(names) + 1).astype(int)
    for i, (name, (start, stop)) in enumerate(zip(names, pairwise(bounds), strict=True)):
        part = DATA._replace(
            x=DATA.x[start:stop], ids=DATA.ids[start:stop], groups=DATA.groups[start:stop]
        )
        path = write(name, tmp_path / name, part).path
        path.rename(tmp_path / f"{i}{path.suffix}")
    np.save(tmp_path / "3a.npy", DATA.x[:0])
    empty = pa.table({"x": pa.array([], pa.list_(pa.float32()))})
    pq.write_table(empty, tmp_path / "4a.parquet")
    source = open_pool(tmp_path)
    for rows, start in ((1, 0), (9, 100), (1000, 5)):
        np.testing.assert_array_equal(chunks_of(source, rows, start), DATA.x[start:])
    want = fastal.select(DATA.x, 25, "margin").rows.tolist()
    assert fastal.select(source, 25, "margin").rows.tolist() == want


def test_pools_behind_urls(tmp_path):
    memory = fsspec.filesystem("memory")
    want = fastal.select(DATA.x, 25, "margin").rows
    for name in (
        "npy",
        "npz",
        "npz compressed",
        "parquet list",
        "arrow wide",
        "stream fixed",
        "hdf5",
    ):
        path, options, has_labels = write(name, tmp_path / name, DATA)
        memory.pipe(f"/pool/{name}/{path.name}", path.read_bytes())
        for url in (f"memory://pool/{name}/{path.name}", f"memory://pool/{name}/*{path.suffix}"):
            picks = fastal.select(open_pool(url, **options), 25, "margin", chunk_bytes=700)
            assert picks.rows.tolist() == want.tolist()
            assert not has_labels or picks.ids.tolist() == DATA.ids[want].tolist()


def test_a_models_predictions_as_a_pool():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(C, 5))
    x = torch.from_numpy(DATA.x)
    labelled = torch.utils.data.TensorDataset(x, torch.zeros(N))
    loader = torch.utils.data.DataLoader(labelled, batch_size=17)
    picks = fastal.select(fastal.predictions(model, loader), 9)
    assert model.training and model[0].training
    with torch.inference_mode():
        want = fastal.select(model.eval()(x), 9)
    assert picks.rows.tolist() == want.rows.tolist()


def test_a_zarr_array_that_changes_while_it_is_read(tmp_path):
    import zarr

    x = np.random.default_rng(0).standard_normal((4000, 5)).astype(np.float32)
    path = tmp_path / "x.zarr"
    zarr.create_array(str(path), data=x, chunks=(500, 5))
    chunks = fastal.open_pool(path).chunks(500)
    next(chunks)
    (path / "c" / "7" / "0").unlink()
    with pytest.raises(ValueError, match=r"x\.zarr"):
        list(chunks)


def test_more_group_labels_than_rows_are_refused():
    x = np.random.default_rng(0).standard_normal((100, 5)).astype(np.float32)
    with pytest.raises(ValueError, match="groups: 500 labels for 100 rows"):
        fastal.select(iter([x]), per_group=1, groups=[0] * 500)


def test_options_for_a_pool_without_files_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match="pools of files"):
        fastal.open_pool(fastal.open_pool(tmp_path / "x.npy"), column="x")
