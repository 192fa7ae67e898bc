"""Every form of pool gives the same picks. Every broken one gives an error that names the file."""

import os
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import fastal
from fastal.pipeline import drive as pipeline
from fastal.sources import open_pool


@pytest.fixture
def logits():
    return np.random.default_rng(0).standard_normal((1000, 7)).astype(np.float32)


@pytest.fixture
def want(logits):
    return fastal.select(logits, 25, "margin").rows.tolist()


@pytest.fixture
def shards(tmp_path, logits):
    folder = tmp_path / "shards"
    folder.mkdir()
    bounds = [0, 1, 300, 300, 777, 1000]  # one file has one row, another has none
    for i, (start, stop) in enumerate(pairwise(bounds)):
        np.save(folder / f"part-{i}.npy", logits[start:stop])
    return folder


@pytest.fixture(params=[1, 300, 1 << 25], ids="{} bytes per chunk".format, autouse=True)
def chunk_bytes(request, monkeypatch):
    monkeypatch.setattr(pipeline, "_CHUNK_BYTES", request.param)
    monkeypatch.setattr(pipeline, "_IN_PLACE_BYTES", request.param)


class DLPackOnly:
    """A DLPack producer with nothing else."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **kwargs):
        return self.tensor.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


class ArrayOnly:
    """The interface of a data frame that fastal uses."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def picked(pool, **options):
    return fastal.select(pool, 25, "margin", **options).rows.tolist()


def test_arrays_of_every_kind_give_the_same_picks(logits, want):
    tensor = torch.from_numpy(logits)
    frozen = logits.copy()
    frozen.flags.writeable = False
    for pool in (
        logits, tensor, DLPackOnly(tensor), ArrayOnly(logits), frozen, logits.astype(">f4"),
        np.asfortranarray(logits), logits[::-1].copy()[::-1], logits[:, ::-1].copy()[:, ::-1],
        tensor.clone().requires_grad_(), logits.astype(np.float64),
    ):  # fmt: skip
        assert picked(pool) == want


def test_results_are_of_the_pools_kind_of_array(logits):
    tensor = torch.from_numpy(logits)
    for pool, kind in (
        (logits, np.ndarray), (tensor, torch.Tensor), (DLPackOnly(tensor), torch.Tensor),
        (ArrayOnly(logits), np.ndarray),
    ):  # fmt: skip
        picks = fastal.select(pool, 3)
        assert type(picks.rows) is type(picks.scores) is kind
        assert all(type(s) is kind for s in fastal.score(pool))
    assert fastal.select(tensor, 3).rows.dtype == torch.int64
    assert fastal.select(logits, 3).scores.dtype == np.float32


def test_results_are_of_the_pools_array_library(logits):
    xp = pytest.importorskip("array_api_strict")
    picks = fastal.select(xp.asarray(logits), 3, "margin")
    assert type(picks.rows) is type(xp.asarray(logits))
    assert np.from_dlpack(picks.rows).tolist() == fastal.select(logits, 3, "margin").rows.tolist()


@pytest.mark.full
def test_files_named_in_every_way_give_the_same_picks(tmp_path, logits, want, shards, monkeypatch):
    np.save(tmp_path / "pool.npy", logits)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(logits))
    np.save(tmp_path / "big-endian.npy", logits.astype(">f4"))
    files = sorted(shards.iterdir())
    (shards / ".hidden.npy").write_bytes(b"")
    (shards / "notes.txt").write_text("not a pool")
    for pool in (
        tmp_path / "pool.npy", str(tmp_path / "fortran.npy"), tmp_path / "big-endian.npy",
        shards, str(shards), str(shards / "part-*.npy"), f"{tmp_path}/**/part-?.npy",
        files, files[::-1], tuple(map(str, files)), [shards / "part-[01].npy", *files[2:]],
    ):  # fmt: skip
        assert picked(pool) == want
    monkeypatch.chdir(shards)
    assert picked(".") == picked("../pool.npy") == want
    # Files are numbered in the order of their absolute paths, however each path is spelt.
    assert picked([files[1], "part-0.npy", *files[2:]]) == want


def test_iterables_give_the_same_picks(logits, want):
    bounds = [0, 0, 1, 500, 500, 1000]
    pieces = [logits[a:b] for a, b in pairwise(bounds)]
    assert picked(pieces) == want
    assert picked(iter(pieces)) == want
    assert picked(torch.from_numpy(p) for p in pieces) == want
    assert picked(DLPackOnly(torch.from_numpy(p)) for p in pieces) == want
    assert picked(ArrayOnly(p) for p in pieces) == want
    loader = torch.utils.data.DataLoader(torch.from_numpy(logits), batch_size=64)
    assert picked(loader) == want


def test_dtypes_of_files_may_differ(tmp_path, logits):
    halves = logits.astype(np.float16)
    np.save(tmp_path / "a.npy", halves[:400])
    np.save(tmp_path / "b.npy", halves[400:].astype(np.float64))
    assert picked(tmp_path) == picked(halves)


def test_chunks_cover_the_pool_in_order(shards, logits):
    for rows in (1, 7, 300, 10_000):
        source = open_pool(shards)
        chunks = [(chunk.start, chunk.x) for chunk in source.chunks(rows)]
        assert [start for start, _ in chunks if start < 1000] == sorted(
            start for start, _ in chunks if start < 1000
        )
        np.testing.assert_array_equal(np.concatenate([c for _, c in chunks]), logits)
        assert max(len(c) for _, c in chunks) <= rows
        for start, chunk in chunks:
            np.testing.assert_array_equal(chunk, logits[start : start + len(chunk)])


def test_empty_files_do_not_determine_the_dtype_of_others(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 3), np.int64))
    np.save(tmp_path / "b.npy", np.zeros((4, 3), np.float32))
    assert fastal.select(tmp_path, 2).rows.tolist() == [0, 1]
    with pytest.raises(TypeError, match=r"a\.npy row 0: .* got torch\.int64"):
        fastal.select(tmp_path / "a.npy", 2)
    assert fastal.select(tmp_path / "a.npy", 2, lambda c: c[:, 0]).rows.tolist() == []


def test_an_invalid_row_is_reported_with_file_and_row(shards):
    path = shards / "part-3.npy"
    part = np.load(path)
    part[11, 2] = np.nan
    np.save(path, part)
    with pytest.raises(fastal.InvalidRows, match=rf"row 311 \({path} row 11\) has NaN"):
        picked(shards)
    assert 311 not in picked(shards, on_invalid="skip")


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("missing", None, FileNotFoundError, "no such file"),
        ("empty", b"", ValueError, "no complete .npy file"),
        ("wrong magic", b"PK\x03\x04" + bytes(200), ValueError, "no complete .npy file"),
        ("half a header", b"\x93NUMPY\x01\x00\x76\x00{'des", ValueError, "no complete .npy file"),
        ("code in the header", b"\x93NUMPY\x01\x00\x20\x00__import__('os').getpid()     \n  ",
         ValueError, "no complete .npy file"),
        ("truncated", np.zeros((50, 7), np.float32), ValueError, "no complete .npy file"),
        ("objects", np.full((50, 7), None), TypeError, "wanted numbers, got dtype object"),
        ("strings", np.full((50, 7), "a"), TypeError, "got dtype <U1"),
        ("records", np.zeros(50, [("a", "<f4")]), TypeError, "got dtype"),
        ("integers", np.zeros((50, 7), np.int64), TypeError, "got torch.int64"),
        ("a number", np.float32(3), ValueError, "got a single number"),
        ("one axis", np.zeros(50, np.float32), ValueError, r"got shape \(\d+,\)"),
        ("one class", np.zeros((50, 1), np.float32), ValueError, "at least 2 classes"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named(tmp_path, name, content, error, words):
    path = tmp_path / f"{name}.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    if name == "truncated":
        os.truncate(path, 500)
    with pytest.raises(error, match=words) as e:
        picked(path)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


def test_pickles_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    np.save(tmp_path / "bomb.npy", np.array([[Bomb(), Bomb()]]), allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.npy", "bare.npy"):
        with pytest.raises((TypeError, ValueError), match=name):
            picked(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_paths_that_make_no_pool_are_refused(tmp_path, shards, logits):
    np.save(shards / "part-9.npy", np.zeros((5, 8), np.float32))
    with pytest.raises(
        ValueError, match=r"part-9.npy: rows of shape \(8,\), where those of .*part-0"
    ):
        picked(shards)
    with pytest.raises(ValueError, match=r"part-1\.npy is named twice"):
        picked([shards / "part-1.npy", shards / "part-[12].npy"])
    (tmp_path / "void").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file of \.npy, .* in this folder"):
        picked(tmp_path / "void")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        picked(tmp_path / "*.nothing")
    (tmp_path / "pool.csv").touch()
    with pytest.raises(ValueError, match=r"pool\.csv: wanted a file of \.npy, "):
        picked(tmp_path / "pool.csv")
    with pytest.raises(TypeError, match="wanted paths only, got ndarray among them"):
        picked([shards, logits])


def test_links_pipes_and_folders_that_make_no_pool_are_refused(tmp_path, shards):
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    (tmp_path / "link.npy").symlink_to(shards / "part-1.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "dir.npy").mkdir()
    for pool, error, words in (
        ("", ValueError, "pool: an empty path"),
        (tmp_path / "loop.npy", FileNotFoundError, r"loop\.npy"),
        (tmp_path / "pipe.npy", ValueError, r"pipe\.npy: not a regular file"),
        (tmp_path / "dir.npy", FileNotFoundError, r"no file of \.npy, .* in this folder"),
        ([shards, tmp_path / "link.npy"], ValueError, r"link\.npy and .*part-1\.npy are two names"),
    ):
        with pytest.raises(error, match=words):
            picked(pool)


LIES = [
    "(5, 7, ",
    "(1000000000000000000, 1000)",
    "(2**63, 7)",
    f"({2**63}, 7)",
    f"({2**64}, 0)",
    "(-5, 7)",
    "(True, 7)",
    "(1e3, 7)",
]


@pytest.mark.parametrize("shape", [*LIES, "(" + 9000 * "-" + "1,)"], ids=range(9))
def test_a_wrong_npy_header_is_refused(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-len(header) % 64) + b"\n"
    path = tmp_path / "liar.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100))
    with pytest.raises(ValueError, match=r"liar\.npy: no complete \.npy file"):
        picked(path)


def test_a_glob_may_match_folders(tmp_path, shards, want):
    assert picked(tmp_path / "sh*ds") == want


def test_a_file_that_changes_after_it_was_opened_is_an_error(tmp_path, logits):
    np.save(tmp_path / "pool.npy", logits)
    source = open_pool(tmp_path / "pool.npy")
    np.save(tmp_path / "pool.npy", logits[:10])
    with pytest.raises(ValueError, match=r"pool\.npy: changed while it was being read"):
        list(source.chunks(100))
