"""Bad files of every format give an error of one line that names the file, and do no harm."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr

import fastal
from fastal.commands.convert import convert_pool
from fastal.sources import open_pool
from tests.support.checkout import ROOT, environment
from tests.support.formats import C, data, write
from tests.support.fuzz_kinds import KINDS
from tests.support.refusals import refused

DATA = data()
SUFFIXES = [".npy", ".npz", ".safetensors", ".pt", ".parquet", ".arrow", ".feather", ".h5", ".hdf5"]
# The name of a writer for each format whose pools are files.
FORMATS = [
    "npy", "npz", "npz compressed", "safetensors", "pt of a dictionary", "parquet list",
    "parquet wide", "arrow fixed", "stream list", "arrow zstd", "hdf5 in chunks",
]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_of_its_format_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    refused(path, "no such file", FileNotFoundError)
    for content in (
        b"", b"\0", b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"PAR1", b"ARROW1\0\0",
        b"PAR1" + b"\xff" * 8 + b"PAR1", b"\xff" * 100, b"\x89HDF\r\n\x1a\n", b"{}", bytes(4096),
        b"\x02" + bytes(7) + b"{}", b"\x02" + bytes(7) + b"[]", b"\x04" + bytes(7) + b"null",
        pickle.dumps([1]), b"\xff\xff\xff\xff" + bytes(60), b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    ):  # fmt: skip
        path.write_bytes(content)
        refused(path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_with_the_bytes_of_another_format(tmp_path, name):
    pool = write(name, tmp_path / "as-it-is", DATA)
    for suffix in SUFFIXES:
        if suffix in (
            pool.path.suffix,
            *({".arrow", ".feather"} & {pool.path.suffix} and SUFFIXES),
        ):
            continue
        other = tmp_path / f"a{suffix}"
        other.write_bytes(pool.path.read_bytes())
        if {suffix, pool.path.suffix} not in ({".h5", ".hdf5"},):
            refused(other, **pool.options)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short_anywhere_is_refused(tmp_path, name):
    pool = write(name, tmp_path / "whole", DATA)
    path = Path(pool.path)
    content = path.read_bytes()
    for n in {
        *range(0, len(content), 1 + len(content) // 40),
        *range(len(content) - 9, len(content)),
    }:
        path.write_bytes(content[:n])
        refused(path, **pool.options)


def test_a_stream_that_ends_between_two_batches(tmp_path):
    pool = write("stream fixed", tmp_path, DATA)
    content = pool.path.read_bytes()
    pool.path.write_bytes(content[: len(content) // 2])
    refused(pool.path, **pool.options)


FUZZED = [
    "npy", "npz", "npz compressed", "safetensors", "pt of a dictionary", "zarr group", "manifest",
    "parquet list", "parquet zstd", "hdf5", "hdf5 in chunks", "arrow list",
    "arrow zstd", "stream wide", "stream lz4", "arrow tensor", "parquet tensor",
]  # fmt: skip


def fuzz(folder, seed, cases, names):
    command = [sys.executable, "-m", "tests.support.fuzz_formats", folder, seed, cases, *names]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=ROOT,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stdout


@pytest.mark.full
@pytest.mark.parametrize("part", [0, 1])
def test_damaged_files(tmp_path, part):
    fuzz(tmp_path, 1, 60, FUZZED[part::2])


@pytest.mark.full
def test_wrong_kinds_of_pools(tmp_path):
    fuzz(tmp_path, 1, 8, KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_wrong_kinds_of_pools(tmp_path, kind):
    fuzz(tmp_path, 2, 400, [kind])


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_files_is_never_run(tmp_path):
    fired = tmp_path / "fired"
    bombs = np.array([[Bomb(fired), Bomb(fired)]])
    np.savez(tmp_path / "a.npz", x=bombs)
    np.savez_compressed(tmp_path / "b.npz", x=bombs)
    torch.save({"x": torch.zeros(3, 2), "code": Bomb(fired)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Bomb(fired)))
    torch.save(Bomb(fired), tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    for name in ("a.npz", "b.npz", "a.pt", "b.pt", "c.pt"):
        refused(tmp_path / name)
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(9, 2), chunks=(9, 2), dtype="f4", zarr_format=2
    )
    array[:] = 1
    held = json.loads((tmp_path / "a.zarr/.zarray").read_text())
    held |= {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None}
    (tmp_path / "a.zarr/.zarray").write_text(json.dumps({**held, "fill_value": ""}))
    (tmp_path / "a.zarr/0.0").write_bytes(pickle.dumps(Bomb(fired)))
    refused(tmp_path / "a.zarr", "pickles")
    assert not fired.exists()


def test_torch_files_with_more_than_tensors_are_refused(tmp_path):
    """The messages of torch itself advise to run the code in the file."""
    path = tmp_path / "a.pt"
    torch.save({"x": torch.zeros(3, 2), "code": Bomb(tmp_path)}, path)
    refused(path, r"a\.pt: wanted tensors .* holds .*, and code in a file is never run")
    torch.save(torch.nn.Linear(3, 2), path)
    refused(path, r"a\.pt: wanted tensors .* torch\.nn\.modules\.linear\.Linear, and code")
    torch.save(torch.zeros(3, 2), path, _use_new_zipfile_serialization=False)
    refused(path, "wanted the zip format of torch.save")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/constants.pkl", b"")
    refused(path, "TorchScript, which is code")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 24))
    refused(path, "compressed: torch.save stores")
    torch.save({1: torch.zeros(3, 2), "1": torch.ones(3, 2)}, path)
    refused(path, "it holds '1' 2 times", column="1")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_names_that_are_not_utf8(tmp_path, suffix):
    path = write(suffix[1:], tmp_path, DATA).path
    other = Path(os.fsdecode(bytes(tmp_path) + b"/\xff\xe9" + suffix.encode()))
    path.rename(other)
    column = "x" if suffix == ".npz" else None
    picks = fastal.select(open_pool(other, column=column), 9)
    assert picks.rows.tolist() == fastal.select(DATA.x, 9).rows.tolist()


def header(tensors, data=bytes(56)):
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(**changes):
    return {"dtype": "F32", "shape": [2, 7], "data_offsets": [0, 56], **changes}


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": tensor(shape=[3, 7])}, {"x": tensor(shape=[-2, -7])}, {"x": tensor(shape=[True, 14])},
        {"x": tensor(shape=[2.0, 7])}, {"x": tensor(shape=[10**30, 7])}, {"x": tensor(shape="27")},
        {"x": tensor(shape=[10**18, 0], data_offsets=[0, 0])}, {"x": tensor(data_offsets=[56, 0])},
        {"x": tensor(data_offsets=[0, 60])}, {"x": tensor(data_offsets=[-8, 48])}, {"x": [1]},
        {"x": tensor(data_offsets=[4, 60])}, {"x": tensor(data_offsets=[0, 10**30])}, {"x": None},
        {"x": tensor(data_offsets=[False, 56])}, {"x": tensor(data_offsets=[0, 56, 1])}, {},
        {"x": tensor(dtype="F8_E4M3")}, {"x": tensor(dtype=3)}, {"x": tensor(more=1)},
        {"x": {"dtype": "F32", "shape": [2, 7]}}, [tensor()], b"[" * 100_000, b"\xff\xfe", b"{}",
        {"x": tensor(), "y": tensor(shape=[14])}, {"x": tensor(), "y": tensor(shape=[7, 2])},
        b'{"x": %b, "x": %b}' % ((json.dumps(tensor()).encode(),) * 2), {"x": tensor(dtype="I32")},
    ],
    ids=range(29),
)  # fmt: skip
def test_a_wrong_safetensors_header_is_refused(tmp_path, tensors):
    (tmp_path / "a.safetensors").write_bytes(header(tensors))
    refused(tmp_path / "a.safetensors", column="x")


def test_a_correct_safetensors_header_is_read(tmp_path):
    for name, whole in (
        ("a", header({"x": tensor()})),
        ("b", header(b" " + header({"x": tensor()})[8:-56])),
    ):
        path = tmp_path / f"{name}.safetensors"  # in the second file, the data are not aligned
        path.write_bytes(whole)
        assert fastal.select(path, 3).rows.tolist() == [0, 1]


def test_bad_members_of_npz_archives(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(tmp_path / "whole.npz", x=DATA.x)
    with zipfile.ZipFile(tmp_path / "whole.npz") as held, zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../x.npy", held.read("x.npy"))
        archive.writestr("notes.txt", "no array")
    assert open_pool(path, column="../../x").n_rows == len(DATA.x)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "whole.npz"]
    refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        bomb = b"\x93NUMPY\x02\x00" + (200_000_000).to_bytes(4, "little") + b" " * 200_000_000
        archive.writestr("x.npy", bomb)
    refused(path, "says that its header has")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000), }"
        text += b" " * (-len(text) % 64) + b"\n"
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    refused(path, "are there")


def test_chunks_that_were_never_written_are_refused(tmp_path):
    """The library would read zeros, which are the most uncertain rows of all."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10**15, C), "f4", chunks=(10, C))[:10] = 1
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", (10**15, C), "f4")
    for name, options in (("a", {}), ("b", {"zarr_format": 2}), ("c", {"shards": (20, C)})):
        array = zarr.create_array(
            tmp_path / f"{name}.zarr", shape=(10**15, C), chunks=(10, C), dtype="f4", **options
        )
        array[:20] = 1
    for name in ("a.h5", "b.h5"):
        refused(tmp_path / name, "never written")
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        refused(tmp_path / name, "missing")
    group = zarr.open_group(tmp_path / "d.zarr", mode="w")
    group.create_array("x", shape=(40, C), chunks=(10, C), dtype="f4", fill_value=np.nan)[:10] = 1
    picks = fastal.select(open_pool(tmp_path / "d.zarr"), 99, on_invalid="skip")
    assert picks.rows.tolist() == list(range(10)) and picks.invalid == 30


@pytest.mark.parametrize("write_to", ["parquet", "arrow"])
def test_columns_that_cannot_be_predictions(tmp_path, write_to):
    def file(**columns):
        table, path = pa.table(columns), tmp_path / f"a.{write_to}"
        if write_to == "parquet":
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as f, pa.ipc.new_file(f, table.schema) as writer:
                writer.write_table(table)
        return path

    fixed = pa.FixedSizeListArray.from_arrays(pa.array(DATA.x[:9].ravel()), C)
    lists = pa.array([[1.0, 2.0], None, [1.0, 2.0, 3.0]])
    refused(file(p=lists), "lists of 2 and of 3 values in 'p'")
    refused(file(p=pa.array([None, None], pa.list_(pa.float32()))), "no row of 'p' has values")
    refused(file(p=fixed, q=fixed), "column: wanted the name of the column of predictions")
    refused(file(a=[1.0], b=[2.0]), "column: wanted the name")
    refused(file(a=[1, 2], b=[2, 3]), "wanted floating-point", TypeError, column="*")
    refused(file(a=["x"], b=["y"]), "wanted floating-point", TypeError, column="*")
    refused(file(p=pa.array([b"12345678"], pa.binary(8))), "dtype", column="p")
    refused(
        file(p=pa.array([b"123456"], pa.binary(6))),
        "rows of 6 bytes are no whole number of float32 values",
        column="p",
        dtype="float32",
    )
    refused(file(p=fixed), "no column 'q'; it has p", column="q")
    refused(file(p=fixed), "no column 'q_\\*'", column="q_*")
    refused(file(p=fixed), "no column 'id'", id_column="id")
    refused(file(p=fixed), "no column 'g'", group_column="g")
    twice = pa.Table.from_arrays([fixed, fixed, pa.array(range(9))], ["p", "p", "id"])
    if write_to == "parquet":
        pq.write_table(twice, tmp_path / "a.parquet")
        refused(tmp_path / "a.parquet", "2 columns are named 'p'", column="p")


def test_arrays_that_cannot_be_predictions(tmp_path):
    def file(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    x = DATA.x
    refused(file(x=x, y=x), "column: wanted the name of one array; it holds x, y")
    refused(file(x=x), "no array 'y'; it holds x", column="y")
    refused(file(x=x), "no array 'y'", id_column="y")
    refused(file(x=x, y=np.arange(5)), "'y' has shape \\(5,\\)", id_column="y")
    refused(file(x=x, y=np.zeros((len(x), 2), int)), "'y' has shape", group_column="y")
    refused(file(x=x, y=x), "column: wanted one name", column=["x", "y"])
    assert open_pool(file(x=x, y=np.array(["a"] * len(x), object))).n_rows == len(x)
    with pytest.raises(TypeError, match=r"a\.npz: 'y': wanted integers, bools or text"):
        fastal.select(open_pool(file(x=x, y=x[:, 0]), group_column="y"), per_group=1)
    np.save(tmp_path / "a.npy", x)
    refused(tmp_path / "a.npy", "no array 'id'; it holds no array with a name", id_column="id")


@pytest.mark.parametrize("n", [0, 5, 10**18])
def test_rows_without_values_are_refused(tmp_path, n):
    """They take no bytes, so a header could claim any number of them."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, 0), }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    (tmp_path / "a.npy").write_bytes(npy)
    for name, how in (("a", zipfile.ZIP_STORED), ("b", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", how) as archive:
            archive.writestr("x.npy", npy)
    empty = {"dtype": "F32", "shape": [n, 0], "data_offsets": [0, 0]}
    (tmp_path / "a.safetensors").write_bytes(header({"x": empty}, b""))
    torch.save(torch.empty(n, 0), tmp_path / "a.pt")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (n, 0), "f4")
    zarr.create_array(tmp_path / "a.zarr", shape=(n, 0), chunks=(10, 1), dtype="f4")
    names = ["a.npy", "a.npz", "b.npz", "a.safetensors", "a.pt", "a.h5", "a.zarr"]
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 0)) if n == 5 else ():
        table, path = pa.table({"x": pa.array([[]] * n, kind)}), tmp_path / f"{len(names)}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        pq.write_table(table, path.with_suffix(".parquet"))
        names += [path.name, f"{path.stem}.parquet"]
    for name in names:
        refused(tmp_path / name, r"hold no values")
        with pytest.raises(ValueError, match="hold no values"):
            convert_pool(open_pool(tmp_path / name), tmp_path / "out", shard_bytes=1 << 20)


def test_files_with_different_row_shapes_or_integers_are_refused(tmp_path):
    first = write("parquet list", tmp_path / "a", DATA)
    wide = DATA._replace(x=np.pad(DATA.x, ((0, 0), (0, 1))))
    np.save(tmp_path / "b.npy", wide.x)
    refused(tmp_path / "b.npy", column="x")
    with pytest.raises(
        ValueError, match=r"b\.npy: rows of shape \(8,\), where those of .*a\.parquet"
    ):
        open_pool([first.path, tmp_path / "b.npy"])
    np.savez(tmp_path / "c.npz", x=DATA.x.astype(int))
    refused(tmp_path / "c.npz", r"wanted float.* got .*int64", TypeError)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("parquet list", "pyarrow", "arrow"), ("arrow list", "pyarrow", "arrow"),
     ("hdf5", "h5py", "hdf5"), ("zarr", "zarr", "zarr")],
)  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, package, extra):
    path, options, _ = write(name, tmp_path, DATA)
    monkeypatch.setitem(sys.modules, package, None)
    for more in ({}, {"on_bad_file": "skip"}):
        refused(path, rf"pip install 'fastal\[{extra}\]'", ModuleNotFoundError, **options, **more)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"files": []}', '{"files": "a.npy"}', '{"files": [3]}', '{"files": [""]}',
     '{"files": ["a.npy"], "dtype": "int8"}', '{"files": [{"path": "a.npy", "rows": -1}]}',
     '{"files": [{"path": "a.npy", "rows": 3}]}', '{"files": [{"rows": 3}]}', "[" * 100_000,
     '{"files": [{"path": "a.npy", "columns": [1]}]}', '{"files": ["a.npy"], "id_column": 3}',
     '{"files": ["a.npy"], "dtype": "bfloat16"}', '{"files": ["none.npy"]}',
     '{"files": ["m.json"]}',
     '{"files": [{"path": "a.npy", "columns": {"id": "none.npy"}}], "id_column": "id"}'],
    ids=range(18),
)  # fmt: skip
def test_a_wrong_manifest_is_refused(tmp_path, text):
    np.save(tmp_path / "a.npy", DATA.x)
    (tmp_path / "m.json").write_text(text)
    with pytest.raises((OSError, TypeError, ValueError)) as e:
        fastal.select(tmp_path / "m.json", 3)
    assert str(tmp_path) in str(e.value) and "\n" not in str(e.value)


def test_urls_without_a_file_are_refused():
    refused("memory://none/a.npy", "no such file", FileNotFoundError)
    refused("memory://none/*.npy", "no file matches", FileNotFoundError)
    refused("unheard-of://a.npy")
    refused("unheard-of://*.npy")


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_bad_files_are_skipped(tmp_path, damage):
    good, bad = [], []
    for name in (
        "npy",
        "npz",
        "parquet fixed",
        "arrow tensor",
        "hdf5",
        "zarr",
        "safetensors",
        "pt",
    ):
        for files in (good, bad):
            folder = tmp_path / f"{name}-{len(good)}-{len(bad)}".replace(" ", "-")
            path = write(name, folder, data(n=50 + len(good))).path
            files.append(path)
        broken = path / "zarr.json" if path.is_dir() else path
        content = broken.read_bytes()
        broken.write_bytes(content[: len(content) // 2] if damage == "cut" else b"garbage" * 99)
    np.save(tmp_path / "narrow.npy", DATA.x[:, :3])
    bad += [tmp_path / "narrow.npy", tmp_path / "gone.npy", "memory://gone/a.parquet"]
    source = open_pool([*bad, *good], on_bad_file="skip")
    assert sorted(s.file for s in source.skipped) == sorted(map(str, bad))
    assert all(s.from_row == 0 and s.file in s.reason for s in source.skipped)
    picks = fastal.select(source, 30, "margin", chunk_bytes=300)
    assert picks.rows.tolist() == fastal.select(open_pool(good), 30, "margin").rows.tolist()
